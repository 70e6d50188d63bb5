"""A run beside a table that was printed elsewhere: acceptance length, speedup, their ratios, and where settings differ.

The printed table is data with its source (`printed/`). Speedups over each side's own vanilla are compared, since tokens
per second of two machines do not compare.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from draftbench.harness.errors import HarnessError
from draftbench.harness.manifest import Manifest
from draftbench.harness.metrics.row import Row
from draftbench.harness.suite import Suite, Workload
from draftbench.harness.units import MISSING, tree_text
from draftbench.reports.table import interval_text

PRINTED: Mapping[str, Path] = {"paper": Path(__file__).with_name("printed") / "prism_table4.json"}
"""What `--beside` can name."""
METHODS = {"eagle": "eagle-2", "eagle-2": "eagle-2", "hass": "hass", "prism": "prism", "standalone": "standalone"}
"""The table's row of an arm, by the arm's name."""
HEADERS = ("workload", "arm", "τ here", "τ there", "τ ratio", "speedup here", "speedup there", "speedup ratio")


class NotBesideError(HarnessError):
    """A run that cannot stand beside a printed table."""


@dataclass(frozen=True)
class Printed:
    """One target's part of a printed table."""

    title: str
    source: str
    column: str
    settings: Mapping[str, Any]
    table: Mapping[str, Mapping[str, Mapping[str, float]]]

    @property
    def target(self) -> str:
        """The target's name there."""
        return str(self.settings["target"][self.column])

    def speedup(self, method: str, workload: str) -> float:
        """Tokens per second over its vanilla's."""
        return self.table[method][workload]["tokens_per_s"] / self.table["vanilla"][workload]["tokens_per_s"]


def read_printed(name: str, target: str) -> Printed:
    """The part of a printed table that is about a target; of another target the first, which the differences say.

    Raises:
        NotBesideError: there is no such table.
    """
    if name not in PRINTED:
        raise NotBesideError(f"nothing printed is called {name}; allowed: {', '.join(PRINTED)}.")
    content = json.loads(PRINTED[name].read_text())
    tables = content["tokens_per_s_and_acceptance_length"]
    column = next((column for column in tables if _letters(column) in _letters(target)), next(iter(tables)))
    return Printed(content["title"], content["source"], column, content["settings"], tables[column])


def beside(rows: Sequence[Row], manifest: Manifest, printed: Printed) -> str:
    """The comparison as markdown.

    Raises:
        NotBesideError: no row of the run is one of the table.
    """
    lines = [line for row in rows if (line := _line(row, printed))]
    if not lines:
        arms, sets = ", ".join(METHODS), ", ".join(printed.table["vanilla"])
        raise NotBesideError(
            f"no valid row stands in {printed.title}: it has arms called {arms}, workloads called {sets}, one request "
            f"at once, and temperature {printed.settings['temperature']}."
        )
    differing = [f"- {text}" for text in differences(rows, manifest, printed)]
    return "\n".join(
        [
            f"# {manifest.suite.name} beside {printed.title}",
            "",
            f"There: {printed.source}.",
            "",
            tabulate(lines, HEADERS, "github", disable_numparse=True),
            "",
            "τ includes the bonus token. There it is completion tokens over verify steps, which counts prefill's token "
            "and the cut at an output's end; here only what rounds gave. Speedups are over each side's own vanilla.",
            "",
            *(["Settings that differ:", "", *differing] if differing else ["No setting that both name differs."]),
            "",
        ]
    )


def _line(row: Row, printed: Printed) -> list[str] | None:
    method = METHODS.get(row.arm)
    there = printed.table.get(method or "", {}).get(row.workload)
    at_home = row.concurrency == printed.settings["concurrency"]
    if there is None or method is None or not (row.valid and at_home) or row.acceptance_length is None:
        return None
    if row.temperature != printed.settings["temperature"]:
        return None
    tau, speedup = there["acceptance_length"], printed.speedup(method, row.workload)
    interval = interval_text(row.speedup_low, row.speedup_high, row.speed.speedup_scope or "")
    return [
        row.workload,
        row.arm,
        f"{row.acceptance_length:.2f}",
        f"{tau:.2f}",
        f"{row.acceptance_length / tau:.3f}",
        MISSING if row.speedup is None else f"{row.speedup:.2f}{interval}",
        f"{speedup:.2f}",
        MISSING if row.speedup is None else f"{row.speedup / speedup:.3f}",
    ]


def differences(rows: Sequence[Row], manifest: Manifest, printed: Printed) -> Iterator[str]:
    """Every setting that is known on both sides and is not the same, a phrase each."""
    suite, theirs = manifest.suite, printed.settings
    shown = {row.workload for row in rows if row.workload in printed.table["vanilla"]}

    def pair(what: str, ours: object, other: object) -> Iterator[str]:
        if ours != other:
            yield f"{what}: {ours} here, {other} there"

    if _letters(printed.column) not in _letters(suite.target.model):
        yield f"target: {suite.target.model} here, {printed.target} there"
    yield from pair("device", manifest.host.gpu, theirs["device"])
    yield from pair("engine", f"SGLang {manifest.packages.get('sglang')}", theirs["engine"])
    yield from pair("dtype", suite.target.dtype, theirs["dtype"])
    yield from pair("prefix cache", suite.prefix_cache, theirs["prefix_cache"])
    for arm in suite.arms:
        if arm.name in METHODS and arm.tree is not None:
            yield from pair(f"tree of {arm.name}", tree_text(arm), theirs["tree"])
        if arm.name == "prism" and arm.name in manifest.engines:
            yield from _prism_reads(manifest.engines[arm.name].draft_facts, theirs["prism_reads"][printed.column])
    alike: dict[str, list[str]] = {}
    for workload in suite.workloads:
        if workload.name in shown:
            for text in _workload(workload, suite, theirs):
                alike.setdefault(text, []).append(workload.name)
    yield from (f"{', '.join(names)}: {text}" for text, names in alike.items())


def _prism_reads(facts: Mapping[str, Any], theirs: int) -> Iterator[str]:
    ours = len(facts["reads"]) if isinstance(facts.get("reads"), list) else 1
    if ours != theirs:
        said = {1: "the last hidden state"}
        yield f"prism reads {said.get(ours, f'{ours} layers')} here, {said.get(theirs, f'{theirs} layers')} there"


def _workload(workload: Workload, suite: Suite, theirs: Mapping[str, Any]) -> Iterator[str]:
    longest = theirs["max_tokens"].get(workload.name, theirs["max_tokens"]["other"])
    ours = workload.max_tokens or suite.sampling.max_tokens
    if ours != longest:
        yield f"at most {ours} tokens a turn here, {longest} there"
    if not (workload.system or "").startswith(theirs["system"]):
        yield f"{'another' if workload.system else 'no'} system prompt here, LLaMA-2's there"
    if workload.path:
        yield f"prompts of a file here, EAGLE's {theirs['num_prompts']} questions there"
    elif workload.name != "mt_bench" and workload.subset != theirs["subset"]:
        number = workload.num_prompts or "all"
        yield f"{number} prompts of the set here, EAGLE's {theirs['num_prompts']} questions there"


def _letters(text: str) -> str:
    """Letters and digits alone, in small letters."""
    return "".join(filter(str.isalnum, text.lower()))
