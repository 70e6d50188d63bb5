"""Show what a suite would run: its cells in their order, the models and sets it would download, whether its drafts and
their memory fit, and how long it takes. Starts nothing and downloads nothing.

Exit code 1 if a draft does not fit its target, memory is too small or a fairness requirement refuses the run.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from draftbench.harness.host.provenance import host
from draftbench.harness.models.required import is_obstacle, needs_of
from draftbench.harness.run.folder import RUNS
from draftbench.harness.run.history import seen_here
from draftbench.harness.run.plan import estimate, plan_cells
from draftbench.harness.suite import load_suite
from draftbench.harness.suite.named import allow_argument, find_suite
from draftbench.harness.texts import printable


def arguments(parser: argparse.ArgumentParser) -> None:
    """A suite."""
    parser.add_argument("suite", type=Path, metavar="SUITE.yaml", help="the suite (docs/suites.md)")
    allow_argument(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    """Print the cells in their order and what they will cost."""
    path = find_suite(args.suite, console.print)
    suite = load_suite(path, args.allow)
    cells = plan_cells(suite)
    lines = [f"launch {cell.launch} block {cell.block} {cell.workload} {cell.load} {cell.arm}" for cell in cells]
    print("\n".join(map(printable, lines)))  # thousands, which rich would look at word by word
    needs = needs_of(suite, path.parent)
    for line in (*needs, str(estimate(suite, seen_here(suite, RUNS, host())))):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return 1 if any(map(is_obstacle, needs)) else 0
