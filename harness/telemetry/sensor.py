"""What a sensor is: a device with a name that can be looked at, and what one look gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from draftbench.harness.telemetry.window_records import DeviceKind, EnergySource


@dataclass(frozen=True)
class DeviceSample:
    """One look at a device; None where it did not answer, with the reason in `problems` under the same name."""

    counter_j: float | None = None
    """Energy since some moment in the past; only differences mean anything."""
    power_w: float | None = None
    utilisation: float | None = None
    """Share of time in which a kernel ran, 0 to 1."""
    memory_bytes: int | None = None
    sm_clock_mhz: int | None = None
    temperature_c: int | None = None
    clock_reasons: tuple[str, ...] | None = None
    """Why the clock is not higher, in NVML's words."""
    problems: Mapping[str, str] = field(default_factory=dict)


class Sensor(Protocol):
    """One device."""

    @property
    def name(self) -> str:
        """The same in every window of a run."""
        ...

    @property
    def kind(self) -> DeviceKind:
        """What it measures."""
        ...

    @property
    def source(self) -> EnergySource | None:
        """Where its energy comes from, chosen once so that every window has the same; None if it cannot be opened."""
        ...

    def read(self) -> DeviceSample:
        """Look at the device. Any exception means that it is lost, its text is the reason."""
        ...


@dataclass(frozen=True)
class Unreadable:
    """A device that is there but cannot be opened."""

    name: str
    kind: DeviceKind
    reason: str
    source: None = None

    def read(self) -> DeviceSample:
        """Tell the reason."""
        raise OSError(self.reason)


def energy_problem(sensor: Sensor) -> str | None:
    """Why a device gives no energy now; None if it does."""
    try:
        sample = sensor.read()
    except Exception as error:  # whatever a driver throws must not end a run
        return why(error)
    return sample.problems.get(energy_quantity(sensor))


def energy_quantity(sensor: Sensor) -> Literal["counter_j", "power_w"]:
    """The quantity of a sensor's samples that its energy comes from."""
    return "counter_j" if sensor.source in (None, "nvml energy counter", "rapl") else "power_w"


def why(error: Exception) -> str:
    """An exception as a reason."""
    return str(error) or type(error).__name__
