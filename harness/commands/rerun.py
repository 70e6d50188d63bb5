"""Run a report's suite here, from its manifest alone, and say for each row whether it is reproduced.

A row is where the interval of the ratio holds 1 and its ends are within a factor of two, and where greedy τ is the same
within 2%. Exit code 1 if a row is not.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from draftbench.harness.run import run_suite
from draftbench.harness.run.folder import new_folder
from draftbench.harness.suite import check_recorded, relocated
from draftbench.reports.compare import HEADERS, NOTE, compare
from draftbench.reports.files import read_run
from draftbench.reports.terminal_tables import print_table, show


def arguments(parser: argparse.ArgumentParser) -> None:
    """A report, where its files are, where to."""
    parser.add_argument("report", type=Path, metavar="REPORT", help="a run's folder, or its report.md")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(),
        metavar="DIR",
        help="where the suite's models and files are, if not where they were; default the current folder",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="the new run's folder; default runs/rerun-NAME-TIME")


def run(args: argparse.Namespace, console: Console) -> int:
    """Run a report's suite again, from its manifest alone; exit code 1 if a row is not reproduced."""
    folder = args.report if args.report.is_dir() else args.report.parent
    before = read_run(folder)
    suite = relocated(before.manifest.suite, args.folder)
    check_recorded(suite)
    after = run_suite(
        suite,
        args.out or new_folder(f"rerun-{suite.name}"),
        suite_folder=args.folder,
        suite_text=before.manifest.suite_text,
        command="python bench.py rerun",
        console=console,
    )
    show(after, console)
    moved = compare(before, after)
    rows = [row.cells(row.reproduction()) for row in moved]
    print_table("A: the report, B: here", HEADERS, rows, console)
    console.print(NOTE, highlight=False)
    return 1 if any(row.reproduction().startswith("not reproduced") for row in moved) else 0
