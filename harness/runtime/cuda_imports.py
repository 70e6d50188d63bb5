"""Imports on a GPU host that go as they go there, and leave CUDA uninitialised: what is forked afterwards may use it.

A process that is forked from one with CUDA initialised cannot use CUDA. But SGLang 0.5.17, sglang-kernel, flashinfer,
triton and the CUTLASS DSL ask for the GPU while they are imported, and each such question initialises it. So a forked
child asks first, and its answers are given until the imports are over.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

NOT_INITIALIZED = 3
"""CUDA_ERROR_NOT_INITIALIZED of the driver's interface."""


def devices_seen_by_a_fork() -> list[SimpleNamespace]:
    """Properties of every GPU as torch has them, asked by a child that is forked for it and ends.

    Raises:
        RuntimeError: it could not use CUDA.
    """
    import torch

    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reader)
            found = [_plain(torch.cuda.get_device_properties(index)) for index in range(torch.cuda.device_count())]
            with os.fdopen(writer, "w") as file:
                json.dump(found, file)
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as file:
        text = file.read()
    if os.waitpid(pid, 0)[1] or not json.loads(text):
        raise RuntimeError("a forked process cannot use the GPU")
    return [SimpleNamespace(**each) for each in json.loads(text)]


def _plain(properties: Any) -> dict[str, Any]:
    found = {name: getattr(properties, name) for name in dir(properties) if not name.startswith("_")}
    return {name: value for name, value in found.items() if isinstance(value, int | float | str)}


@contextmanager
def answering(devices: Sequence[Any]) -> Iterator[None]:
    """Answer questions about the GPU within; modules that keep these functions get the true ones afterwards.

    Args:
        devices: of each GPU, an object with torch's `major`, `minor`, `name` and whatever else is asked.
    """
    import torch

    within = True

    def of(device: Any = None) -> Any:
        index = torch.device(device).index if isinstance(device, str) else getattr(device, "index", device)
        return devices[index or 0]

    answers: dict[tuple[Any, str], Callable[..., Any]] = {
        (torch.cuda, "is_available"): lambda: True,
        (torch.cuda, "device_count"): lambda: len(devices),
        (torch.cuda, "current_device"): lambda: 0,
        (torch.cuda, "get_device_capability"): lambda device=None: (of(device).major, of(device).minor),
        (torch.cuda, "get_device_name"): lambda device=None: of(device).name,
        (torch.cuda, "get_device_properties"): of,
        (torch, "get_device_module"): lambda device=None: torch.cuda,
    }
    answers |= _driver_answers(devices)
    true = {place: getattr(*place) for place in answers}

    def answer(place: tuple[Any, str]) -> Callable[..., Any]:
        def ask(*args: Any, **kwargs: Any) -> Any:
            return (answers if within else true)[place](*args, **kwargs)

        return ask

    for owner, name in answers:
        setattr(owner, name, answer((owner, name)))
    try:
        yield
    finally:
        within = False
        for (owner, name), function in true.items():
            setattr(owner, name, function)


def _driver_answers(devices: Sequence[Any]) -> dict[tuple[Any, str], Callable[..., Any]]:
    """What the CUTLASS DSL asks the driver itself, through NVIDIA's bindings; nothing where there are none."""
    try:
        from cuda.bindings import driver
    except ImportError:
        return {}
    well = driver.CUresult.CUDA_SUCCESS
    kinds = driver.CUdevice_attribute
    known = {
        kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: "major",
        kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: "minor",
    }
    return {
        (driver, "cuInit"): lambda flags: (well,),
        (driver, "cuDeviceGet"): lambda ordinal: (well, ordinal),
        (driver, "cuDeviceGetAttribute"): lambda kind, device: (well, getattr(devices[int(device)], known[kind])),
    }


def is_untouched() -> bool:
    """Whether nothing has initialised CUDA in this process, as the driver itself says."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return False
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return True
    return bool(driver.cuDeviceGetCount(ctypes.byref(ctypes.c_int())) == NOT_INITIALIZED)
