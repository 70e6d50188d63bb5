"""When the requests of an open loop arrive: drawn once from the seed, or read from a trace."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import SuiteError, WorkloadError

if TYPE_CHECKING:
    from harness.suite import LoadPoint

TRACE_FORMAT = 'each line is an object with at_s, in seconds and not before the line above: {"at_s": 0.25}'


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


def read_trace(path: Path) -> tuple[float, ...]:
    """Arrival times of a trace, in seconds after its first one.

    Raises:
        SuiteError: a line that is none, with file and line; a file that cannot be read or holds no arrival.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SuiteError(f"{path}: cannot be read: {error}.") from error
    times: list[float] = []
    for number, line in enumerate(lines, 1):
        at_s = _arrival(line)
        if at_s is None or (times and at_s < times[-1]):
            raise SuiteError(f"{path}:{number}: {line[:80]!r} is no arrival; {TRACE_FORMAT}.")
        times.append(at_s)
    if not times:
        raise SuiteError(f"{path}: there is no arrival in it; {TRACE_FORMAT}.")
    return tuple(at_s - times[0] for at_s in times)


def _arrival(line: str) -> float | None:
    try:
        at_s = json.loads(line)["at_s"]
    except (ValueError, TypeError, KeyError):
        return None
    known = isinstance(at_s, int | float) and not isinstance(at_s, bool) and math.isfinite(at_s) and at_s >= 0
    return float(at_s) if known else None
