"""An arm over all workloads of a suite, at one load point: what a paper's last column says."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from statistics import fmean, variance

from draftbench.harness.metrics.ratios import MIN_LAUNCHES, Against, Ratio, VarianceComponent, half_width
from draftbench.harness.metrics.row import Row, by_device


@dataclass(frozen=True)
class Overall:
    """An arm's valid rows of one load point, workloads weighted alike.

    Attributes:
        num_valid: workloads on which its row, and the baseline's, is valid, of `num_workloads`.
        acceptance_length: mean over these workloads; None without a draft.
        speedup: geometric mean over these workloads; None for the baseline itself.
        against: the same against each other arm, over the workloads on which both are valid.
    """

    arm: str
    architecture: str
    load: str
    concurrency: int | None
    is_baseline: bool
    is_simulated: bool
    num_valid: int
    num_workloads: int
    acceptance_length: float | None
    speedup: Ratio | None
    against: Mapping[str, Ratio]
    device: str | None = None
    """As the rows have it."""

    @property
    def is_whole(self) -> bool:
        """Whether every workload counts."""
        return self.num_valid == self.num_workloads


def overall(rows: Sequence[Row], first_stage: int | None = None) -> tuple[Overall, ...]:
    """Every arm at every load point of a closed loop, where there are two workloads or more.

    In an open loop the arrivals set the throughput, and latencies of different prompts have no mean.

    Args:
        first_stage: launches from which the suite's `auto` chose how many there would be.
    """
    return tuple(
        replace(each, device=device) for device, own in by_device(rows).items() for each in _overall(own, first_stage)
    )


def _overall(rows: Sequence[Row], first_stage: int | None) -> list[Overall]:
    """Of one kind of device."""
    found = []
    for load in dict.fromkeys(row.load for row in rows if row.concurrency is not None):
        here = [row for row in rows if row.load == load]
        workloads = dict.fromkeys(row.workload for row in here)
        if len(workloads) < 2:
            continue
        baseline = next((row.arm for row in here if row.is_baseline), None)
        for arm in dict.fromkeys(row.arm for row in here):
            own = [row for row in here if row.arm == arm]
            valid = [row for row in own if row.valid and (baseline is None or row.speedup is not None)]
            lengths = [row.acceptance_length for row in valid if row.acceptance_length is not None]
            others = dict.fromkeys(name for row in valid for name in row.against)
            against = {
                other: ratio
                for other in others
                if (ratio := _mean([row.against[other] for row in valid if other in row.against], first_stage))
            }
            found.append(
                Overall(
                    arm=arm,
                    architecture=own[0].architecture,
                    load=load,
                    concurrency=own[0].concurrency,
                    is_baseline=own[0].is_baseline,
                    is_simulated=own[0].is_simulated,
                    num_valid=len(valid),
                    num_workloads=len(workloads),
                    acceptance_length=fmean(lengths) if lengths else None,
                    speedup=_speedup(valid, None if baseline is None else against.get(baseline)),
                    against=against,
                )
            )
    return found


@dataclass(frozen=True)
class StepAcceptance:
    """α_k of an arm at a load point, each the mean over its valid workloads; `row` is one of them."""

    row: Row
    num_workloads: int
    alphas: tuple[float | None, ...]


def by_step(rows: Sequence[Row]) -> tuple[StepAcceptance, ...]:
    """Every arm's conditional acceptance over all workloads, at every load point; none where there is one workload."""
    found = []
    for which in dict.fromkeys((row.arm, row.load, row.device) for row in rows):
        own = [row for row in rows if (row.arm, row.load, row.device) == which and row.valid]
        curves = [curve for row in own if (curve := row.acceptance.conditional_acceptance)]
        if len(curves) < 2:
            continue
        columns = [[alpha for alpha in column if alpha is not None] for column in zip_longest(*curves)]
        found.append(
            StepAcceptance(own[0], len(curves), tuple(fmean(column) if column else None for column in columns))
        )
    return tuple(found)


def _speedup(rows: Sequence[Row], measured: Ratio | None) -> Ratio | None:
    """Over the baseline; what-if rows are held against nobody, so theirs has no interval."""
    values = [row.speedup for row in rows if row.speedup is not None]
    if measured is not None or not values or rows[0].is_baseline:
        return measured
    return Ratio(math.exp(fmean(map(math.log, values))), None, None, "what-if, no interval")


def _mean(found: Sequence[Against], first_stage: int | None) -> Ratio | None:
    """The geometric mean of one comparison over workloads, with its interval.

    The workloads of a launch share its engines, so a launch's log ratio is their mean, and the interval is over
    launches; with too few of these over blocks, as each row's own.
    """
    if not found:
        return None
    scopes = {each.scope for each in found}
    units = [fmean(unit) for unit in zip(*(each.log_ratios for each in found), strict=False)]
    paired = len({len(each.log_ratios) for each in found}) == 1 and len(scopes) == 1
    centre = fmean(fmean(each.log_ratios) for each in found)
    if not paired or len(units) < 2:
        scope = "one block, no interval" if paired else "no interval: the workloads have different launches or blocks"
        return Ratio(math.exp(centre), None, None, scope, tuple(units))
    scope = next(iter(scopes))
    over_launches = scope.startswith("over") and len(units) >= MIN_LAUNCHES and "blocks" not in scope
    seen = units[:first_stage] if over_launches else units
    half = half_width([VarianceComponent(variance(seen) / len(units), len(seen) - 1)])
    return Ratio(math.exp(centre), math.exp(centre - half), math.exp(centre + half), _for_these(scope), tuple(units))


def _for_these(scope: str) -> str:
    """The spread between a sample's prompts is not in an interval over workloads."""
    return scope.removesuffix(", for prompts like these")


def is_clear(ratio: Ratio | None) -> bool:
    """Whether a difference is shown: the interval leaves 1 out."""
    return ratio is not None and ratio.low is not None and ratio.high is not None and not ratio.low <= 1 <= ratio.high


def leaders(found: Iterable[Overall]) -> list[Overall]:
    """The fastest arm of a load point and those to which no difference is shown, fastest first.

    Arms that lack a workload are compared with nobody; what-if rows stand only where no draft has another.
    """
    whole = [each for each in found if each.is_whole and (each.is_baseline or each.speedup is not None)]
    if any(not each.is_simulated and not each.is_baseline for each in whole):
        whole = [each for each in whole if not each.is_simulated]
    whole.sort(key=lambda each: -(1.0 if each.speedup is None else each.speedup.value))
    return [each for each in whole if each is whole[0] or not is_clear(whole[0].against.get(each.arm))]
