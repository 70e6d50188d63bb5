"""Show which rows moved between two runs, by how much, and what differs between the two.

Speedups over each run's own vanilla are compared, since times of two runs do not compare. Runs whose target or sampling
differs are refused.

  bench.py compare runs/before runs/after --fail-on-regression 5%
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from draftbench.harness.units import percentage
from draftbench.reports.compare import HEADERS, NOTE, Change, Moved, compare, manifest_differences
from draftbench.reports.files import read_run
from draftbench.reports.manifest_differences import folded
from draftbench.reports.terminal_tables import print_table


def arguments(parser: argparse.ArgumentParser) -> None:
    """Two runs, and what is too much."""
    parser.add_argument("run_a", type=Path, metavar="RUN_A", help="the folder of the run before")
    parser.add_argument("run_b", type=Path, metavar="RUN_B", help="the folder of the run after")
    parser.add_argument(
        "--fail-on-regression",
        type=percentage,
        metavar="PERCENT",
        help="exit code 1 if a row fell by more than this, for example 5%%; the interval of its ratio has to say so",
    )
    parser.add_argument(
        "--all", action="store_true", help="every difference of the manifests, one a line; else what can matter"
    )


ORDER: tuple[Change, ...] = ("slower", "faster", "not comparable", "no difference shown", "baseline")
"""Of the rows: what moved comes first."""


def run(args: argparse.Namespace, console: Console) -> int:
    """Show which rows moved between two runs; exit code 1 if one fell by more than is allowed."""
    before, after = read_run(args.run_a), read_run(args.run_b)
    moved = compare(before, after)
    first = sorted(moved, key=lambda row: ORDER.index(row.change))
    print_table(f"A: {args.run_a}, B: {args.run_b}", HEADERS, [row.cells(row.verdict()) for row in first], console)
    console.print(summary(moved), highlight=False, markup=False)
    console.print(NOTE, highlight=False)
    differences = manifest_differences(before.manifest.recorded, after.manifest.recorded)
    for difference in differences if args.all else folded(differences):
        console.print(f"differs: {difference}", highlight=False, markup=False, soft_wrap=True)
    if args.fail_on_regression is None:
        return 0
    fallen = [row for row in moved if row.regressed(args.fail_on_regression)]
    for row in fallen:
        console.print(
            f"regression beyond {args.fail_on_regression:.1%}: {', '.join(map(str, row.name))}", highlight=False
        )
    return 1 if fallen else 0


def summary(moved: Sequence[Moved]) -> str:
    """How many rows are of each kind, in a sentence."""
    counts = Counter(row.change for row in moved)
    return ", ".join(f"{counts[change]} {change}" for change in ORDER if counts[change]) + "."
