"""Server arguments as SGLang resolves them on a GPU, asked on a host without one; runs in a process of its own.

    echo '{"vanilla": ["--model-path", …], …}' | python tests/fakes/feigned_gpu.py

SGLang's own code resolves; only the answers of torch's CUDA functions are those of an H200, and the packages of the
CUDA build can be imported but do nothing. Prints one JSON object: the resolved arguments by name. With true packages
(0.5.17's lock for CUDA) the answers were the same, every argument of every architecture.
"""

from __future__ import annotations

import importlib.abc
import json
import multiprocessing
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

MEMORY = 143771 * 2**20
"""Of an H200, in bytes, as its driver tells it."""
CUDA_BUILD = frozenset({"sgl_kernel", "flashinfer", "deep_gemm"})
"""Packages that SGLang imports where it sees a GPU; they load beside its driver alone."""


class Pretended(ModuleType):
    """A module that has whatever is asked of it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return MagicMock(name=name)


class Pretender(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the CUDA build's packages, and all that they might hold."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Called for every import that is not yet loaded."""
        return ModuleSpec(fullname, self, is_package=True) if fullname.split(".")[0] in CUDA_BUILD else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """A new module."""
        return Pretended(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is left to do."""


def feign_h200() -> None:
    """Let torch answer as it does on a host with one H200, before SGLang is imported."""
    import torch

    properties = SimpleNamespace(
        name="NVIDIA H200", major=9, minor=0, total_memory=MEMORY, multi_processor_count=132, warp_size=32
    )
    answers = {
        "is_available": True,
        "device_count": 1,
        "current_device": 0,
        "get_device_capability": (9, 0),
        "get_device_name": properties.name,
        "get_device_properties": properties,
        "mem_get_info": (MEMORY, MEMORY),
    }
    for name, answer in answers.items():
        setattr(torch.cuda, name, lambda *_, answer=answer, **__: answer)
    torch.version.cuda = torch.version.cuda or "13.0"
    sys.meta_path.insert(0, Pretender())


def resolve(words: Sequence[str]) -> dict[str, Any]:
    """What a receipt says of a server that was started with these words."""
    from sglang.srt.server_args import prepare_server_args

    from draftbench.harness.runtime.plugin import resolved

    return resolved(prepare_server_args(list(words)))


if __name__ == "__main__":
    feign_h200()
    import sglang.srt.configs.model_config  # noqa: F401  # once, before the processes part

    # An arm to a process, as engines are: what resolving leaves in one must not reach the next.
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        commands = json.load(sys.stdin)
        print(json.dumps(dict(zip(commands, pool.map(resolve, commands.values(), chunksize=1), strict=True))))
