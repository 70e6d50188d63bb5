"""Make a report again from the records beside it, number by number, and name file, line, column and row of whatever
does not match. Exit code 1 if something does not.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from draftbench.reports.verify import verify


def arguments(parser: argparse.ArgumentParser) -> None:
    """A report."""
    parser.add_argument("report", type=Path, metavar="REPORT", help="a run's folder, or its report.md")


def run(args: argparse.Namespace, console: Console) -> int:
    """Make a report again from the records beside it; exit code 1 if a number does not match."""
    verdict = verify(args.report)
    for mismatch in verdict.mismatches:
        console.print(mismatch, highlight=False, markup=False, soft_wrap=True)
    for note in verdict.notes:
        console.print(note, highlight=False, markup=False, soft_wrap=True)
    result = f"{len(verdict.mismatches)} do not match" if verdict.mismatches else "all match"
    console.print(f"{verdict.num_numbers} numbers in {', '.join(verdict.files)}: {result}", highlight=False)
    return 1 if verdict.mismatches else 0
