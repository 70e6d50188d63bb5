"""GPUs by NVML, replayed: every trace is one second a look, written after NVML's calls, units and error codes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from draftbench.harness.metrics.energy import energy_j
from draftbench.harness.telemetry.nvml import gpu_sensors
from draftbench.harness.telemetry.sensor import energy_problem
from draftbench.harness.telemetry.window import Window
from draftbench.harness.telemetry.window_records import DeviceReading

TRACES = json.loads((Path(__file__).parent / "nvml_traces.json").read_text())
SHAPES = {
    "nvmlDeviceGetFieldValues": lambda mw: [SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=mw))],
    "nvmlDeviceGetUtilizationRates": lambda percent: SimpleNamespace(gpu=percent, memory=0),
    "nvmlDeviceGetMemoryInfo": lambda used: SimpleNamespace(used=used),
}


class Replay:
    """NVML with one GPU whose answers are those of a trace at `look`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.look = 0
        self._answers: list[dict[str, Any]] = []
        self._patch = monkeypatch
        for name in TRACES["healthy"][0]:
            monkeypatch.setattr(pynvml, name, lambda *_, name=name: self._answer(name))
        for name, value in (
            ("nvmlInit", None),
            ("nvmlShutdown", None),
            ("nvmlDeviceGetCount", 1),
            ("nvmlDeviceGetName", "NVIDIA H200"),
        ):
            monkeypatch.setattr(pynvml, name, lambda *_, value=value: value)
        for name in ("nvmlDeviceGetHandleByIndex", "nvmlDeviceGetHandleByUUID"):
            monkeypatch.setattr(pynvml, name, lambda which: which)

    def load(self, name: str) -> None:
        """A trace on top of the healthy one; what a look does not name stays as it was."""
        state: dict[str, Any] = {}
        for healthy, changes in zip(TRACES["healthy"], TRACES[name], strict=True):
            state = {**state, **healthy, **changes}
            self._answers.append(state)

    def count(self, num_gpus: int) -> None:
        """Alike GPUs in place of one."""
        self._patch.setattr(pynvml, "nvmlDeviceGetCount", lambda: num_gpus)

    def fail(self, name: str, code: int) -> None:
        """Let a call that is no part of traces fail."""

        def raises(*_: object) -> None:
            raise pynvml.NVMLError(code)

        self._patch.setattr(pynvml, name, raises)

    def _answer(self, name: str) -> Any:
        value = self._answers[self.look][name]
        if isinstance(value, dict):
            raise pynvml.NVMLError(value["error"])
        return SHAPES.get(name, lambda plain: plain)(value)


@pytest.fixture
def replay(monkeypatch) -> Replay:
    return Replay(monkeypatch)


def measured(replay: Replay, trace: str) -> DeviceReading:
    """One window over a whole trace."""
    replay.load(trace)
    with gpu_sensors(None) as sensors:
        window = Window(sensors, os.getpid(), clock=lambda: replay.look * 10**9)
        for replay.look in (1, 2):
            window.look()
        replay.look = 3
        (device,) = window.close(0, "a", None).devices
    return device


def test_energy_is_the_counters_difference_and_states_come_from_within_the_window(replay):
    """6,200 - 5,000 J; the idle clocks of the first and the last look are no part of the mean."""
    device = measured(replay, "healthy")
    assert (device.name, device.kind, device.source) == ("GPU 0 NVIDIA H200", "gpu", "nvml energy counter")
    assert device.energy_j == 1200
    assert (device.mean_power_w, device.mean_utilisation, device.peak_memory_bytes) == (400, 0.9, 9_500_000_000)
    assert (device.min_sm_clock_mhz, device.mean_sm_clock_mhz, device.max_sm_clock_mhz) == (1780, 1880, 1980)
    assert (device.max_temperature_c, device.clock_reasons) == (60, {"power cap": 0.5, "thermal slowdown": 0.5})
    assert (device.num_samples, device.reasons) == (2, {})


@pytest.mark.parametrize(
    ("trace", "said"),
    [
        ("counter_falls_back", "the counter fell from 5300.0 to 1.0 J, as it does when the driver is reset"),
        ("counter_falls_back_and_overtakes", "the counter fell from 90.0 to 10.0 J"),
        ("counter_refused_in_the_end", "Unknown Error"),
    ],
)
def test_a_broken_counter_gives_no_energy_but_the_rest(replay, trace, said):
    """Even if the counter has overtaken its first value by the window's end; power does not stand in silently."""
    device = measured(replay, trace)
    assert (device.source, device.energy_j) == ("nvml energy counter", None)
    assert said in device.reasons["energy_j"]
    assert (device.mean_power_w, list(device.reasons)) == (400, ["energy_j"])


@pytest.mark.parametrize(
    ("trace", "source"),
    [
        ("no_counter", "nvml power, 1 s average"),
        ("no_counter_no_average", "nvml power, averaging not stated"),
    ],
)
def test_without_a_counter_energy_is_power_by_name(replay, trace, source):
    """400 W for 3 s."""
    device = measured(replay, trace)
    assert (device.source, device.energy_j, device.reasons) == (source, 1200, {})


def test_a_gpu_lost_in_mid_window_is_null_with_the_reason(replay):
    """Nothing is told of it, not even of the looks before; it is not asked again when it comes back."""
    device = measured(replay, "lost")
    assert (device.energy_j, device.mean_power_w, device.peak_memory_bytes) == (None, None, None)
    assert set(device.reasons.values()) == {"GPU is lost"}
    assert {"energy_j", "clock_reasons"} <= set(device.reasons)


def test_a_refused_quantity_is_null_and_hides_no_other(replay):
    """Without permission for utilisation and clocks there is still energy."""
    device = measured(replay, "refused")
    assert device.energy_j == 1200
    assert device.reasons == dict.fromkeys(
        ("mean_utilisation", "mean_sm_clock_mhz", "min_sm_clock_mhz", "max_sm_clock_mhz"), "Insufficient Permissions"
    )


def test_no_driver_means_no_gpu_but_a_broken_driver_is_told(replay):
    """A driver that does not fit its library is a fault, not an absence."""
    for code in (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED):
        replay.fail("nvmlInit", code)
        with gpu_sensors(None) as sensors:
            assert sensors == ()
    replay.fail("nvmlInit", pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)
    with gpu_sensors(None) as (sensor,):
        assert "version mismatch" in (energy_problem(sensor) or "")


def test_gpus_that_cannot_be_counted_are_told(replay):
    """Nothing of NVML raises into a run."""
    replay.fail("nvmlDeviceGetCount", pynvml.NVML_ERROR_UNKNOWN)
    with gpu_sensors(None) as (sensor,):
        assert (sensor.kind, energy_problem(sensor)) == ("gpu", "NVML: Unknown Error")


def test_a_gpu_that_cannot_be_opened_is_a_device_with_a_reason(replay):
    """So that a sum over GPUs is missing rather than too small."""
    replay.fail("nvmlDeviceGetHandleByIndex", pynvml.NVML_ERROR_NO_PERMISSION)
    with gpu_sensors(None) as (sensor,):
        assert (sensor.name, sensor.kind, sensor.source) == ("GPU 0", "gpu", None)
        assert energy_problem(sensor) == "Insufficient Permissions"


@pytest.mark.parametrize(
    ("visible", "names"),
    [("1, GPU-abc", ["GPU 1", "GPU GPU-abc"]), ("", []), ("0,-1,2", ["GPU 0"])],
)
def test_only_the_gpus_that_engines_see_are_counted(replay, visible, names):
    """As CUDA reads CUDA_VISIBLE_DEVICES: what follows a name without meaning is hidden."""
    replay.load("healthy")
    with gpu_sensors(visible) as sensors:
        assert [sensor.name.removesuffix(" NVIDIA H200") for sensor in sensors] == names


@pytest.mark.parametrize(
    ("visible", "used", "names"),
    [
        (None, (0,), ["GPU 0"]),
        (None, (1, 3), ["GPU 1", "GPU 3"]),
        ("4,GPU-abc,7,6", (1, 2), ["GPU GPU-abc", "GPU 7"]),
        ("4,5", (0, 1, 2), ["GPU 4", "GPU 5", "visible GPU 2"]),
        ("", (0, 1), []),
    ],
)
def test_the_gpus_of_an_engine_are_counted_and_no_others(replay, visible, used, names):
    """Its numbers are among the visible ones; one that is not there makes the sum missing rather than too small."""
    replay.load("healthy")
    replay.count(8)
    with gpu_sensors(visible, used) as sensors:
        assert [sensor.name.removesuffix(" NVIDIA H200") for sensor in sensors] == names
        problems = [energy_problem(sensor) for sensor in sensors]
    assert problems == ["CUDA_VISIBLE_DEVICES does not show it" if "visible" in name else None for name in names]


def test_joules_are_summed_over_the_gpus_in_use(replay):
    """Two of eight, 1,200 J each."""
    replay.load("healthy")
    replay.count(8)
    with gpu_sensors(None, (2, 3)) as sensors:
        window = Window(sensors, os.getpid(), clock=lambda: replay.look * 10**9)
        for replay.look in (1, 2):
            window.look()
        replay.look = 3
        record = window.close(0, "a", None)
    assert energy_j([record]).value == 2400
