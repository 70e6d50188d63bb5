"""How much memory an engine takes at most, and how much there is: one rule for `plan`, `doctor` and the run itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from draftbench.harness.host.gpu import read_gpu_host, visible_numbers
from draftbench.harness.suite import Suite

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
CPU_ENGINE_BYTES = 2.4e9
"""Of one engine's processes with a tiny model on the CPU, as measured, rounded up."""
CPU_WEIGHTS = 4
"""A weight's bytes in memory on the CPU for each in its file: half precision is widened while the file is read."""
GPU_ENGINE_BYTES = 3e9
"""CUDA context, kernels, attention buffers and CUDA graphs of one engine; an estimate, not yet measured."""
CPU_RANK_BYTES = 0.9e9
"""Of each further process that shares the target on the CPU, as measured, rounded up."""
POOL_ROOM = 1.2
"""Of the target's KV pool, the draft's included."""
SHARE = 0.9
"""Of free memory that engines may take together."""


@dataclass(frozen=True)
class Memory:
    """Where engines run, and that place's memory."""

    where: str
    total_bytes: int
    free_bytes: int
    on_gpu: bool

    def fitting(self, engine_bytes: float) -> int:
        """How many more engines of this size fit side by side."""
        return int(SHARE * self.free_bytes // engine_bytes)


def memory(used: Sequence[int] = (0,)) -> Memory:
    """Of the GPU with the least of it free, or the host's where there is none.

    Args:
        used: numbers, among the visible GPUs, of those that an engine takes.
    """
    host = read_gpu_host()
    if host.gpus:
        visible = visible_numbers(host)
        own = [host.gpus[visible[number]] for number in used if number < len(visible)] or host.gpus[:1]
        least = min(own, key=lambda gpu: gpu.free_bytes)
        where = f"GPU {least.name}" if len(own) == 1 else f"the fullest of {len(own)} GPUs ({least.name})"
        return Memory(where, least.total_bytes, least.free_bytes, on_gpu=True)
    where = "this host, without a GPU," if host.problem is None else f"this host ({host.problem})"
    found = psutil.virtual_memory()
    return Memory(where, int(found.total), int(found.available), on_gpu=False)


def engine_bytes(
    suite: Suite, config: Mapping[str, Any], target_bytes: float, draft_bytes: float, on_gpu: bool
) -> float:
    """What one engine takes at most: itself, weights, KV pool, and the largest verify step's scores.

    Of each GPU where several share the target: weights and pool are divided, the draft, which may be whole on each, and
    scores are not. On the CPU all ranks take of one memory.

    Args:
        config: the target's config.json; empty where it is not here, and then pool and scores are left out.
        target_bytes, draft_bytes: weights as their files hold them, the draft's the largest one's.
    """
    width = max((arm.num_draft_tokens or 1) for arm in suite.arms)
    # Scores, their float32 copy and probabilities, of the target's pass and of the draft's extension.
    scores: float = 2 * 3 * 4.0 * suite.running_requests * width * config.get("vocab_size", 0)
    pool = POOL_ROOM * (kv_bytes(config, suite) or 0)
    ranks = suite.target.tensor_parallel
    if on_gpu:
        return GPU_ENGINE_BYTES + (target_bytes + pool) / ranks + draft_bytes + scores
    own = CPU_ENGINE_BYTES + (ranks - 1) * CPU_RANK_BYTES
    return own + CPU_WEIGHTS * (target_bytes + ranks * draft_bytes) + pool + ranks * scores


def kv_bytes(config: Mapping[str, Any], suite: Suite) -> int | None:
    """Bytes of the target's KV pool; None where the configuration does not have the usual names."""
    try:
        heads = config.get("num_key_value_heads") or config["num_attention_heads"]
        size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        per_token = 2 * config["num_hidden_layers"] * heads * size * DTYPE_BYTES[suite.target.dtype]
    except KeyError:
        return None
    return int(per_token * suite.max_total_tokens)


def weight_bytes(folder: Path) -> int:
    """Of a model's safetensors; 0 where it has none."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))
