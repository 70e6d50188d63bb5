"""What telemetry writes down: the devices and the host in one window, a cell's or a launch's at rest."""

from __future__ import annotations

from typing import Literal

from draftbench.harness.records import CellKey, Line, Record

DeviceKind = Literal["gpu", "cpu", "memory"]
EnergySource = Literal["nvml energy counter", "nvml power, 1 s average", "nvml power, averaging not stated", "rapl"]


class DeviceReading(Record):
    """One device in one window. CPU packages and their memory have energy only."""

    name: str
    kind: DeviceKind
    source: EnergySource | None
    """Where the energy comes from; None if the device could not be opened."""
    energy_j: float | None = None
    mean_power_w: float | None = None
    """Of the samples; beside a counter's energy a check on it."""
    mean_utilisation: float | None = None
    """Share of time in which a kernel ran, 0 to 1."""
    peak_memory_bytes: int | None = None
    """On the whole device, whoever uses it."""
    mean_sm_clock_mhz: float | None = None
    min_sm_clock_mhz: int | None = None
    max_sm_clock_mhz: int | None = None
    max_temperature_c: int | None = None
    clock_reasons: dict[str, float] | None = None
    """Why the clock was not higher, with the share of samples."""
    num_samples: int
    reasons: dict[str, str]
    """Why a field is None, by the field's name."""


class ProcessUsage(Record):
    """What the harness and an engine took of the host in one window."""

    client_cpu_s: float
    """Processor seconds of the harness itself, telemetry included."""
    engine_cpu_s: float | None
    engine_peak_rss_bytes: int | None
    """Largest sum over the engine's processes; pages that they share count for each."""
    host_cpu_share: float
    """Busy share of all processors, whoever uses them, 0 to 1."""
    reason: str | None
    """Why the engine's fields are None."""


class WindowRecord(Line):
    """Telemetry of one cell, or of a launch at rest: its first engine resident, warm and without a request.

    A cell's window begins just before its first send and ends just after its last record, so it holds the throughput's
    window and some milliseconds of the harness's own.
    """

    launch: int
    arm: str
    cell: CellKey | None
    """None for a launch at rest."""
    started_ns: int
    finished_ns: int
    paused_ns: int = 0
    """Time within in which nothing was watched, because other arms had their turns."""
    devices: tuple[DeviceReading, ...]
    processes: ProcessUsage
    telemetry_cpu_s: float
    """Processor seconds that telemetry itself took."""

    @property
    def watched_ns(self) -> int:
        """For how long there was a look at the devices."""
        return self.finished_ns - self.started_ns - self.paused_ns
