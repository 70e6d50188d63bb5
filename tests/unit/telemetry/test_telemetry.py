"""RAPL, processes, windows and the sampler's thread."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from draftbench.harness.records import CellKey
from draftbench.harness.telemetry.process import ProcessWatch
from draftbench.harness.telemetry.rapl import rapl_sensors
from draftbench.harness.telemetry.sampler import IDLE_S, SETTLE_S, Sampler, open_sampler
from draftbench.harness.telemetry.sensor import DeviceSample, energy_problem
from draftbench.harness.telemetry.window import Window
from draftbench.harness.units import NS_PER_S

CELL = CellKey(launch=2, block=0, arm="a", workload="w", concurrency=1)


def zone(folder: Path, name: str, uj: int) -> Path:
    folder.mkdir()
    (folder / "name").write_text(name + "\n")
    (folder / "energy_uj").write_text(f"{uj}\n")
    (folder / "max_energy_range_uj").write_text("262143328850\n")
    return folder


class Counter:
    """A sensor that gains 10 J a look and is lost at the given one."""

    name, kind, source = "package", "cpu", "rapl"

    def __init__(self, lost_at: int | None = None) -> None:
        self.looks, self._lost_at = 0, lost_at

    def read(self) -> DeviceSample:
        self.looks += 1
        if self.looks == self._lost_at:
            raise RuntimeError("gone")
        return DeviceSample(counter_j=10.0 * self.looks)


def test_rapl_counts_packages_and_memory_once(tmp_path):
    """Cores and uncore are parts of a package and psys holds everything, so they are left out."""
    for path, name in (("0", "package-0"), ("0:0", "core"), ("0:1", "uncore"), ("0:2", "dram"), ("1", "psys")):
        zone(tmp_path / f"intel-rapl:{path}", name, 5)
    zone(tmp_path / "intel-rapl-mmio:0", "package-0", 5)
    found = [(sensor.name, sensor.kind) for sensor in rapl_sensors(tmp_path)]
    assert found == [("intel-rapl:0 package-0", "cpu"), ("intel-rapl:0:2 dram", "memory")]
    assert rapl_sensors(tmp_path / "none") == ()


def test_rapl_counts_on_over_a_wrap(tmp_path):
    """1 J before the end of the range to 2 J after it is 3 J."""
    folder = zone(tmp_path / "intel-rapl:0", "package-0", 262143328850 - 1_000_000)
    (sensor,) = rapl_sensors(tmp_path)
    first = sensor.read().counter_j
    (folder / "energy_uj").write_text("2000000\n")
    assert first == 0
    assert sensor.read().counter_j == 3


def test_rapl_that_cannot_be_read_says_why(tmp_path):
    """The file's error is the reason."""
    folder = zone(tmp_path / "intel-rapl:0", "package-0", 0)
    (folder / "energy_uj").unlink()
    (folder / "energy_uj").mkdir()
    (sensor,) = rapl_sensors(tmp_path)
    assert "Is a directory" in (energy_problem(sensor) or "")


def test_rapl_behind_a_dangling_link_is_unreadable_not_absent(tmp_path):
    """Containers hide /sys/devices/virtual/powercap and leave the links to it."""
    (tmp_path / "intel-rapl:0").symlink_to(tmp_path / "hidden")
    (sensor,) = rapl_sensors(tmp_path)
    assert (sensor.name, sensor.source) == ("intel-rapl:0", None)
    assert "No such file" in (energy_problem(sensor) or "")


def test_a_sensor_that_dies_is_null_and_the_others_go_on():
    """It is not asked again, whatever it raised."""
    dying, living = Counter(lost_at=2), Counter()
    window = Window((dying, living), os.getpid(), clock=time.monotonic_ns)
    for _ in range(3):
        window.look()
    record = window.close(2, "a", CELL)
    dead, alive = record.devices
    assert (dead.energy_j, dead.reasons, dying.looks) == (None, {"energy_j": "gone"}, 2)
    assert (alive.energy_j, alive.reasons, alive.num_samples) == (40, {}, 3)
    assert (record.launch, record.arm, record.cell) == (2, "a", CELL)


def test_what_happens_while_others_have_their_turns_is_not_counted():
    """Two spans with a pause: energy and time of the spans alone."""
    sensor, ticks = Counter(), iter(range(0, 10**12, NS_PER_S))
    window = Window((sensor,), os.getpid(), clock=lambda: next(ticks))
    window.look()
    window.pause()
    for _ in range(5):
        sensor.read()
        next(ticks)
    window.resume()
    record = window.close(0, "a", CELL)
    (device,) = record.devices
    assert (device.energy_j, device.num_samples) == (20 + 10, 1)
    assert (record.watched_ns, record.paused_ns) == (2 * NS_PER_S, 6 * NS_PER_S)


def test_a_window_without_a_look_within_has_a_counters_energy_only():
    """Shorter than the period: the counter was read at both ends."""
    (device,) = Window((Counter(),), os.getpid(), clock=time.monotonic_ns).close(0, "a", None).devices
    assert (device.energy_j, device.num_samples) == (10, 0)


def test_an_engines_processes_are_counted_with_their_children():
    """A child that worked and ended within the window is counted by the parent that waited for it."""
    work = "import time; t = time.process_time()\nwhile time.process_time() - t < 0.2: pass"
    code = (
        f"import subprocess, sys; input(); subprocess.run([sys.executable, '-c', {work!r}]); print(flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as engine:
        assert engine.stdin is not None
        assert engine.stdout is not None
        watch = ProcessWatch(engine.pid)
        engine.stdin.write(b"\n")
        engine.stdin.flush()
        engine.stdout.readline()
        watch.look()
        usage = watch.usage()
        engine.kill()
    assert usage.engine_cpu_s is not None
    assert 0.2 <= usage.engine_cpu_s < 2
    assert usage.engine_peak_rss_bytes is not None
    assert usage.engine_peak_rss_bytes > 1e6
    assert 0 <= usage.host_cpu_share <= 1
    assert usage.reason is None


@pytest.mark.parametrize("waited_for", [False, True])
def test_an_engine_that_died_leaves_null_with_the_reason(waited_for):
    """Also while it is a zombie; the harness's own time stays."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as engine:
        watch = ProcessWatch(engine.pid)
        engine.kill()
        if waited_for:
            engine.wait()
        else:
            os.waitid(os.P_PID, engine.pid, os.WEXITED | os.WNOWAIT)
        usage = watch.usage()
    assert (usage.engine_cpu_s, usage.engine_peak_rss_bytes) == (None, None)
    assert str(engine.pid) in (usage.reason or "")
    assert usage.client_cpu_s >= 0


def test_the_thread_looks_once_a_period_while_a_window_is_open():
    """And not between windows; what it cost is told."""
    sensor = Counter()
    with Sampler((sensor,), period_s=0.01) as sampler:
        time.sleep(0.05)
        assert sensor.looks == 0
        sampler.begin(os.getpid())
        time.sleep(0.3)
        record = sampler.end(2, "a", CELL)
        looks = sensor.looks
        time.sleep(0.05)
    assert sensor.looks == looks
    assert 5 <= record.devices[0].num_samples <= 30
    assert 0 < record.telemetry_cpu_s < 0.1
    assert 0.3 <= (record.finished_ns - record.started_ns) / 1e9 < 0.5


def test_a_launch_is_measured_at_rest_once_and_only_where_energy_can_be_read():
    """After a time to settle; a host without a readable sensor does not wait for nothing."""
    slept: list[float] = []
    sampler = Sampler((Counter(),), period_s=1)
    rest = sampler.rest(1, "a", os.getpid(), slept.append)
    assert rest is not None
    assert (rest.launch, rest.arm, rest.cell, slept) == (1, "a", None, [SETTLE_S, IDLE_S])
    assert sampler.rest(1, "b", os.getpid(), slept.append) is None
    for sensors in ((), (Counter(lost_at=1),)):
        assert Sampler(sensors, period_s=1).rest(1, "a", os.getpid(), slept.append) is None


def test_no_period_means_no_telemetry():
    """The suite's null."""
    with open_sampler(None) as sampler:
        assert sampler is None
