"""Write one static page of all runs below a folder: a table to sort and filter, and speedup drawn against τ and τ / c.

Every run is read and verified. One that cannot be read is named and left out, one that does not verify is marked; the
exit code is then 1, and the page is there. Reports of runs that do not lie below DIR are written there, so that DIR can
be put on a server as it is.

  bench.py site reports/published --out site
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from draftbench.reports.site_page import write_site

TITLE = "draftbench runs"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Where runs are, and where the page goes."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="runs lie in it, however deep")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the page's folder: DIR/index.html")
    parser.add_argument("--title", default=TITLE, metavar="TEXT", help=f"of the page; {TITLE!r}")


def run(args: argparse.Namespace, console: Console) -> int:
    """Read all runs, write the page; exit code 1 if one was left out or does not verify."""
    page, found = write_site(args.folder, args.out, args.title)
    for name, reason in found.left_out:
        console.print(f"left out: {name}: {reason}", highlight=False, markup=False, soft_wrap=True)
    unlike = [shown for shown in found.shown if shown.mismatch is not None]
    for shown in unlike:
        console.print(f"does not verify: {shown.name}: {shown.mismatch}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"page: {page}, {len(found.shown)} runs", highlight=False, markup=False, soft_wrap=True)
    return 1 if unlike or found.left_out else 0
