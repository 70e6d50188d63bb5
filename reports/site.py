"""A page over runs: every row of all runs below a folder, to be sorted and filtered, each with a link to its report.

Every number is made from the run's records, as in its own report. What does not count is shown and takes no place:
invalid rows, arms that lack a workload, runs whose report is not what their records give. A run that cannot be read is
named, and the others are shown.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from draftbench.harness.errors import HarnessError, RecordError
from draftbench.harness.manifest import MANIFEST
from draftbench.harness.metrics.overall import Overall, is_clear, leaders, overall
from draftbench.harness.metrics.row import Row
from draftbench.harness.suite.arms import SIMULATED
from draftbench.harness.texts import printable
from draftbench.reports.files import Run, read_run
from draftbench.reports.table import clear_rows
from draftbench.reports.verify import Verdict, verify_run


@dataclass(frozen=True)
class Shown:
    """A run on the page.

    Attributes:
        name: its folder, seen from the one that was asked for.
        mismatch: the first thing in which its report is not what its records give; None where it verifies.
    """

    name: str
    run: Run
    mismatch: str | None


@dataclass(frozen=True)
class Entry:
    """One line of the page: an arm of a run, on one workload or over all of them.

    Attributes:
        whole: it is what the run says of the arm at this load: over all workloads, or on the only one.
        is_simulated: its acceptance was drawn, which the page says beside the arm's name.
        out: why it takes no place among the others; empty where it does.
        row: what it was made from; None over several workloads.
        fastest: every other valid arm of its run is shown to be slower there.
    """

    run: str
    target: str
    device: str
    arm: str
    architecture: str
    workload: str
    load: str
    whole: bool
    speedup: float | None
    low: float | None
    high: float | None
    scope: str
    acceptance_length: float | None
    step_cost_ratio: float | None
    is_simulated: bool
    out: str
    row: Row | None
    fastest: bool = False

    @property
    def gain(self) -> float | None:
        """τ / c: what a draft gains where one request runs at a time."""
        if self.acceptance_length is None or not self.step_cost_ratio:
            return None
        return self.acceptance_length / self.step_cost_ratio

    @property
    def order(self) -> tuple[bool, str, str, bool, tuple[float, str], bool, float]:
        """What was measured first, what compares together, what a run says as a whole, then the fastest; what takes no
        place comes last."""
        where = self.is_simulated, self.target, self.device, not self.whole, load_order(self.load)
        return *where, bool(self.out), -(self.speedup or 0.0)


def load_order(load: str) -> tuple[float, str]:
    """Closed loops by their number, `c=8` before `c=16`, then open ones."""
    number = load.removeprefix("c=")
    return (float(number), load) if number.isdigit() else (math.inf, load)


@dataclass(frozen=True)
class FoundRuns:
    """Runs below a folder, and those that could not be read, each with the reason."""

    shown: tuple[Shown, ...]
    left_out: tuple[tuple[str, str], ...]


def find_runs(folder: Path) -> FoundRuns:
    """Read and verify every run below a folder.

    Raises:
        RecordError: there is none, or none that can be read.
    """
    places = sorted(path.parent for path in folder.rglob(MANIFEST) if not _is_hidden(path.relative_to(folder)))
    if not places:
        raise RecordError(
            f"there is no run below {folder} (no {MANIFEST}); give a folder that holds some, as reports/published does."
        )
    shown, left_out = [], []
    for place in places:
        name = printable(place.relative_to(folder).as_posix() if place != folder else place.resolve().name)
        try:
            run = read_run(place)
            shown.append(Shown(name, run, _mismatch(verify_run(run))))
        except (HarnessError, OSError, UnicodeDecodeError) as error:
            left_out.append((name, printable(str(error))))
    if not shown:
        told = "\n".join(f"{name}: {reason}" for name, reason in left_out)
        raise RecordError(f"no run below {folder} can be read:\n{told}")
    return FoundRuns(tuple(shown), tuple(left_out))


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _mismatch(verdict: Verdict) -> str | None:
    if not verdict.mismatches:
        return None
    more = len(verdict.mismatches) - 1
    return printable(verdict.mismatches[0])[:300] + (f"; and {more} more" if more else "")


def entries(found: Iterable[Shown]) -> list[Entry]:
    """Every line of the page in its order; valid baselines, which the others are held against, have none."""
    return sorted((entry for shown in found for entry in entries_of(shown)), key=lambda entry: entry.order)


def entries_of(shown: Shown) -> list[Entry]:
    """A run's lines: every arm over all workloads, then on each."""
    run = shown.run
    whole = overall(run.rows, run.manifest.suite.first_stage)
    points = dict.fromkeys((each.load, each.device) for each in whole)
    first = [_fastest([each for each in whole if (each.load, each.device) == point]) for point in points]
    lines = [_over_all(shown, each, each in first) for each in whole if not each.is_baseline]
    clear = clear_rows(run.rows)
    for index, row in enumerate(run.rows):
        if not (row.is_baseline and row.valid):
            alone = _num_workloads(run.rows, row) == 1
            lines.append(_single(shown, row, alone, index in clear and row.architecture != "vanilla"))
    return lines


def _fastest(arms: Sequence[Overall]) -> Overall | None:
    """The arm to which every other one is shown to be slower."""
    lead = leaders(arms)
    return lead[0] if len(lead) == 1 and not lead[0].is_baseline and is_clear(lead[0].speedup) else None


def _num_workloads(rows: Sequence[Row], like: Row) -> int:
    return len({row.workload for row in rows if (row.load, row.device) == (like.load, like.device)})


def _over_all(shown: Shown, found: Overall, fastest: bool) -> Entry:
    which = found.arm, found.load, found.device
    own = [row for row in shown.run.rows if (row.arm, row.load, row.device) == which and row.valid]
    costs = [row.step_cost_ratio for row in own if row.step_cost_ratio is not None]
    missing = "" if found.is_whole else f"incomplete: valid on {found.num_valid} of {found.num_workloads} workloads"
    ratio = found.speedup
    return Entry(
        run=shown.name,
        target=_target(shown.run),
        device=found.device or shown.run.manifest.host.device,
        arm=found.arm.removesuffix(SIMULATED),
        architecture=found.architecture,
        workload=f"all {found.num_workloads}",
        load=found.load,
        whole=True,
        speedup=None if ratio is None else ratio.value,
        low=None if ratio is None else ratio.low,
        high=None if ratio is None else ratio.high,
        scope="" if ratio is None else ratio.scope,
        acceptance_length=found.acceptance_length,
        step_cost_ratio=fmean(costs) if costs else None,
        is_simulated=found.is_simulated,
        out=_unverified(shown) or missing or _without_speedup(ratio is not None),
        row=None,
        fastest=fastest and shown.mismatch is None,
    )


def _single(shown: Shown, row: Row, whole: bool, fastest: bool) -> Entry:
    invalid = "" if row.valid else f"invalid: {row.reason}"
    return Entry(
        run=shown.name,
        target=_target(shown.run),
        device=row.device or shown.run.manifest.host.device,
        arm=row.arm.removesuffix(SIMULATED),
        architecture=row.architecture,
        workload=row.workload,
        load=row.load,
        whole=whole,
        speedup=row.speedup,
        low=row.speedup_low,
        high=row.speedup_high,
        scope=row.speed.speedup_scope or "",
        acceptance_length=row.acceptance_length,
        step_cost_ratio=row.step_cost_ratio,
        is_simulated=row.is_simulated,
        out=_unverified(shown) or invalid or _without_speedup(row.speedup is not None),
        row=row,
        fastest=fastest and shown.mismatch is None,
    )


def _target(run: Run) -> str:
    return f"{run.manifest.suite.target.model}, {run.manifest.suite.target.dtype}"


def _unverified(shown: Shown) -> str:
    return "" if shown.mismatch is None else "the run does not verify"


def _without_speedup(has_one: bool) -> str:
    return "" if has_one else "no speedup: no valid vanilla row beside it, or an open loop"
