"""From a run's records to its result files; the same records give the same bytes."""

from __future__ import annotations

import csv
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from draftbench.harness.manifest import Manifest
from draftbench.harness.metrics.row import FIGURES as NUMBERS
from draftbench.harness.metrics.row import Row, rows_as_json
from draftbench.harness.records import (
    Line,
)
from draftbench.harness.safe_files import write_whole
from draftbench.harness.store import FILES
from draftbench.reports.latex import render_latex
from draftbench.reports.markdown import render_markdown
from draftbench.reports.page import render_page
from draftbench.reports.plots import Plot, draw_figures, save_figures
from draftbench.reports.rows import rows_of_run

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
    return draw_figures(run.rows, run.manifest.suite.first_stage)


def results(run: Run) -> dict[str, str]:
    """The text of every result file but the figures and the page that holds them, by name."""
    return {
        REPORT: render_markdown(run.rows, run.manifest, run.records_sha256, run.broken),
        CSV: _csv(run.rows),
        JSON: rows_as_json(run.rows),
        LATEX: render_latex(run.rows, run.manifest),
    }


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
