"""What a launch runs on: a GPU or a share of a host's cores, and what makes two of them identical."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from draftbench.harness.errors import EngineError
from draftbench.harness.host.gpu import read_gpu_host, visible_numbers
from draftbench.harness.host.provenance import host
from draftbench.harness.records import Record

COMPARED = {
    "gpus": "GPUs",
    "gpu": "GPU",
    "gpu_memory_gib": "GPU memory in GiB",
    "gpu_power_limit_w": "power limit in W",
    "gpu_driver": "GPU driver",
    "cpu": "processor",
    "cores": "cores",
    "system": "system",
    "python": "Python",
}
"""What identical devices have in common, and what it is called."""


class Device(Record):
    """One GPU, or some together, with what its host gives it; or cores alone."""

    gpus: int = 0
    gpu: str | None = None
    gpu_memory_gib: float | None = None
    gpu_power_limit_w: float | None = None
    gpu_driver: str | None = None
    cpu: str
    cores: int
    system: str
    python: str

    @property
    def name(self) -> str:
        """In a few words, as tables have it."""
        if self.gpu is None:
            return f"{self.cpu}, {self.cores} core{'' if self.cores == 1 else 's'}"
        return self.gpu if self.gpus == 1 else f"{self.gpus} x {self.gpu}"


def this_device() -> Device:
    """What this process may use: the GPUs that are visible to it, the cores that it may run on."""
    facts, here = host(), read_gpu_host()
    gpus = [here.gpus[number] for number in visible_numbers(here)]
    found: dict[str, Any] = {}
    if gpus:
        first = gpus[0]
        found = {
            "gpus": len(gpus),
            "gpu": ", ".join(dict.fromkeys(gpu.name for gpu in gpus)),
            "gpu_memory_gib": round(first.total_bytes / 2**30, 1),
            "gpu_power_limit_w": first.power_limit_w,
            "gpu_driver": here.driver,
        }
    return Device(
        **found,
        cpu=str(facts.cpu),
        cores=len(os.sched_getaffinity(0)),
        system=str(facts.system),
        python=str(facts.python),
    )


def unequal(first: Device, other: Device) -> list[str]:
    """What of two devices differs, a phrase each with both values."""
    pairs = {name: (getattr(first, name), getattr(other, name)) for name in COMPARED}
    return [f"{COMPARED[name]} {mine} and {theirs}" for name, (mine, theirs) in pairs.items() if mine != theirs]


def labels(devices: Mapping[int, Device]) -> dict[int, str]:
    """Every launch's device in words that are equal where the devices are identical, and only there.

    Args:
        devices: by launch.
    """
    kinds = list(dict.fromkeys(devices[launch] for launch in sorted(devices)))
    found: dict[Device, str] = {}
    for kind in kinds:
        first = next(other for other in kinds if other.name == kind.name)
        more = [
            f"{COMPARED[name]} {getattr(kind, name)}"
            for name in COMPARED
            if getattr(kind, name) != getattr(first, name)
        ]
        found[kind] = kind.name + (f" ({', '.join(more)})" if more else "")
    return {launch: found[device] for launch, device in devices.items()}


def check_identical(devices: Mapping[str, Device]) -> None:
    """Find out whether launches may be spread over devices.

    Args:
        devices: by where they are; the first is what the others are held against.

    Raises:
        EngineError: one is of another kind than the first.
    """
    (first, device), *others = devices.items()
    for where, other in others:
        if found := unequal(device, other):
            raise EngineError(
                f"{first} and {where} are not identical: {'; '.join(found)}. Launches on them would not be repetitions "
                "of one another: give identical ones, or say devices: any in the suite, then every kind has rows of "
                "its own."
            )
