"""Write a run's results again from its records: report.md, report.html, results.{csv,json,tex} and the figures.

The same records give the same bytes. A run that was interrupted is reported as far as it came.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from draftbench.reports.files import read_run
from draftbench.reports.terminal import show


def arguments(parser: argparse.ArgumentParser) -> None:
    """A run."""
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder that a run wrote")


def run(args: argparse.Namespace, console: Console) -> int:
    """Write results.csv, results.json and report.md from a run's records."""
    return show(read_run(args.run), console)
