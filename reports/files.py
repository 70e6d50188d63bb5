"""From a run's records to its result files; the same records give the same bytes."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from draftbench.harness.errors import RecordError
from draftbench.harness.metrics.evidence import ArmInfo, Design, Judged
from draftbench.harness.metrics.row import Row, rows_as_json
from draftbench.harness.metrics.rows import build_rows
from draftbench.harness.metrics.throughput import Limits
from draftbench.harness.records import (
    SCHEMA_VERSION,
    CellRecord,
    ControlRecord,
    ReferenceRecord,
    RequestRecord,
    RescoreRecord,
    SampleRecord,
    ScoreRecord,
    WindowRecord,
)
from draftbench.harness.store import FILES, MANIFEST, REQUESTS, read_records
from draftbench.harness.suite import FIRST_STAGE
from draftbench.harness.workloads.sources import SYNTHETIC
from draftbench.reports.latex import render_latex
from draftbench.reports.markdown import render_markdown
from draftbench.reports.page import render_page
from draftbench.reports.plots import draw_figures, save_figures

R = TypeVar("R", bound=BaseModel)
REPORT, PAGE, CSV, JSON, LATEX = "report.md", "report.html", "results.csv", "results.json", "results.tex"
CSV_FIELDS = tuple(name for name in Row.model_fields if name != "detail")


@dataclass(frozen=True)
class Run:
    """A run as its folder holds it."""

    folder: Path
    manifest: dict[str, Any]
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
    manifest = read_manifest(folder)
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
        LATEX: render_latex(run.rows),
    }


def rows_of_run(run: Path, manifest: dict[str, Any], on_broken: Callable[[str], None] | None = None) -> tuple[Row, ...]:
    """Every row of a run, from its records alone; on_broken as read_records has it."""
    suite = manifest["suite"]

    def records(kind: type[R]) -> Iterable[R]:
        return read_records(run / FILES[kind], kind, on_broken)

    requests = list(records(RequestRecord))
    trained = manifest.get("trained_tokens", {})
    present = Counter(request.cell for request in requests)
    return build_rows(
        tuple(
            _arm({**arm, "trained_tokens": trained.get(arm["name"])}, manifest.get("engines", {}).get(arm["name"], {}))
            for arm in suite["arms"]
        ),
        requests,
        [_complete(cell, present[cell.cell]) for cell in records(CellRecord)],
        Judged.of(
            records(ReferenceRecord),
            records(ControlRecord),
            records(RescoreRecord),
            records(SampleRecord),
            records(ScoreRecord),
        ),
        Design(
            suite["sampling"]["temperature"],
            suite["target"]["dtype"],
            frozenset(load["name"] for load in suite["workloads"] if load.get("prompts") == "sample"),
            frozenset(load["name"] for load in suite["workloads"] if load["source"] in SYNTHETIC),
            FIRST_STAGE if suite.get("auto") else None,
            _limits(suite.get("limits")),
            suite["target"].get("random_weights", False),
            suite.get("prefix_cache", False),
        ),
        records(WindowRecord),
    )


def _arm(arm: dict[str, Any], receipt: dict[str, Any]) -> ArmInfo:
    """An arm as the suite has it, with what its engine said of itself."""
    said = {"algorithm": receipt.get("algorithm"), "server_args": receipt.get("server_args", {})}
    return ArmInfo.model_validate({**arm, **said})


def _limits(limits: dict[str, float | None] | None) -> Limits | None:
    """A suite's limits, which are in milliseconds."""
    if limits is None:
        return None
    ttft_ms, tpot_ms = limits.get("ttft_ms"), limits.get("tpot_ms")
    return Limits(ttft_ms and ttft_ms / 1000, tpot_ms and tpot_ms / 1000)


def _complete(cell: CellRecord, num_present: int) -> CellRecord:
    """The cell, failed if records of its requests are missing: what is left may be the easier part."""
    if cell.error is not None or num_present == cell.num_requests:
        return cell
    error = f"{REQUESTS} holds {num_present} of its {cell.num_requests} requests"
    return cell.model_copy(update={"error": error})


def read_manifest(run: Path) -> dict[str, Any]:
    """A run's manifest.

    Raises:
        RecordError: it is missing or no JSON.
    """
    path = run / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise RecordError(f"{run} holds no run (no {MANIFEST}); give the folder that a run wrote.") from None
    except json.JSONDecodeError as error:
        raise RecordError(f"{path}:{error.lineno}: not JSON: {error.msg}.") from error
    if not isinstance(manifest, dict) or "suite" not in manifest:
        raise RecordError(f"{path}: no manifest of a run; it has to hold the run's suite.")
    version = manifest.get("version", SCHEMA_VERSION)
    if version != SCHEMA_VERSION:
        raise RecordError(
            f"{path}: version is {version}; this draftbench reads version {SCHEMA_VERSION}. "
            "Report the run with the draftbench that made it (git_commit in its manifest)."
        )
    return manifest


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
