"""NVML on a real GPU; skipped where there is none."""

from __future__ import annotations

import os
import time

import pytest

from draftbench.harness.host.provenance import has_gpu
from draftbench.harness.telemetry.nvml import gpu_sensors
from draftbench.harness.telemetry.sampler import Sampler

pytestmark = pytest.mark.skipif(not has_gpu(), reason="no NVIDIA GPU")


def test_every_gpu_gives_energy_that_fits_its_power():
    """At rest for 5 s: the counter's mean power is within a quarter of the sampled one, and no field is missing."""
    with gpu_sensors(None) as sensors, Sampler(sensors, period_s=0.1) as sampler:
        sampler.begin(os.getpid())
        time.sleep(5)
        record = sampler.end(0, "rest", None)
    assert record.devices
    for device in record.devices:
        assert device.reasons == {}
        assert device.energy_j is not None
        assert device.energy_j / 5 == pytest.approx(device.mean_power_w, rel=0.25)
    assert record.telemetry_cpu_s < 0.25
