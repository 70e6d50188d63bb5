"""What engines get on a GPU host, as far as that can be seen without one."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch

from drafts.api import discover
from harness import execute
from harness.records import CellKey
from harness.runtime import cuda
from harness.runtime.arguments import ModelPaths, server_arguments
from harness.suite import load_suite


def test_float32_multiplies_exactly_and_compilers_of_this_environment_are_found():
    """Triton would take TF32; ninja may lie beside this Python alone."""
    exact = cuda.engine_environment(exact=True)
    assert exact["TRITON_F32_DEFAULT"] == "ieee"
    assert exact["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
    assert "TRITON_F32_DEFAULT" not in cuda.engine_environment(exact=False)


def test_fused_operators_are_passed_over_for_float32_alone():
    """The fused kernel knows half precisions; float32 tensors, given by place or by name, take torch's way."""

    class Norm:
        def forward_native(self, *args: Any, **kwargs: Any) -> str:
            return "native"

    forward = cuda._native_for_float32(lambda layer, *args, **kwargs: "fused")
    whole, half = torch.ones(1), torch.ones(1, dtype=torch.bfloat16)
    positions = torch.ones(1, dtype=torch.long)
    assert forward(Norm(), half, None) == "fused"
    assert forward(Norm(), positions, half, half) == "fused"
    assert forward(Norm(), whole) == "native"
    assert forward(Norm(), positions, query=whole) == "native"


def test_a_gpu_hosts_arguments_are_alike_for_all_arms_and_random_weights_are_made_by_the_engine(tmp_path):
    """No CPU setting is left; prefills are captured for no arm; the draft's weights are made like the target's."""
    suite = load_suite(Path("suites/quickstart.yaml"))
    shaped = suite.model_copy(update={"target": suite.target.model_copy(update={"random_weights": True})})
    arm = suite.arms[3]
    found = server_arguments(shaped, arm, discover()[arm.architecture], ModelPaths(tmp_path, tmp_path), has_gpu=True)
    assert found["load_format"] == "dummy"
    assert found["disable_prefill_cuda_graph"] is True
    assert "device" not in found
    assert found["attention_backend"] == "triton"
    plain = server_arguments(suite, arm, discover()[arm.architecture], ModelPaths(tmp_path, tmp_path), has_gpu=True)
    assert "load_format" not in plain


def test_an_engine_is_warm_when_its_first_cell_begins(monkeypatch):
    """Rest comes after a warm-up and before another: seconds without work let a GPU's clocks fall."""
    order: list[str] = []

    class Watcher:
        def __init__(self) -> None:
            self.rests = ["window"]

        def rest(self, launch: int, arm: str, pid: int) -> str | None:
            if not self.rests:
                return None
            order.append("rest")
            return self.rests.pop()

    class Store:
        def append(self, record: str) -> None:
            order.append(record)

    class Engine:
        pid = 1

    monkeypatch.setattr(execute, "warm_up", lambda *_: order.append("warm-up"))
    cell = CellKey(launch=0, block=0, arm="a", workload="w", concurrency=1)
    watcher: Any = Watcher()
    for _ in range(2):
        execute.make_ready(Engine(), cell, [], None, Store(), watcher)  # type: ignore[arg-type]  # only what is asked of
    assert order == ["warm-up", "rest", "window", "warm-up", "warm-up"]
