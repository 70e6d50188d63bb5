"""Show what a suite would run: its cells in their order, the models and sets it would download, whether its drafts and
their memory fit, and how long it takes. Starts nothing and downloads nothing.

Of a suite with a matrix every point is shown. With --devices N also the time where launches are spread over so many
devices; with --from RUN how many launches an interval of --interval takes, simulated from how far apart the launches of
that run were.

  bench.py plan my.yaml --devices 8
  bench.py plan my.yaml --from runs/mine-20261127-120000 --interval 5%

Exit code 1 if a draft does not fit its target, memory is too small or a fairness requirement refuses the run.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from draftbench.harness.errors import HarnessError
from draftbench.harness.host.provenance import host
from draftbench.harness.models.required import is_obstacle, needs_of
from draftbench.harness.run.folder import RUNS
from draftbench.harness.run.history import seen_here
from draftbench.harness.run.plan import Estimate, estimate, plan_cells
from draftbench.harness.suite import Suite, load_points
from draftbench.harness.suite.named import allow_argument, find_suite
from draftbench.harness.texts import printable
from draftbench.harness.units import duration, percentage

if TYPE_CHECKING:
    from draftbench.reports.files import Run


def arguments(parser: argparse.ArgumentParser) -> None:
    """A suite, devices, and a run to learn from."""
    parser.add_argument("suite", type=Path, metavar="SUITE.yaml", help="the suite (docs/suites.md)")
    parser.add_argument(
        "--devices", type=int, metavar="N", help="also the time with so many devices, each taking whole launches"
    )
    parser.add_argument(
        "--from", dest="run", type=Path, metavar="RUN", help="a run of this suite's arms, with three launches or more"
    )
    parser.add_argument(
        "--interval",
        type=percentage,
        default=0.05,
        metavar="PERCENT",
        help="wanted with --from: ± so much; default 5%%",
    )
    allow_argument(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    """Print the cells in their order and what they will cost."""
    if args.devices is not None and args.devices < 1:
        raise HarnessError(f"--devices is {args.devices}; allowed: 1 or more.")
    if not args.interval:
        raise HarnessError("--interval is 0%; allowed: more than that, for example 5%.")
    path = find_suite(args.suite, console.print)
    points = load_points(path, args.allow)
    earlier = None if args.run is None else _read(args.run)
    obstacles, estimates = False, []
    for point, suite in points:
        if point:
            console.print(f"\nmatrix: {point}", style="bold", highlight=False, markup=False)
        found, needs = _shown(suite, path, console)
        obstacles |= any(map(is_obstacle, needs))
        estimates.append(found)
        if earlier is not None:
            _show_launches(earlier, suite, found, args, console)
    for line in _cost(estimates, args.devices):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return 1 if obstacles else 0


def _read(run: Path) -> Run:
    from draftbench.reports.files import read_run  # what draws figures, which a plan alone does without

    return read_run(run)


def _show_launches(earlier: Run, suite: Suite, found: Estimate, args: argparse.Namespace, console: Console) -> None:
    from draftbench.reports.terminal_tables import print_table
    from draftbench.reports.wanted import launches_table

    headers, lines, launches = launches_table(earlier, suite, args.interval)
    print_table(f"launches for ±{args.interval:.1%}, from {args.run}", headers, lines, console)
    for part, counts in launches.items():
        for line in _for_launches(part, found, counts, args.devices):
            console.print(line, highlight=False, markup=False, soft_wrap=True)


def _shown(suite: Suite, path: Path, console: Console) -> tuple[Estimate, list[str]]:
    cells = plan_cells(suite)
    lines = [f"launch {cell.launch} block {cell.block} {cell.workload} {cell.load} {cell.arm}" for cell in cells]
    print("\n".join(map(printable, lines)))  # thousands, which rich would look at word by word
    needs, found = needs_of(suite, path.parent), estimate(suite, seen_here(suite, RUNS, host()))
    for line in (*needs, str(found)):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return found, list(needs)


def _cost(estimates: Sequence[Estimate], devices: int | None) -> list[str]:
    """Time of a whole matrix, and with so many devices."""
    known = [found for found in estimates if found.time_s is not None]
    lines = []
    if len(estimates) > 1:
        cells = sum(found.num_cells for found in estimates)
        time = "time unknown" if len(known) < len(estimates) else f"at most about {duration(_sum(known, 1))}"
        lines.append(f"\nmatrix: {len(estimates)} points, {cells} cells; {time}, one after the other")
    if devices is not None:
        if len(known) < len(estimates):
            return [*lines, f"on {devices} devices: time unknown"]
        busy = max(found.on(devices)[1] for found in known)
        used = f"{busy} of {devices}" if busy < devices else f"{devices}"
        why = ": there are no more launches, and a launch is what a device takes" if busy < devices else ""
        hours = sum(found.time_s or 0.0 for found in known) / 3600
        lines.append(
            f"on {devices} devices: at most about {duration(_sum(known, devices))}, {used} at work{why}; "
            f"{hours:.2f} device-hours"
        )
    return lines


def _sum(estimates: Sequence[Estimate], devices: int) -> float:
    return sum(found.on(devices)[0] for found in estimates)


def _for_launches(part: str, found: Estimate, launches: Sequence[int | None], devices: int | None) -> list[str]:
    """What the wanted intervals of a part cost."""
    lines = []
    for number, how in zip(launches, ("as likely as not", "in nine of ten such runs"), strict=True):
        if number is None:
            lines.append(f"{part} as narrow, {how}: more than a thousand launches")
            continue
        cost = ""
        if found.time_s is not None:
            time_s, busy = found.with_launches(number).on(devices or 1)
            cost = f", at most about {duration(time_s)}" + (f" on {busy} devices" if devices else "")
        lines.append(f"{part} as narrow, {how}: {number} launches{cost}")
    return lines
