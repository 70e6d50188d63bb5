"""Write the page of a training study: acceptance with intervals, accepted share of each step, ledgers, curves.

Ledgers, accepted drafts and curves are copied beside the page, so that it can be made again from its own folder; a file
remarks.md there becomes its last part.

  bench.py study runs/tiny-zoo --out reports/published/tiny-zoo --run reports/published/zoo-cpu
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from draftbench.reports.study_page import TITLE, write_study


def arguments(parser: argparse.ArgumentParser) -> None:
    """What was trained, and where the page goes."""
    parser.add_argument(
        "trained", type=Path, nargs="+", metavar="TRAINED", help="folders that `train` wrote, or the page's own"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the page's folder")
    parser.add_argument("--run", type=Path, metavar="RUN", help="a run with the drafts, for the table of speedups")
    parser.add_argument("--title", default=TITLE, metavar="TEXT", help=f"of the page; {TITLE!r}")


def run(args: argparse.Namespace, console: Console) -> int:
    """Read the folders and write the page."""
    page = write_study(args.trained, args.out, args.run, args.title)
    console.print(f"page: {page}", highlight=False, markup=False, soft_wrap=True)
    return 0
