"""When the requests of an open loop arrive: drawn once from the seed, or read from a trace."""

from __future__ import annotations

import math
import random
from pathlib import Path

from draftbench.harness.errors import WorkloadError
from draftbench.harness.suite import LoadPoint
from draftbench.harness.suite.trace import read_trace


def arrival_times(point: LoadPoint, workload: str, num_prompts: int, seed: int) -> tuple[float, ...] | None:
    """Seconds from a cell's start at which its requests arrive, the first at 0; None in a closed loop.

    They are the same for every arm, block and launch. At a rate r the first of n requests arrives at 0, the last after
    (n - 1) / r seconds and the others anywhere between, each moment as likely as any other: a Poisson process known to
    have these ends, so that few requests have the rate too. Bursts arrive so instead of requests. At every rate a
    workload has the same pattern, drawn out or pressed together. A trace says how many requests there are.

    Raises:
        WorkloadError: the trace has more arrivals than there are prompts.
    """
    if point.trace is not None:
        times = read_trace(Path(point.trace))
        if len(times) > num_prompts:
            raise WorkloadError(
                f"{point.trace} has {len(times)} arrivals, workload {workload} {num_prompts} prompts; prompts are not "
                "repeated. Take more prompts, or a shorter trace."
            )
        return times
    if point.rate is None:
        return None
    size = point.burst or 1
    draw = random.Random(f"{seed} arrivals {workload}")
    count = math.ceil(num_prompts / size)
    span_s = (count - 1) * size / point.rate
    groups = [0.0, *sorted(draw.random() * span_s for _ in range(count - 2)), span_s]
    return tuple(groups[number // size] for number in range(num_prompts))
