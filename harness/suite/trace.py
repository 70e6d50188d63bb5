"""Traces of arrivals, read from JSONL files."""

from __future__ import annotations

import json
import math
from pathlib import Path

from draftbench.harness.errors import SuiteError
from draftbench.harness.workloads.regular import read_text

MOST_BYTES = 100_000_000
TRACE_FORMAT = 'each line is an object with at_s, in seconds and not before the line above: {"at_s": 0.25}'


def read_trace(path: Path) -> tuple[float, ...]:
    """Arrival times of a trace, in seconds after its first one.

    Raises:
        SuiteError: a line that is none, with file and line; a file that cannot be read or holds no arrival.
    """
    lines = read_text(path, MOST_BYTES, SuiteError).splitlines()
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
