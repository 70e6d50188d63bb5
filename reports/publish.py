"""From a run to reports/published/NAME: redacted records, the report made again from them, and the index."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml
from tabulate import tabulate

from draftbench.harness.errors import RecordError
from draftbench.harness.host.provenance import suite_sha256
from draftbench.harness.manifest import MANIFEST
from draftbench.harness.metrics.row import FIGURES
from draftbench.harness.places import PUBLISHED
from draftbench.harness.safe_files import write_whole
from draftbench.harness.store import FILES
from draftbench.reports.answer import answer
from draftbench.reports.files import REPORT, Run, read_run, write_results
from draftbench.reports.foreign import markdown_text
from draftbench.reports.redact import Redactor, names_here
from draftbench.reports.verify import Verdict, verify

INDEX = "README.md"


@dataclass(frozen=True)
class RedactedRun:
    """A redacted run that waits, in a folder of its own, to be looked at and published."""

    folder: Path
    target: Path
    replaced: tuple[tuple[str, str, int], ...]
    """Before, after, how often."""
    num_prompts: int
    num_outputs: int
    verdict: Verdict

    def publish(self) -> Path:
        """Put the run in its place and write the index again; the path of its report."""
        os.replace(self.folder, self.target)
        write_index(self.target.parent)
        return self.target / REPORT

    def drop(self) -> None:
        """Remove what was prepared."""
        shutil.rmtree(self.folder)


def prepare(run: Path, name: str, names: tuple[str, ...] = (), published: Path = PUBLISHED) -> RedactedRun:
    """Redact a run's records into a folder beside its place, and make and verify the report there.

    Only the manifest and the records are taken, never engines' logs or what an interrupted run set aside.

    Args:
        names: Further words to replace, of people or hosts.

    Raises:
        RecordError: there is no run, its records are damaged, or the name is taken or no name for a folder.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise RecordError(f"--name is {name!r}; allowed: letters, digits, dots, dashes and underscores.")
    target = published / name
    if target.exists():
        raise RecordError(f"{target} is published already; give another --name, or remove it first.")
    found = read_run(run)
    if broken := found.broken:
        raise RecordError(f"{run / broken[0]}; a run with damaged records is not published. Measure it anew.")
    texts = [path.read_text() for path in (run / MANIFEST, run / "cells.jsonl") if path.exists()]
    redactor = Redactor({*names_here(texts), *names})
    folder = published / f".{name}.partial"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    manifest: dict[str, Any] = redactor.value(found.manifest.recorded)
    manifest["suite_text"] = yaml.safe_dump(manifest["suite"], sort_keys=False)
    manifest["suite_sha256"] = suite_sha256(manifest["suite"])
    write_whole(folder / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    for name in FILES.values():
        if (run / name).exists():
            with (folder / name).open("xb") as file:
                file.writelines(_redacted(run / name, redactor, manifest["suite_sha256"]))
    write_results(folder)
    if _figures(read_run(folder)) != _figures(found):
        shutil.rmtree(folder)
        raise RecordError(
            f"{run} is not published: redacting it would change its results, because names that tell rows or prompts "
            "apart are redacted too. Give arms, workloads and prompts names that are no one's."
        )
    replaced = tuple((before, after, count) for (before, after), count in sorted(redactor.replaced.items()))
    return RedactedRun(folder, target, replaced, redactor.num_prompts, redactor.num_outputs, verify(folder))


def _figures(run: Run) -> list[list[object]]:
    """Every figure and name of the rows."""
    return [[getattr(row, name) for name in FIGURES if name != "reason"] for row in run.rows]


def write_index(published: Path = PUBLISHED) -> Path:
    """The page that lists every published run, newest first."""
    runs = [read_run(path.parent) for path in sorted(published.glob(f"[!.]*/{MANIFEST}"))]
    runs.sort(key=lambda run: run.manifest.started_at, reverse=True)
    table = tabulate([_index_line(run) for run in runs], ("run", "started", "target", "host", "answer"), "github")
    text = "Each folder holds the records too: `python bench.py verify reports/published/NAME/report.md`."
    path = published / INDEX
    write_whole(path, f"# Published runs\n\n{text}\n\n{table}\n")
    return path


def _redacted(path: Path, redactor: Redactor, suite: str) -> Iterator[bytes]:
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):  # a last line without its end was being written when the process was killed
                record = redactor.record(orjson.loads(line))
                if "suite_sha256" in record:
                    record["suite_sha256"] = suite
                yield orjson.dumps(record) + b"\n"


def _index_line(run: Run) -> list[str]:
    target, name = run.manifest.suite.target, run.folder.name
    facts = (run.manifest.started_at[:10], f"{target.model}, {target.dtype}", run.manifest.host.device)
    said = markdown_text(answer(run.rows, run.manifest).replace("**", ""))
    return [f"[{name}]({name}/{REPORT})", *map(markdown_text, facts), said]
