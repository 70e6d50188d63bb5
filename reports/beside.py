"""A run beside a table that was printed elsewhere: acceptance length, speedup, their ratios, and where settings differ.

The printed table is data with its source: one that comes with the project (`printed/`), or a file of the same layout
(docs/measuring.md). Speedups over each side's own vanilla are compared, since tokens per second of two machines do not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError
from tabulate import tabulate

from draftbench.harness.errors import HarnessError
from draftbench.harness.manifest import Manifest
from draftbench.harness.metrics.row import Row
from draftbench.harness.suite import Suite, Workload
from draftbench.harness.units import MISSING, fixed, tree_text
from draftbench.reports.table import interval_text

PRINTED: Mapping[str, Path] = {"paper": Path(__file__).with_name("printed") / "prism_table4.json"}
"""What `--beside` can name."""
METHODS = {"eagle": "eagle-2", "eagle-2": "eagle-2", "hass": "hass", "prism": "prism", "standalone": "standalone"}
"""The table's row of an arm, by the arm's name."""
HEADERS = ("workload", "arm", "τ here", "τ there", "τ ratio", "speedup here", "speedup there", "speedup ratio")


class NotBesideError(HarnessError):
    """A run that cannot stand beside a printed table."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Figures(_Strict):
    """What is printed of a method on a workload: the speedup, or tokens per second of the method and of vanilla."""

    acceptance_length: PositiveFloat | None = None
    tokens_per_s: PositiveFloat | None = None
    speedup: PositiveFloat | None = None


class Settings(_Strict):
    """Under what it was measured, as far as it is known; of targets by their columns."""

    target: dict[str, str] = {}
    device: str | None = None
    engine: str | None = None
    dtype: str | None = None
    temperature: float = 0
    concurrency: int = 1
    tree: str | None = None
    max_tokens: dict[str, int] | None = None
    num_prompts: int | None = None
    subset: str | None = None
    system: str | None = None
    prefix_cache: bool | None = None
    prism_reads: dict[str, int] = {}


class PrintedFile(BaseModel):
    """A printed table: by target, method and workload; what else its file holds is left alone."""

    model_config = ConfigDict(frozen=True)

    title: str
    source: str
    settings: Settings = Settings()
    tokens_per_s_and_acceptance_length: Annotated[dict[str, dict[str, dict[str, Figures]]], Field(min_length=1)]


@dataclass(frozen=True)
class Printed:
    """One target's part of a printed table."""

    title: str
    source: str
    column: str
    settings: Settings
    table: Mapping[str, Mapping[str, Figures]]

    @property
    def target(self) -> str:
        """The target's name there."""
        return self.settings.target.get(self.column, self.column)

    @property
    def workloads(self) -> list[str]:
        """Of every method."""
        return list(dict.fromkeys(workload for figures in self.table.values() for workload in figures))

    def method(self, arm: str) -> str | None:
        """The table's row of an arm, by the arm's name; None of vanilla, which the others are held against."""
        return next((name for name in (arm, METHODS.get(arm)) if name in self.table and name != "vanilla"), None)

    def speedup(self, method: str, workload: str) -> float | None:
        """Tokens per second over its vanilla's, or what is printed; None where neither is."""
        figures, plain = self.table[method][workload], self.table.get("vanilla", {}).get(workload)
        if figures.speedup is not None:
            return figures.speedup
        if figures.tokens_per_s is None or plain is None or plain.tokens_per_s is None:
            return None
        return figures.tokens_per_s / plain.tokens_per_s


def read_printed(name: str, target: str) -> Printed:
    """The part of a printed table that is about a target; of another target the first, which the differences say.

    Args:
        name: of a table that comes with the project, or a file's path.

    Raises:
        NotBesideError: there is no such table, or it is none.
    """
    path = PRINTED.get(name, Path(name))
    if not path.is_file():
        raise NotBesideError(f"nothing printed is called {name}; allowed: {', '.join(PRINTED)}, or a file's path.")
    try:
        found = PrintedFile.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(map(str, first["loc"]))
        raise NotBesideError(
            f"{path}: {at + ': ' if at else ''}{first['msg']}; its layout is that of {PRINTED['paper'].name} "
            "(docs/measuring.md)."
        ) from error
    tables = found.tokens_per_s_and_acceptance_length
    column = next((column for column in tables if _letters(column) in _letters(target)), next(iter(tables)))
    return Printed(found.title, found.source, column, found.settings, tables[column])


def beside(rows: Sequence[Row], manifest: Manifest, printed: Printed) -> str:
    """The comparison as markdown.

    Raises:
        NotBesideError: no row of the run is one of the table.
    """
    lines = [line for row in rows if (line := _line(row, printed))]
    if not lines:
        methods = [name for name in (*METHODS, *printed.table) if printed.method(name) is not None]
        arms, sets = ", ".join(dict.fromkeys(methods)), ", ".join(printed.workloads)
        at_once, temperature = printed.settings.concurrency, printed.settings.temperature
        raise NotBesideError(
            f"no valid row stands in {printed.title}: it has arms called {arms}, workloads called {sets}, {at_once} "
            f"request{'s' if at_once > 1 else ''} at once, and temperature {temperature:g}."
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
            "τ includes the bonus token; here it is what rounds gave. In the artifact of PRISM's paper it is "
            "completion tokens over verify steps, which counts prefill's token and the cut at an output's end. "
            "Speedups are over each side's own vanilla.",
            "",
            *(["Settings that differ:", "", *differing] if differing else ["No setting that both name differs."]),
            "",
        ]
    )


def _line(row: Row, printed: Printed) -> list[str] | None:
    method = printed.method(row.arm)
    there = printed.table.get(method or "", {}).get(row.workload)
    at_home = row.concurrency == printed.settings.concurrency
    if there is None or method is None or not (row.valid and at_home) or row.acceptance_length is None:
        return None
    if row.temperature != printed.settings.temperature:
        return None
    tau, speedup = there.acceptance_length, printed.speedup(method, row.workload)
    interval = interval_text(row.speedup_low, row.speedup_high, row.speed.speedup_scope or "")
    return [
        row.workload,
        row.arm,
        f"{row.acceptance_length:.2f}",
        fixed(tau, 2),
        MISSING if tau is None else f"{row.acceptance_length / tau:.3f}",
        MISSING if row.speedup is None else f"{row.speedup:.2f}{interval}",
        fixed(speedup, 2),
        MISSING if row.speedup is None or speedup is None else f"{row.speedup / speedup:.3f}",
    ]


def differences(rows: Sequence[Row], manifest: Manifest, printed: Printed) -> Iterator[str]:
    """Every setting that is known on both sides and is not the same, a phrase each."""
    suite, theirs = manifest.suite, printed.settings
    shown = {row.workload for row in rows if row.workload in printed.workloads}

    def pair(what: str, ours: object, other: object) -> Iterator[str]:
        if other is not None and ours != other:
            yield f"{what}: {ours} here, {other} there"

    if _letters(printed.column) not in _letters(suite.target.model):
        yield f"target: {suite.target.model} here, {printed.target} there"
    yield from pair("device", manifest.host.gpu, theirs.device)
    yield from pair("engine", f"SGLang {manifest.packages.get('sglang')}", theirs.engine)
    yield from pair("dtype", suite.target.dtype, theirs.dtype)
    yield from pair("prefix cache", suite.prefix_cache, theirs.prefix_cache)
    for arm in suite.arms:
        if printed.method(arm.name) is not None and arm.tree is not None:
            yield from pair(f"tree of {arm.name}", tree_text(arm), theirs.tree)
        if arm.name == "prism" and arm.name in manifest.engines:
            yield from _prism_reads(manifest.engines[arm.name].draft_facts, theirs.prism_reads.get(printed.column))
    alike: dict[str, list[str]] = {}
    for workload in suite.workloads:
        if workload.name in shown:
            for text in _workload(workload, suite, theirs):
                alike.setdefault(text, []).append(workload.name)
    yield from (f"{', '.join(names)}: {text}" for text, names in alike.items())


def _prism_reads(facts: Mapping[str, Any], theirs: int | None) -> Iterator[str]:
    ours = len(facts["reads"]) if isinstance(facts.get("reads"), list) else 1
    if theirs is not None and ours != theirs:
        said = {1: "the last hidden state"}
        yield f"prism reads {said.get(ours, f'{ours} layers')} here, {said.get(theirs, f'{theirs} layers')} there"


def _workload(workload: Workload, suite: Suite, theirs: Settings) -> Iterator[str]:
    most = theirs.max_tokens or {}
    longest = most.get(workload.name, most.get("other"))
    ours = workload.max_tokens or suite.sampling.max_tokens
    if longest is not None and ours != longest:
        yield f"at most {ours} tokens a turn here, {longest} there"
    if theirs.system is not None and not (workload.system or "").startswith(theirs.system):
        yield f"{'another' if workload.system else 'no'} system prompt here, {theirs.system!r:.60} … there"
    if theirs.num_prompts is None:
        return
    there = f"{theirs.num_prompts} prompts of {f'the subset {theirs.subset}' if theirs.subset else 'it'} there"
    if workload.path:
        yield f"prompts of a file here, {there}"
    elif workload.name != "mt_bench" and workload.subset != theirs.subset:
        yield f"{workload.num_prompts or 'all'} prompts of the set here, {there}"


def _letters(text: str) -> str:
    """Letters and digits alone, in small letters."""
    return "".join(filter(str.isalnum, text.lower()))
