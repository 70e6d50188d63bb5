"""Energy of measured windows. What it finds concerns joules only, never the throughput of the same cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from draftbench.harness.records import RequestRecord
from draftbench.harness.telemetry.window_records import DeviceReading, WindowRecord
from draftbench.harness.units import seconds

MIN_WINDOW_S = 30.0
"""Energy counters move every 20 to 100 ms and sampled power lags by up to a second."""
HELD_BACK = ("power cap", "hardware slowdown", "thermal slowdown", "hardware thermal slowdown", "power brake")
"""Clock reasons by which a GPU runs slower than it is set to; being idle or set to a clock is none."""
MAX_SHARE_HELD_BACK = 0.01
MAX_CLOCK_RATIO = 1.02


@dataclass(frozen=True)
class Figure:
    """A number, or the reason why there is none."""

    value: float | None
    reason: str | None = None


@dataclass(frozen=True)
class WhyNoEnergy:
    """Why there are no joules per token, gross or net; None where there are."""

    gross_reason: str | None
    net_reason: str | None


def energy_j(windows: Sequence[WindowRecord]) -> Figure:
    """Joules of all windows: Σ over the GPUs, on a host without one over CPU packages and their memory."""
    return _sum([_device_energy(window, device) for window in windows for device in _counted(window)])


def joules_per_token(windows: Sequence[WindowRecord], requests: Sequence[RequestRecord]) -> Figure:
    """Gross joules per delivered token; the tokens are those of the output throughput.

    Args:
        windows: of the cells that the requests belong to, and of no others.
    """
    return _per_token(energy_j(windows), windows, requests)


def net_joules_per_token(
    windows: Sequence[WindowRecord], rests: Iterable[WindowRecord], requests: Sequence[RequestRecord]
) -> Figure:
    """Joules per delivered token above what the same devices draw at rest, engine resident; may be below 0 by noise.

    Args:
        rests: the windows without a cell, of all launches.
    """
    idle = idle_w(rests)
    return _per_token(_sum([_net_j(window, idle) for window in windows]), windows, requests)


def idle_w(rests: Iterable[WindowRecord]) -> dict[tuple[int, str], Figure]:
    """Watts at rest by launch and device; of a launch that was measured twice, being resumed, the last."""
    return {
        (rest.launch, device.name): _scaled(_device_energy(rest, device), 1 / _duration_s(rest))
        for rest in rests
        for device in _counted(rest)
    }


def too_short(windows: Iterable[WindowRecord]) -> str | None:
    """Evidence that a window is too short for its energy to be trusted."""
    shortest = min((_duration_s(window) for window in windows), default=MIN_WINDOW_S)
    if shortest >= MIN_WINDOW_S:
        return None
    return f"the shortest window took {shortest:.1f} s; energy needs {MIN_WINDOW_S:.0f} s or more"


def different_sources(windows: Iterable[WindowRecord], baseline: Iterable[WindowRecord]) -> str | None:
    """Evidence that joules were read in another way than the baseline's."""
    ours, theirs = _sources(windows), _sources(baseline)
    if ours == theirs or not theirs:
        return None
    return f"energy from {', '.join(sorted(ours)) or 'nothing'}, vanilla's from {', '.join(sorted(theirs))}"


def held_back(windows: Sequence[WindowRecord]) -> str | None:
    """Evidence that a GPU ran below its clocks: device, reason and the largest share of a window's samples."""
    worst: dict[tuple[str, str], float] = {}
    for window in windows:
        for device in window.devices:
            for reason, share in (device.clock_reasons or {}).items():
                if reason in HELD_BACK and share > MAX_SHARE_HELD_BACK:
                    worst[device.name, reason] = max(share, worst.get((device.name, reason), 0.0))
    told = (f"{name}: {reason} in {share:.0%} of the samples" for (name, reason), share in sorted(worst.items()))
    return "; ".join(told) or None


def unequal_clocks(windows: Sequence[WindowRecord], baseline: Sequence[WindowRecord]) -> str | None:
    """Evidence that a GPU's mean SM clock was not the baseline's."""
    ours, theirs = _mean_clocks(windows), _mean_clocks(baseline)
    told = []
    for name in sorted(ours.keys() & theirs.keys()):
        low, high = sorted((ours[name], theirs[name]))
        if high > low * MAX_CLOCK_RATIO:
            told.append(f"{name}: mean SM clock {ours[name]:.0f} MHz, vanilla had {theirs[name]:.0f}")
    return "; ".join(told) or None


def _counted(window: WindowRecord) -> tuple[DeviceReading, ...]:
    """The devices whose energy a window is charged with."""
    return tuple(device for device in window.devices if device.kind == "gpu") or window.devices


def _device_energy(window: WindowRecord, device: DeviceReading) -> Figure:
    if device.energy_j is None:
        return Figure(None, f"{device.name}: {device.reasons['energy_j']}")
    return Figure(device.energy_j)


def _net_j(window: WindowRecord, idle: Mapping[tuple[int, str], Figure]) -> Figure:
    nothing = Figure(None, f"launch {window.launch} was not measured at rest")
    rests = [idle.get((window.launch, device.name), nothing) for device in _counted(window)]
    return _sum([energy_j([window]), *(_scaled(watts, -_duration_s(window)) for watts in rests)])


def _per_token(energy: Figure, windows: Sequence[WindowRecord], requests: Sequence[RequestRecord]) -> Figure:
    cells = {request.cell for request in requests}
    missing = cells - {window.cell for window in windows}
    if missing:
        return Figure(None, f"{len(missing)} of {len(cells)} cells have no telemetry")
    num_tokens = sum(request.num_output_tokens for request in requests if request.error is None)
    return _scaled(energy, 1 / num_tokens) if num_tokens else Figure(None, "no token was delivered")


def _sum(parts: Sequence[Figure]) -> Figure:
    """Their sum; None with the first reason if one of them is missing."""
    if not parts:
        return Figure(None, "no energy sensor")
    missing = next((part for part in parts if part.value is None), None)
    return missing or Figure(sum(part.value for part in parts if part.value is not None))


def _scaled(figure: Figure, factor: float) -> Figure:
    return figure if figure.value is None else Figure(figure.value * factor)


def _duration_s(window: WindowRecord) -> float:
    return seconds(window.watched_ns)


def _sources(windows: Iterable[WindowRecord]) -> set[str]:
    return {device.source for window in windows for device in _counted(window) if device.source is not None}


def _mean_clocks(windows: Sequence[WindowRecord]) -> dict[str, float]:
    clocks: dict[str, list[float]] = {}
    for window in windows:
        for device in window.devices:
            if device.mean_sm_clock_mhz is not None:
                clocks.setdefault(device.name, []).append(device.mean_sm_clock_mhz)
    return {name: fmean(values) for name, values in clocks.items()}
