"""From a run's records to its result files; the same records give the same bytes."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from draftbench.harness.manifest import Manifest
from draftbench.harness.metrics.evidence import Design, Judged, KnownArm
from draftbench.harness.metrics.results import build_rows
from draftbench.harness.metrics.row import FIGURES, Row, rows_as_json
from draftbench.harness.records import (
    CellRecord,
    ControlRecord,
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
from draftbench.harness.workloads.sources import SYNTHETIC
from draftbench.reports.latex import render_latex
from draftbench.reports.markdown import render_markdown
from draftbench.reports.page import render_page
from draftbench.reports.plots import draw_figures, save_figures

R = TypeVar("R", bound=BaseModel)
REPORT, PAGE, CSV, JSON, LATEX = "report.md", "report.html", "results.csv", "results.json", "results.tex"
CSV_FIELDS = FIGURES


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
        (run.folder / name).write_text(text)
    figures = draw_figures(run.rows)
    save_figures(figures, run.folder / "figures")
    (run.folder / PAGE).write_text(render_page(run.rows, run.manifest, run.records_sha256, run.broken, figures))
    return run.folder / REPORT


def results(run: Run) -> dict[str, str]:
    """The text of every result file but the figures and the page that holds them, by name."""
    return {
        REPORT: render_markdown(run.rows, run.manifest, run.records_sha256, run.broken),
        CSV: _csv(run.rows),
        JSON: rows_as_json(run.rows),
        LATEX: render_latex(run.rows, run.manifest),
    }


def rows_of_run(run: Path, manifest: Manifest, on_broken: Callable[[str], None] | None = None) -> tuple[Row, ...]:
    """Every row of a run, from its records alone; on_broken as read_records has it."""

    def records(kind: type[R]) -> Iterable[R]:
        return read_records(run / FILES[kind], kind, on_broken)

    requests = list(records(RequestRecord))
    present = Counter(request.cell for request in requests)
    return build_rows(
        tuple(
            KnownArm(arm, manifest.engines.get(arm.name), manifest.trained_tokens.get(arm.name))
            for arm in manifest.suite.arms
        ),
        requests,
        [_complete(cell, present[cell.cell]) for cell in records(CellRecord)],
        Judged.of(
            records(ReferenceRecord),
            records(ControlRecord),
            records(RescoreRecord),
            records(SampleRecord),
            records(ScoreRecord),
            records(SampleScoreRecord),
        ),
        _design(manifest.suite),
        records(WindowRecord),
    )


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
    writer.writerow(CSV_FIELDS)
    for row in rows:
        writer.writerow([_csv_value(getattr(row, name)) for name in CSV_FIELDS])
    return text.getvalue()


def _csv_value(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else value
