"""What an engine process needs on a host without a GPU: environment and server arguments. Imports nothing heavy."""

from __future__ import annotations

import os
from pathlib import Path

SHIM_FOLDER = Path(__file__).parent / "shim"
"""Holds the stand-in for `sgl_kernel`; must never be on the path of a GPU host's engine."""


def engine_environment(tensor_parallel: int = 1) -> dict[str, str]:
    """Environment variables of the engine's processes.

    Args:
        tensor_parallel: processes that share the target.
    """
    path = os.pathsep.join(filter(None, (str(SHIM_FOLDER), os.environ.get("PYTHONPATH"))))
    return {
        "PYTHONPATH": path,
        "SGLANG_USE_CPU_ENGINE": "1",
        # A compiled top-k helper would cost 23 s at the first request.
        "TORCHDYNAMO_DISABLE": "1",
        # Two threads spin while they wait for each other when the machine is shared.
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        # The GPU is not only unused: a CUDA build of torch must not look for one.
        "CUDA_VISIBLE_DEVICES": "",
        "TOKENIZERS_PARALLELISM": "false",
        # Left out, SGLang refuses more ranks than the host has NUMA nodes (srt/utils/numa_utils.py, 0.5.17); without
        # its own CPU kernels it binds nothing.
        "SGLANG_CPU_OMP_THREADS_BIND": "|".join(map(str, range(tensor_parallel))) if tensor_parallel > 1 else "all",
    }


def server_arguments() -> dict[str, str | int | float | bool]:
    """Server arguments that differ from a GPU host's; alike for every arm."""
    return {
        "device": "cpu",
        # The name stays, because SGLang compares this string in places; the class behind it is ours.
        "attention_backend": "torch_native",
        "sampling_backend": "pytorch",
        "grammar_backend": "none",
        "disable_overlap_schedule": True,
        "disable_cuda_graph": True,
    }
