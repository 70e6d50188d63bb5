"""From a run's records to its result files; the same records give the same bytes."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from draftbench.harness.errors import RecordError
from draftbench.harness.files import write_whole
from draftbench.harness.host.devices import labels
from draftbench.harness.manifest import Manifest
from draftbench.harness.metrics.evidence import Design, Judged, KnownArm
from draftbench.harness.metrics.results import build_rows
from draftbench.harness.metrics.row import FIGURES as NUMBERS
from draftbench.harness.metrics.row import Row, rows_as_json
from draftbench.harness.records import (
    CellKey,
    CellRecord,
    ControlRecord,
    Line,
    ReferenceRecord,
    RequestRecord,
    RescoreRecord,
    SampleRecord,
    SampleScoreRecord,
    ScoreRecord,
)
from draftbench.harness.store import FILES, REQUESTS, read_records
from draftbench.harness.suite import Suite
from draftbench.harness.telemetry.records import WindowRecord
from draftbench.harness.texts import printable
from draftbench.harness.workloads.sources import SYNTHETIC
from draftbench.reports.foreign import with_strings
from draftbench.reports.latex import render_latex
from draftbench.reports.markdown import render_markdown
from draftbench.reports.page import render_page
from draftbench.reports.plots import Plot, draw_figures, save_figures

R = TypeVar("R", bound=Line)
REPORT, PAGE, CSV, JSON, LATEX = "report.md", "report.html", "results.csv", "results.json", "results.tex"
FIGURES = "figures"
CSV_FIELDS = NUMBERS


@dataclass(frozen=True)
class Run:
    """A run as its folder holds it."""

    folder: Path
    manifest: Manifest
    rows: tuple[Row, ...]
    records_sha256: str
    broken: tuple[str, ...]
    """Lines of the records that could not be read and were left out, each with file, line and reason."""


def read_run(folder: Path) -> Run:
    """A run's manifest and every row of it.

    Raises:
        RecordError: there is no run in the folder, or one of another schema version.
    """
    folder = folder.parent if folder.is_file() else folder
    manifest = Manifest.read(folder)
    broken: list[str] = []
    rows = rows_of_run(folder, manifest, broken.append)
    return Run(folder, manifest, rows, records_sha256(folder), tuple(broken))


def write_results(folder: Path) -> Path:
    """Read a run and write its result files.

    Returns:
        The path of report.md.

    Raises:
        RecordError: there is no run in the folder, or one of another schema version.
    """
    return write_files(read_run(folder))


def write_files(run: Run) -> Path:
    """Write every result file of a run; the path of report.md."""
    for name, text in results(run).items():
        write_whole(run.folder / name, text)
    figures = figures_of(run)
    save_figures(figures, run.folder / FIGURES)
    page = render_page(run.rows, run.manifest, run.records_sha256, run.broken, figures)
    write_whole(run.folder / PAGE, page)
    return run.folder / REPORT


def figures_of(run: Run) -> tuple[Plot, ...]:
    """Every figure of a run."""
    return draw_figures(run.rows)


def results(run: Run) -> dict[str, str]:
    """The text of every result file but the figures and the page that holds them, by name."""
    return {
        REPORT: render_markdown(run.rows, run.manifest, run.records_sha256, run.broken),
        CSV: _csv(run.rows),
        JSON: rows_as_json(run.rows),
        LATEX: render_latex(run.rows, run.manifest),
    }


def rows_of_run(run: Path, manifest: Manifest, on_broken: Callable[[str], None] | None = None) -> tuple[Row, ...]:
    """Every row of a run, from its records alone; on_broken as read_records has it.

    Texts of the rows are printable: what servers and engines said reaches no terminal or table as it came.
    """
    sha256 = None if manifest.suite_sha256 == "unknown" else manifest.suite_sha256
    names = Names(manifest.suite)

    def records(kind: type[R]) -> Iterator[R]:
        for record in read_records(run / FILES[kind], kind, tell, sha256):
            problem = names.problem(record)
            if problem is None:
                yield record
            elif tell is None:
                raise RecordError(f"{run / FILES[kind]}: {problem}")
            else:
                tell(f"{FILES[kind]}: {problem}")

    tell = None if on_broken is None else lambda text: on_broken(printable(text))

    requests = list(records(RequestRecord))
    present = Counter(request.cell for request in requests)
    cells = [_complete(cell, present[cell.cell]) for cell in records(CellRecord)]
    windows = list(records(WindowRecord))
    arms = tuple(
        KnownArm(arm, manifest.engines.get(arm.name), manifest.trained_tokens.get(arm.name))
        for arm in manifest.suite.arms
    )
    judged = Judged.of(
        records(ReferenceRecord),
        records(ControlRecord),
        records(RescoreRecord),
        records(SampleRecord),
        records(ScoreRecord),
        records(SampleScoreRecord),
    )
    design, kinds = _design(manifest.suite), labels(manifest.devices)
    if len(set(kinds.values())) < 2:
        return with_strings(build_rows(arms, requests, cells, judged, design, windows), printable)
    rows: list[Row] = []
    for device in dict.fromkeys(kinds.values()):
        found = build_rows(
            arms,
            [record for record in requests if kinds.get(record.cell.launch) == device],
            [record for record in cells if kinds.get(record.cell.launch) == device],
            judged,
            design,
            [record for record in windows if kinds.get(record.launch) == device],
        )
        rows += [replace(row, device=device) for row in found]
    return with_strings(tuple(rows), printable)


class Names:
    """What records of a suite's run may name; a name of theirs that is none could be a path."""

    def __init__(self, suite: Suite) -> None:
        self._arms = {arm.name for arm in suite.arms}
        self._workloads = {workload.name for workload in suite.workloads}
        self._loads = {point.name for point in suite.load}

    def problem(self, record: Line) -> str | None:
        """What a record names that is not the suite's."""
        cell: CellKey | None = getattr(record, "cell", None)
        named = [
            ("arm", self._arms, getattr(record, "arm", None) if cell is None else cell.arm),
            ("workload", self._workloads, getattr(record, "workload", None) if cell is None else cell.workload),
            ("load", self._loads, None if cell is None else cell.load),
        ]
        for what, known, name in named:
            if name is not None and name not in known:
                return f"{what} {name!r:.80} is not of the run's suite"
        return None


def _design(suite: Suite) -> Design:
    return Design(
        temperature=suite.sampling.temperature,
        dtype=suite.target.dtype,
        samples=frozenset(workload.name for workload in suite.workloads if workload.prompts == "sample"),
        synthetic=frozenset(workload.name for workload in suite.workloads if workload.source in SYNTHETIC),
        first_stage=suite.first_stage,
        limits=suite.limits,
        random_weights=suite.target.random_weights,
        prefix_cache=suite.prefix_cache,
        has_passes=not suite.target.random_weights and not all(arm.is_endpoint for arm in suite.arms),
    )


def _complete(cell: CellRecord, num_present: int) -> CellRecord:
    """The cell, failed if records of its requests are missing: what is left may be the easier part."""
    if cell.error is not None or num_present == cell.num_requests:
        return cell
    error = f"{REQUESTS} holds {num_present} of its {cell.num_requests} requests"
    return cell.model_copy(update={"error": error})


def records_sha256(run: Path) -> str:
    """One hash over the run's records, file by file."""
    digest = hashlib.sha256()
    for name in FILES.values():
        path = run / name
        if path.exists():
            digest.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _csv(rows: tuple[Row, ...]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    fields = (*CSV_FIELDS, "device") if any(row.device is not None for row in rows) else CSV_FIELDS
    writer.writerow(fields)
    for row in rows:
        writer.writerow([_csv_value(getattr(row, name)) for name in fields])
    return text.getvalue()


def _csv_value(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else value
