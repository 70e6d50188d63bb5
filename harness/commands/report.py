"""Write a run's results again from its records: report.md, report.html, results.{csv,json,tex} and the figures.

The same records give the same bytes. A run that was interrupted is reported as far as it came. Of a folder with the
runs of a matrix the table over all of them is written again.

  bench.py report RUN --beside paper    also sets it beside PRISM's printed Table 4, in RUN/beside-paper.md; or a FILE
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from draftbench.harness.manifest import MANIFEST
from draftbench.harness.safe_files import write_whole
from draftbench.reports.beside import PRINTED, beside, read_printed
from draftbench.reports.files import read_run
from draftbench.reports.matrix_table import write_matrix
from draftbench.reports.terminal_tables import print_table, show


def arguments(parser: argparse.ArgumentParser) -> None:
    """A run."""
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder that a run wrote")
    parser.add_argument(
        "--beside",
        metavar="TABLE",
        help=f"also compare acceptance length and speedup with a printed table: {', '.join(PRINTED)}, or a JSON file "
        "(docs/measuring.md)",
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """Write results.csv, results.json and report.md from a run's records."""
    if args.beside is None and args.run.is_dir() and not (args.run / MANIFEST).exists():
        page, (headers, lines) = write_matrix(args.run)
        print_table("over all points", headers, lines, console)
        console.print(f"report: {page}", highlight=False, markup=False)
        return 0
    found = read_run(args.run)
    code = show(found, console)
    if args.beside is not None:
        printed = read_printed(args.beside, found.manifest.suite.target.model)
        text = beside(found.rows, found.manifest, printed)
        write_whole(found.folder / f"beside-{Path(args.beside).stem}.md", text)
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    return code
