"""Energy by hand: sums over devices and windows, joules a token, and every reason for having none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from draftbench.harness.metrics.energy import (
    different_sources,
    energy_j,
    held_back,
    joules_per_token,
    net_joules_per_token,
    too_short,
    unequal_clocks,
)
from draftbench.harness.records import CellKey
from draftbench.harness.telemetry.window_records import DeviceReading, ProcessUsage, WindowRecord

USAGE = ProcessUsage(client_cpu_s=0.1, engine_cpu_s=1.0, engine_peak_rss_bytes=1, host_cpu_share=0.5, reason=None)


def device(energy: float | None, name: str = "GPU 0", kind: Any = "gpu", **changes: Any) -> DeviceReading:
    reasons = {} if energy is not None else {"energy_j": "GPU is lost"}
    source = "rapl" if kind == "cpu" else "nvml energy counter"
    fields = {"name": name, "kind": kind, "source": source, "energy_j": energy, "num_samples": 9, "reasons": reasons}
    return DeviceReading(**{**fields, **changes})


def window(*devices: DeviceReading, cell: CellKey | None = None, launch: int = 0, took_s: int = 40) -> WindowRecord:
    return WindowRecord(
        launch=launch,
        arm="a",
        cell=cell,
        started_ns=0,
        finished_ns=took_s * 10**9,
        devices=devices,
        processes=USAGE,
        telemetry_cpu_s=0.0,
    )


@pytest.fixture
def request_(request_record: Callable[..., Any]) -> Any:
    """Four tokens."""
    return request_record()


def test_energy_is_that_of_the_gpus_where_there_are_any():
    """Else of the CPU packages: 100 + 50 + 20 J, and 7 J."""
    cpu = device(7, "package-0", "cpu")
    assert energy_j([window(device(100), device(50, "GPU 1"), cpu), window(device(20), cpu)]).value == 170
    assert energy_j([window(cpu)]).value == 7


def test_energy_is_missing_with_the_first_reason_if_any_part_is():
    """A lost GPU is not 0 J, and CPU packages do not stand in for it."""
    lost = energy_j([window(device(100), device(None, "GPU 1"), device(7, "package-0", "cpu"))])
    assert (lost.value, lost.reason) == (None, "GPU 1: GPU is lost")
    assert energy_j([window()]).reason == "no energy sensor"
    assert energy_j([]).value is None


def test_joules_per_token_gross_and_net(request_):
    """100 J over 4 tokens; at rest 50 J in 40 s are 1.25 W, so 50 J of a 40 s window are the work's."""
    windows, rests = [window(device(100), cell=request_.cell)], [window(device(50))]
    assert joules_per_token(windows, [request_]).value == 25
    assert net_joules_per_token(windows, rests, [request_]).value == 12.5


def test_the_last_rest_of_the_windows_own_launch_counts(request_):
    """A resumed launch is measured at rest again; without a rest of the launch there is no net."""
    windows = [window(device(100), cell=request_.cell)]
    rests = [window(device(50)), window(device(20)), window(device(90), launch=1)]
    assert net_joules_per_token(windows, rests, [request_]).value == 20
    assert net_joules_per_token(windows, rests[2:], [request_]).reason == "launch 0 was not measured at rest"
    assert net_joules_per_token(windows, [window(device(None))], [request_]).reason == "GPU 0: GPU is lost"


def test_joules_per_token_need_every_cells_window_and_a_token(request_, request_record):
    """Failed requests deliver no token that counts."""
    windows = [window(device(100), cell=request_.cell)]
    other = request_record(block=1)
    assert joules_per_token(windows, [request_, other]).reason == "1 of 2 cells have no telemetry"
    failed = request_record(error="x", finish_reason="failed")
    assert joules_per_token(windows, [failed]).reason == "no token was delivered"
    assert joules_per_token([], []).value is None


def test_windows_below_30_seconds_are_told():
    """The counter's steps would show."""
    assert too_short([window(), window(took_s=12)]) == "the shortest window took 12.0 s; energy needs 30 s or more"
    assert too_short([window(took_s=30)]) is None
    assert too_short([]) is None


def test_gpus_held_back_by_heat_or_power_are_told():
    """Idle and set clocks hold nothing back."""
    hot = device(1, clock_reasons={"thermal slowdown": 0.25, "idle": 0.5, "power cap": 0.005})
    assert held_back([window(device(1)), window(hot)]) == "GPU 0: thermal slowdown in 25% of the samples"
    assert held_back([window(device(1, clock_reasons={"idle": 1.0}))]) is None


def test_clocks_and_sources_unlike_the_baselines_are_told():
    """Where one of the two is unknown nothing is claimed."""
    slow, fast = (window(device(1, mean_sm_clock_mhz=clock)) for clock in (1800.0, 1980.0))
    assert unequal_clocks([slow], [fast]) == "GPU 0: mean SM clock 1800 MHz, vanilla had 1980"
    assert unequal_clocks([slow], [slow]) is None
    assert unequal_clocks([window(device(1))], [fast]) is None
    sampled = window(device(1, source="nvml power, 1 s average"))
    said = "energy from nvml power, 1 s average, vanilla's from nvml energy counter"
    assert different_sources([sampled], [slow]) == said
    assert different_sources([slow], [fast]) is None
