"""NVIDIA GPUs through NVML."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from typing import Any, Literal

import pynvml

from draftbench.harness.telemetry.sensor import DeviceSample, Sensor, Unreadable, why
from draftbench.harness.telemetry.window_records import EnergySource

CLOCK_REASONS = {
    pynvml.nvmlClocksEventReasonGpuIdle: "idle",
    pynvml.nvmlClocksEventReasonApplicationsClocksSetting: "application clocks",
    pynvml.nvmlClocksEventReasonSwPowerCap: "power cap",
    pynvml.nvmlClocksEventReasonHwSlowdown: "hardware slowdown",
    pynvml.nvmlClocksEventReasonSyncBoost: "sync boost",
    pynvml.nvmlClocksEventReasonSwThermalSlowdown: "thermal slowdown",
    pynvml.nvmlClocksEventReasonHwThermalSlowdown: "hardware thermal slowdown",
    pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown: "power brake",
    pynvml.nvmlClocksEventReasonDisplayClockSetting: "display clocks",
}


class GpuSensor:
    """One GPU. Its energy is the driver's counter, or sampled power where there is none."""

    kind: Literal["gpu"] = "gpu"

    def __init__(self, handle: Any, name: str) -> None:
        self._handle, self.name = handle, name
        averaged = _answers(_average_power_w, handle)
        self._quantities: dict[str, Callable[[Any], Any]] = {
            "power_w": _average_power_w if averaged else _power_w,
            "utilisation": lambda gpu: pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100,
            "memory_bytes": lambda gpu: pynvml.nvmlDeviceGetMemoryInfo(gpu).used,
            "sm_clock_mhz": lambda gpu: pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_SM),
            "temperature_c": lambda gpu: pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU),
            "clock_reasons": _clock_reasons,
        }
        self.source: EnergySource = "nvml power, 1 s average" if averaged else "nvml power, averaging not stated"
        if _answers(_counter_j, handle):
            self._quantities["counter_j"] = _counter_j
            self.source = "nvml energy counter"

    def read(self) -> DeviceSample:
        """Ask for every quantity; one that is refused does not hide the others, a lost GPU is lost as a whole."""
        values: dict[str, Any] = {}
        problems: dict[str, str] = {}
        for name, ask in self._quantities.items():
            try:
                values[name] = ask(self._handle)
            except pynvml.NVMLError_GpuIsLost:
                raise
            except pynvml.NVMLError as error:
                problems[name] = why(error)
        return DeviceSample(**values, problems=problems)


@contextlib.contextmanager
def gpu_sensors(visible: str | None, used: Sequence[int] | None = None) -> Iterator[tuple[Sensor, ...]]:
    """The GPUs that engines use, while NVML is open; none where there is no driver.

    Args:
        visible: the environment's CUDA_VISIBLE_DEVICES: numbers (as NVML counts, in PCI order) or UUIDs; None for all.
        used: numbers among the visible ones, of those that engines run on; None for all that are visible.
    """
    with contextlib.ExitStack() as stack:
        yield _open_all(visible, used, stack)


def _open_all(visible: str | None, used: Sequence[int] | None, stack: contextlib.ExitStack) -> tuple[Sensor, ...]:
    try:
        pynvml.nvmlInit()
        stack.callback(_shut_down)
        names = dict(enumerate(_visible(visible)))
        if used is None or not names:
            return tuple(map(_open, names.values()))
        hidden = "CUDA_VISIBLE_DEVICES does not show it"
        return tuple(
            _open(names[number]) if number in names else Unreadable(f"visible GPU {number}", "gpu", hidden)
            for number in used
        )
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):
        return ()
    except pynvml.NVMLError as error:
        return (Unreadable("GPUs", "gpu", f"NVML: {why(error)}"),)


def _shut_down() -> None:
    with contextlib.suppress(pynvml.NVMLError):  # a lost GPU may refuse even that
        pynvml.nvmlShutdown()


def _visible(visible: str | None) -> list[str]:
    if visible is None:
        return [str(index) for index in range(pynvml.nvmlDeviceGetCount())]
    names = (name.strip() for name in visible.split(","))
    # CUDA stops at the first name that means nothing, such as -1 or an empty one.
    return list(takewhile(lambda name: name and not name.startswith("-"), names))


def _open(name: str) -> Sensor:
    by_index = name.isdigit()
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(int(name)) if by_index else pynvml.nvmlDeviceGetHandleByUUID(name)
        return GpuSensor(handle, f"GPU {name} {pynvml.nvmlDeviceGetName(handle)}")
    except pynvml.NVMLError as error:
        return Unreadable(f"GPU {name}", "gpu", why(error))


def _answers(ask: Callable[[Any], Any], handle: Any) -> bool:
    try:
        ask(handle)
    except pynvml.NVMLError:
        return False
    return True


def _counter_j(handle: Any) -> float:
    """64 bits of millijoules: it does not wrap, but starts anew when the driver does."""
    return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3)


def _average_power_w(handle: Any) -> float:
    """Mean of the last second: Ampere without GA100, and newer."""
    value = pynvml.nvmlDeviceGetFieldValues(handle, [pynvml.NVML_FI_DEV_POWER_AVERAGE])[0]
    if value.nvmlReturn != pynvml.NVML_SUCCESS:
        raise pynvml.NVMLError(value.nvmlReturn)
    return float(value.value.uiVal / 1e3)


def _power_w(handle: Any) -> float:
    """Of the moment or of the last second, depending on GPU and driver."""
    return float(pynvml.nvmlDeviceGetPowerUsage(handle) / 1e3)


def _clock_reasons(handle: Any) -> tuple[str, ...]:
    bits = pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle)
    return tuple(name for bit, name in CLOCK_REASONS.items() if bits & bit)
