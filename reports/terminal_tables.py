"""Tables on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from draftbench.harness.metrics.overall import overall
from draftbench.reports.answer import answer
from draftbench.reports.files import Run, write_files
from draftbench.reports.table import DECODE_HEADERS, clear_rows, main_headers, main_row, overall_table

WIDE = 140
LEFT_OUT = ("TTFT ms", "TPOT ms")
"""Columns that a terminal of fewer characters leaves out where there is a second speedup."""


def show(run: Run, console: Console) -> int:
    """Write a run's result files, print the main table and the report's path; exit code 1 if no row is valid."""
    report = write_files(run)
    valid = print_rows(run, console)
    console.print(f"report: {report}", highlight=False, markup=False)
    return 0 if valid else 1


def print_table(title: str, headers: Sequence[str], rows: Sequence[Sequence[str]], console: Console) -> None:
    """Print a table of strings that others chose."""
    table = Table(*headers, title=escape(title))
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)


def print_rows(run: Run, console: Console) -> bool:
    """Print the answer and the main table; whether any row is valid."""
    manifest, rows = run.manifest, run.rows
    best = clear_rows(rows)
    table = Table(title=manifest.suite.name, caption="invalid rows are struck through; τ includes the bonus token")
    closed = all(row.concurrency is not None for row in rows)  # open loops have more columns than most terminals hold
    headers = main_headers(rows)
    narrow = console.width < WIDE and DECODE_HEADERS[0] in headers
    shown = [index for index, header in enumerate(headers) if not (narrow and header in LEFT_OUT)]
    for header in (headers[index] for index in shown):
        no_wrap = closed and header not in ("arm", "lossless")  # these may hold a few words
        table.add_column(header, justify="left" if header in ("arm", "workload") else "right", no_wrap=no_wrap)
    for index, row in enumerate(rows):
        style = "strike dim" if not row.valid else "bold" if index in best else ""
        cells = main_row(row, rows)
        table.add_row(*(escape(cells[index]) for index in shown), style=style)
    console.print(table)
    headers, lines = overall_table(overall(rows, manifest.suite.first_stage))
    if lines:
        print_table("over all workloads", headers, lines, console)
    console.print(answer(rows, manifest).replace("**", ""), highlight=False, markup=False)
    for row in rows:
        if not row.valid:
            console.print(f"invalid: {row.arm} on {row.workload}: {row.reason}", highlight=False, markup=False)
    for text in run.broken:
        console.print(f"left out: {text}", highlight=False, markup=False)
    return any(row.valid for row in rows)
