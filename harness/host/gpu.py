"""NVIDIA GPUs of this host, as their driver tells them, and what of it does not fit the pinned CUDA build."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from itertools import takewhile

import pynvml

from draftbench.harness.places import setup_command

CUDA_TORCH = "2.11.0"
"""What SGLang 0.5.17 asks for on CUDA; its kernels are built against that version's binary interface."""
LEAST_DRIVER = (580, 65)
"""Of CUDA 13.0, for which torch 2.11.0 is built. Source: CUDA 13.0's release notes, drivers for Linux."""
LEAST_CAPABILITY = (8, 0)
"""Oldest chips that sglang-kernel 0.4.5 has code for."""
MOST_TAKEN = 0.1
"""Of a GPU's memory that may be taken before anything of ours starts; more is another program's."""


@dataclass(frozen=True)
class Gpu:
    """One GPU; memory in bytes, `capability` is CUDA's."""

    name: str
    total_bytes: int
    free_bytes: int
    capability: tuple[int, int]
    power_limit_w: float | None = None
    """None where the driver does not tell."""


@dataclass(frozen=True)
class GpuHost:
    """What the driver says: its version, its GPUs, and why there are none to be read, if it says that."""

    driver: str | None
    gpus: tuple[Gpu, ...]
    problem: str | None = None


def read_gpu_host() -> GpuHost:
    """Ask the driver; a host without one has neither GPUs nor a problem."""
    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):
        return GpuHost(None, ())
    except pynvml.NVMLError as error:
        return GpuHost(None, (), f"NVIDIA's driver does not answer ({error})")
    driver = None
    try:
        driver = str(pynvml.nvmlSystemGetDriverVersion())
        return GpuHost(driver, tuple(_gpu(index) for index in range(pynvml.nvmlDeviceGetCount())))
    except pynvml.NVMLError as error:
        return GpuHost(driver, (), f"NVIDIA's driver cannot read its GPUs ({error})")
    finally:
        with contextlib.suppress(pynvml.NVMLError):  # a lost GPU may refuse even that
            pynvml.nvmlShutdown()


def _gpu(index: int) -> Gpu:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    capability = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    limit_w = None
    with contextlib.suppress(pynvml.NVMLError):
        limit_w = round(pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000, 1)
    name = str(pynvml.nvmlDeviceGetName(handle))
    return Gpu(name, memory.total, memory.free, (capability[0], capability[1]), limit_w)


def installed_torch() -> str | None:
    """Version of torch in this environment, without importing it; None if there is none."""
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return None


def visible_numbers(host: GpuHost) -> tuple[int, ...]:
    """The GPUs that CUDA_VISIBLE_DEVICES shows, by the driver's numbers; all where it is unset or has other names."""
    names = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    if not all(name.isdigit() for name in names):
        return tuple(range(len(host.gpus)))
    return tuple(takewhile(lambda number: number < len(host.gpus), map(int, names)))


def gpu_problems(host: GpuHost, torch: str | None, used: Sequence[int] = (0,)) -> tuple[str, ...]:
    """What keeps SGLang's CUDA build from running on this host's GPUs, a sentence each with what mends it.

    Args:
        used: the numbers that engines take of the visible ones.
    """
    if not host.gpus:
        return () if host.problem is None else (f"{host.problem}; mend the driver, or hide it to run on the CPU.",)
    found = []
    if torch is None or torch.split("+")[0] != CUDA_TORCH:
        found.append(
            f"torch is {torch or 'not installed'}, SGLang's CUDA kernels are built for {CUDA_TORCH}; "
            f"{setup_command('cuda')}."
        )
    elif "+cpu" in torch:
        found.append(f"torch {torch} cannot use a GPU; {setup_command('cuda')}.")
    needed = ".".join(map(str, LEAST_DRIVER))
    if _version(host.driver or "") < LEAST_DRIVER:
        found.append(f"the driver is {host.driver or 'of unknown version'}, CUDA 13.0 needs {needed}; update it.")
    num_visible = len(visible_numbers(host))
    if max(used) >= num_visible:
        found.append(
            f"the suite's engines take the visible GPUs {', '.join(map(str, used))}, counted from 0, but {num_visible} "
            "of them are there; take fewer (target.tensor_parallel, engine arguments), or show more "
            "(CUDA_VISIBLE_DEVICES)."
        )
    first = host.gpus[0]
    if first.capability < LEAST_CAPABILITY:
        text = ".".join(map(str, first.capability))
        found.append(f"{first.name} has compute capability {text}; SGLang's kernels need 8.0: take another GPU.")
    return tuple(found)


def shared_with(host: GpuHost) -> str | None:
    """What to say where another program holds memory of the first GPU; ask before anything of ours starts."""
    taken = next(((gpu.total_bytes - gpu.free_bytes) / gpu.total_bytes for gpu in host.gpus), 0.0)
    if taken <= MOST_TAKEN:
        return None
    return (
        f"{taken:.0%} of the memory of {host.gpus[0].name} is taken: another program uses it (nvidia-smi names it), "
        "and what is measured beside it means nothing; end it."
    )


def _version(text: str) -> tuple[int, ...]:
    parts: Sequence[str] = text.split(".")[:2]
    return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else ()
