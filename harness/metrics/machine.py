"""What the machine did while a row was measured: power and clocks over time, and what the harness itself took."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from draftbench.harness.telemetry.window_records import WindowRecord
from draftbench.harness.units import seconds


@dataclass(frozen=True)
class Moment:
    """Mean power and SM clock of all GPUs in one cell, at the seconds since the run began."""

    at_s: float
    power_w: float
    sm_clock_mhz: float


@dataclass(frozen=True)
class HostLoad:
    """Processor seconds and memory that the harness and an engine took over a row's windows."""

    client_cpu_s: float
    telemetry_cpu_s: float
    engine_cpu_s: float | None
    engine_peak_rss_bytes: int | None
    host_cpu_share: float


def over_time(windows: Iterable[WindowRecord], began_ns: int) -> tuple[Moment, ...]:
    """Every window that has power and clocks."""
    found = []
    for window in windows:
        power = [device.mean_power_w for device in window.devices if device.mean_power_w is not None]
        clocks = [device.mean_sm_clock_mhz for device in window.devices if device.mean_sm_clock_mhz is not None]
        if power and clocks:
            at_s = seconds((window.started_ns + window.finished_ns) // 2 - began_ns)
            found.append(Moment(at_s, sum(power), fmean(clocks)))
    return tuple(found)


def host_load(windows: Sequence[WindowRecord]) -> HostLoad | None:
    """Over all windows; None without telemetry."""
    if not windows:
        return None
    used = [window.processes for window in windows]
    engine_s = [each.engine_cpu_s for each in used if each.engine_cpu_s is not None]
    memory = [each.engine_peak_rss_bytes for each in used if each.engine_peak_rss_bytes is not None]
    return HostLoad(
        client_cpu_s=sum(each.client_cpu_s for each in used),
        telemetry_cpu_s=sum(window.telemetry_cpu_s for window in windows),
        engine_cpu_s=sum(engine_s) if engine_s else None,
        engine_peak_rss_bytes=max(memory, default=None),
        host_cpu_share=fmean(each.host_cpu_share for each in used),
    )
