"""Rows of several workloads whose log ratios are known: what holds over all of them can be worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean, stdev

from scipy.stats import t

from draftbench.harness.metrics.ratios import Against, Ratio, verdict
from draftbench.harness.metrics.row import Row
from tests.fakes.study import FakeArm, FakeRun

Logs = Mapping[str, Sequence[float]]
"""Of each arm, the logarithms of its throughput over vanilla's, one a launch."""


def against(ours: Sequence[float], theirs: Sequence[float], names: tuple[str, str], scope: str) -> Against:
    """One row held against another, as `metrics.rows` makes it."""
    units = [our - their for our, their in zip(ours, theirs, strict=True)]
    centre, half = fmean(units), None
    if len(units) > 1:
        half = float(t.ppf(0.975, len(units) - 1)) * stdev(units) / math.sqrt(len(units))
    low, high = (None, None) if half is None else (math.exp(centre - half), math.exp(centre + half))
    ratio = Ratio(math.exp(centre), low, high, scope, tuple(units))
    return Against(ratio.value, low, high, scope, tuple(units), verdict(*names, ratio))


def rows_of(
    workloads: Mapping[str, Logs], scope: str = "over 3 launches", invalid: Sequence[tuple[str, str]] = ()
) -> list[Row]:
    """Vanilla and every arm on every workload at concurrency 1.

    Args:
        invalid: arms and workloads whose row is struck out.
    """
    from tests.unit.metrics.test_study import cells

    plain = FakeRun([FakeArm("vanilla", 10.0), FakeArm("draft", 10.0, (3, 1))], cells("vanilla", "draft")).rows()
    found = []
    for workload, given in workloads.items():
        count = len(next(iter(given.values())))
        logs = {"vanilla": [0.0] * count, **given}
        struck = {arm for arm, where in invalid if where == workload}
        for arm, own in logs.items():
            held = {
                other: against(own, theirs, (arm, other), scope)
                for other, theirs in logs.items()
                if other != arm and not {arm, other} & struck
            }
            vanilla = against(own, logs["vanilla"], (arm, "vanilla"), scope)
            template = plain["vanilla" if arm == "vanilla" else "draft"]
            found.append(
                replace(
                    template, arm=arm, workload=workload, valid=arm not in struck, against=held, findings=(),
                    speedup=vanilla.ratio, speedup_low=vanilla.low, speedup_high=vanilla.high,
                    output_tokens_per_s=100 * vanilla.ratio, speed=replace(template.speed, speedup_scope=scope),
                )
            )  # fmt: skip
    return found
