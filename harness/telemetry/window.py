"""From looks at sensors to the record of one window."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

from draftbench.harness.records import CellKey
from draftbench.harness.telemetry.process import ProcessWatch
from draftbench.harness.telemetry.sensor import DeviceSample, Sensor, energy_quantity, why
from draftbench.harness.telemetry.window_records import DeviceReading, WindowRecord
from draftbench.harness.units import seconds


def _shares(looks: Sequence[tuple[str, ...]]) -> dict[str, float]:
    counted = Counter(reason for reasons in looks for reason in reasons)
    return {reason: count / len(looks) for reason, count in sorted(counted.items())}


STATISTICS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "mean_power_w": ("power_w", fmean),
    "mean_utilisation": ("utilisation", fmean),
    "peak_memory_bytes": ("memory_bytes", max),
    "mean_sm_clock_mhz": ("sm_clock_mhz", fmean),
    "min_sm_clock_mhz": ("sm_clock_mhz", min),
    "max_sm_clock_mhz": ("sm_clock_mhz", max),
    "max_temperature_c": ("temperature_c", max),
    "clock_reasons": ("clock_reasons", _shares),
}
"""A GPU's fields of DeviceReading: which quantity of its samples, and how they become one number."""


class Window:
    """Every sensor and an engine's processes, from its making until `close`, look by look, but for pauses.

    A sensor that is lost is not asked again; the others go on.
    """

    def __init__(self, sensors: Sequence[Sensor], pid: int, clock: Callable[[], int]) -> None:
        self._sensors, self._clock = sensors, clock
        self._spans: list[list[list[DeviceSample]]] = [[] for _ in sensors]
        self._lost: dict[int, str] = {}
        self._cpu_s = 0.0
        self._watched_ns = 0
        self._processes = ProcessWatch(pid)
        self._started_ns = self._watch()

    def _watch(self) -> int:
        for spans in self._spans:
            spans.append([])
        self.look()
        self._finished_ns: int | None = None
        self._resumed_ns = self._clock()
        return self._resumed_ns

    def resume(self) -> None:
        """Go on after a pause."""
        self._processes.resume()
        self._watch()

    def pause(self) -> None:
        """Look a last time before others have their turns."""
        self._finished_ns = self._clock()
        self._watched_ns += self._finished_ns - self._resumed_ns
        self.look()
        self._processes.pause()

    def look(self) -> None:
        """Look at everything once; never raises."""
        began = time.thread_time()
        for index, sensor in enumerate(self._sensors):
            if index not in self._lost:
                try:
                    self._spans[index][-1].append(sensor.read())
                except Exception as error:  # whatever a driver throws must not end a run
                    self._lost[index] = why(error)
        self._processes.look()
        self._cpu_s += time.thread_time() - began

    def close(self, launch: int, arm: str, cell: CellKey | None) -> WindowRecord:
        """Look a last time and sum up."""
        if self._finished_ns is None:
            self.pause()
        assert self._finished_ns is not None
        lasted_ns = self._finished_ns - self._started_ns
        return WindowRecord(
            launch=launch,
            arm=arm,
            cell=cell,
            started_ns=self._started_ns,
            finished_ns=self._finished_ns,
            paused_ns=lasted_ns - self._watched_ns,
            devices=tuple(
                summarise(sensor, spans, seconds(self._watched_ns), self._lost.get(index))
                for index, (sensor, spans) in enumerate(zip(self._sensors, self._spans, strict=True))
            ),
            processes=self._processes.usage(),
            telemetry_cpu_s=self._cpu_s,
        )


def summarise(
    sensor: Sensor, spans: Sequence[Sequence[DeviceSample]], duration_s: float, lost: str | None
) -> DeviceReading:
    """One device in one window: energy between the first and the last sample of each span between pauses, the rest from
    those in between.

    Args:
        duration_s: of all spans.
        lost: why the device was lost; then nothing is told of it but this.
    """
    inner = [sample for samples in spans for sample in samples[1:-1]]
    found: dict[str, Any] = {"energy_j": lost or _energy_j(sensor, spans, inner, duration_s)}
    for name, (quantity, statistic) in (STATISTICS if sensor.kind == "gpu" else {}).items():
        present = [value for sample in inner if (value := getattr(sample, quantity)) is not None]
        found[name] = lost or (statistic(present) if present else _problem(inner, quantity))
    return DeviceReading(
        name=sensor.name,
        kind=sensor.kind,
        source=sensor.source,
        num_samples=len(inner),
        reasons={name: value for name, value in found.items() if isinstance(value, str)},
        **{name: value for name, value in found.items() if not isinstance(value, str)},
    )


def _energy_j(
    sensor: Sensor, spans: Sequence[Sequence[DeviceSample]], inner: Sequence[DeviceSample], duration_s: float
) -> float | str:
    """Joules, or why there are none."""
    quantity = energy_quantity(sensor)
    looks = inner if quantity == "power_w" else [sample for samples in spans for sample in samples]
    values = [getattr(sample, quantity) for sample in looks]
    if not values or None in values:
        return _problem(looks, quantity)
    if quantity == "power_w":
        return fmean(values) * duration_s
    for before, after in pairwise(values):
        if after < before:
            return f"the counter fell from {before:.1f} to {after:.1f} J, as it does when the driver is reset"
    return float(sum(getattr(samples[-1], quantity) - getattr(samples[0], quantity) for samples in spans))


def _problem(samples: Sequence[DeviceSample], quantity: str) -> str:
    told = (sample.problems.get(quantity) for sample in samples)
    return next((problem for problem in told if problem is not None), "no sample within the window")
