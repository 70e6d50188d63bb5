"""What the doctor says of sensors."""

from __future__ import annotations

import contextlib

import pytest

from draftbench.harness.host import doctor
from draftbench.harness.telemetry.sensor import DeviceSample, Unreadable


class Readable:
    """A GPU with a counter."""

    name, kind, source = "GPU 0", "gpu", "nvml energy counter"

    def read(self) -> DeviceSample:
        return DeviceSample(counter_j=1.0)


@pytest.mark.parametrize(
    ("sensors", "said"),
    [
        ((), ["energy: no GPU and no RAPL zone in /sys/class/powercap; joules are left out"]),
        (
            (Readable(), Unreadable("package-0", "cpu", "Permission denied: 'energy_uj'")),
            [
                "energy of GPU 0: nvml energy counter",
                "energy of package-0: not readable (Permission denied: 'energy_uj'); let your user read it: "
                "sudo chmod a+r",
            ],
        ),
    ],
)
def test_sensors_are_named_with_what_keeps_them_from_being_read(monkeypatch, sensors, said):
    """Missing ones are no fault: a run goes on without joules."""
    monkeypatch.setattr(doctor, "open_sensors", lambda: contextlib.nullcontext(sensors))
    findings = doctor._sensors()
    assert [finding.text for finding in findings] == said
    assert all(finding.ok for finding in findings)
