"""What engines get on a GPU host, as far as that can be seen without one."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch

from draftbench.drafts.api import discover
from draftbench.harness.records import CellKey
from draftbench.harness.run import execute
from draftbench.harness.runtime import cuda
from draftbench.harness.runtime.arguments import ModelPaths, server_arguments
from draftbench.harness.suite import LoadPoint, load_suite


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
    """No CPU setting is left; graphs are the suite's; the draft's weights are made like the target's."""
    suite = load_suite(Path("suites/quickstart.yaml"))
    shaped = suite.model_copy(update={"target": suite.target.model_copy(update={"random_weights": True})})
    arm = suite.arms[3]
    found = server_arguments(shaped, arm, discover()[arm.architecture], ModelPaths(tmp_path, tmp_path), has_gpu=True)
    assert found["load_format"] == "dummy"
    assert found["disable_prefill_cuda_graph"] is True
    assert found["cuda_graph_bs_decode"] == (1, 2, 3, 4)
    assert "device" not in found
    assert found["attention_backend"] == "triton"
    plain = server_arguments(suite, arm, discover()[arm.architecture], ModelPaths(tmp_path, tmp_path), has_gpu=True)
    assert "load_format" not in plain


def test_batch_sizes_to_capture_are_few_and_pad_little():
    """The largest and the given ones are among them, every other batch is padded by less than half its size."""
    assert cuda.sizes_to_capture(1, [1]) == (1,)
    assert cuda.sizes_to_capture(4, [1]) == (1, 2, 3, 4)
    assert cuda.sizes_to_capture(64, [1, 20, 64]) == (1, 2, 3, 4, 6, 8, 12, 16, 20, 24, 32, 48, 64)
    for largest in range(1, 130):
        sizes = cuda.sizes_to_capture(largest, [])
        assert sizes[-1] == largest
        padded = {batch: min(size for size in sizes if size >= batch) for batch in range(1, largest + 1)}
        assert all(size < 1.5 * batch for batch, size in padded.items())


def test_no_graph_is_captured_for_more_requests_than_an_engine_runs():
    """A concurrency beyond max_running_requests waits in the queue; an open loop may fill the engine."""
    suite = load_suite(Path("suites/quickstart.yaml"))
    crowded = {"load": (LoadPoint(concurrency=5), LoadPoint(concurrency=64)), "max_running_requests": 6}
    found = cuda.server_arguments(suite.model_copy(update=crowded))
    assert found["cuda_graph_bs_decode"] == (1, 2, 3, 4, 5, 6)
    open_loop = cuda.server_arguments(suite.model_copy(update={"load": (LoadPoint(rate=2.0),)}))
    assert open_loop["cuda_graph_bs_decode"] == (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)


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
        execute.make_ready(Engine(), cell, [], None, Store(), watcher)  # only what is asked of
    assert order == ["warm-up", "rest", "window", "warm-up", "warm-up"]
