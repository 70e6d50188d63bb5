"""The thread that looks at the sensors while something is measured, and the engines' power at rest."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from draftbench.harness.records import CellKey
from draftbench.harness.telemetry.nvml import gpu_sensors
from draftbench.harness.telemetry.rapl import rapl_sensors
from draftbench.harness.telemetry.sensor import Sensor, energy_problem
from draftbench.harness.telemetry.window import Window
from draftbench.harness.telemetry.window_records import WindowRecord

SETTLE_S = 2.0
"""Longer than the second over which drivers average power."""
IDLE_S = 5.0
"""Counters move every 20 to 100 ms, so this is good to about 2%."""


class Sampler:
    """One thread that looks at every sensor once a period while a window is open. Lives as long as a launch."""

    def __init__(
        self, sensors: Sequence[Sensor], period_s: float, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._sensors, self._period_s, self._clock = sensors, period_s, clock
        self._window: Window | None = None
        self._rested = False
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def begin(self, pid: int) -> None:
        """Open a window; one that was left open, because its cell failed, is dropped.

        Args:
            pid: root of the engine's processes.
        """
        with self._lock:
            self._window = Window(self._sensors, pid, self._clock)

    def pause(self) -> Window:
        """Put the window aside while other arms have their turns."""
        with self._lock:
            assert self._window is not None, "begin comes first"
            window, self._window = self._window, None
            window.pause()
        return window

    def resume(self, window: Window) -> None:
        """Go on with a window that was put aside."""
        with self._lock:
            window.resume()
            self._window = window

    def end(self, launch: int, arm: str, cell: CellKey | None) -> WindowRecord:
        """Close the window."""
        return self.pause().close(launch, arm, cell)

    def rest(self, launch: int, arm: str, pid: int, sleep: Callable[[float], None] = time.sleep) -> WindowRecord | None:
        """A warm engine at rest, once per launch; None after that, or where no sensor gives energy.

        This is the power to subtract where the question is what the work costs: weights resident, driver awake, no
        request. A host without an engine draws less, and the difference belongs to serving, not to a draft.
        """
        if self._rested or all(energy_problem(sensor) is not None for sensor in self._sensors):
            return None
        self._rested = True
        sleep(SETTLE_S)
        self.begin(pid)
        sleep(IDLE_S)
        return self.end(launch, arm, None)

    def _run(self) -> None:
        while not self._stop.wait(self._period_s):
            with self._lock:
                if self._window is not None:
                    self._window.look()


@contextlib.contextmanager
def open_sensors(gpus_used: Sequence[int] | None = None) -> Iterator[tuple[Sensor, ...]]:
    """Every sensor of this host that concerns engines; of the visible GPUs those used alone, None for all."""
    with gpu_sensors(os.environ.get("CUDA_VISIBLE_DEVICES"), gpus_used) as gpus:
        yield (*gpus, *rapl_sensors())


@contextlib.contextmanager
def open_sampler(period_s: float | None, gpus_used: Sequence[int] | None = None) -> Iterator[Sampler | None]:
    """A running sampler over every sensor of this host, as `open_sensors`; None if the suite wants no telemetry."""
    if period_s is None:
        yield None
        return
    with open_sensors(gpus_used) as sensors, Sampler(sensors, period_s) as sampler:
        yield sampler
