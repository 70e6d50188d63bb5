"""What an engine process needs on a GPU host: environment, server arguments, and float32 where kernels lack it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from itertools import count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from draftbench.harness.suite import Suite


def engine_environment(exact: bool) -> dict[str, str]:
    """Environment variables of the engine's processes; `exact` where the target computes in float32."""
    # ninja may lie beside this Python and not on the path; kernels are compiled with it at their first use.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    precision = {"TRITON_F32_DEFAULT": "ieee"} if exact else {}  # or attention multiplies in TF32
    # CUDA would put the fastest GPU first, and telemetry, which counts as the driver does, would look at others.
    order = os.environ.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    return {"PATH": path, "TOKENIZERS_PARALLELISM": "false", "CUDA_DEVICE_ORDER": order, **precision}


def server_arguments(suite: Suite) -> dict[str, bool | tuple[int, ...]]:
    """Server arguments of a GPU host; alike for every arm."""
    concurrencies = (point.concurrency for point in suite.load if point.concurrency is not None)
    return {
        # SGLang 0.5.17 captures prefills for vanilla and some drafts only, which would make times to first token
        # unequal, and each start longer (model_runner_components/cuda_graph_setup.py).
        "disable_prefill_cuda_graph": True,
        # Left out, it lists other batch sizes with a draft than without (server_args.py).
        "cuda_graph_bs_decode": sizes_to_capture(suite.running_requests, concurrencies),
    }


def sizes_to_capture(largest: int, exact: Iterable[int]) -> tuple[int, ...]:
    """Batch sizes to capture as CUDA graphs: 1, 2, 3, 4, 6, 8, 12, … up to the largest, and those that occur most.

    A batch runs in the next larger graph, and rows that pad it cost next to nothing in vanilla's step but as much as
    real ones in a wide verify step. In steps of a half at most, no batch that shrinks as a cell ends, or grows in an
    open loop, is padded by half its size or more; powers of two would nearly double some.

    Args:
        largest: requests that the engine may run at once.
        exact: batch sizes that must not be padded at all; larger ones than the largest do not occur.
    """
    ladder = (size for power in count() for size in sorted({2**power, 3 * 2**power // 2}))
    return tuple(sorted({*takewhile(lambda size: size < largest, ladder), largest, *(n for n in exact if n < largest)}))


def install_float32() -> None:
    """Let float32 take torch's operators where SGLang's fused kernels know half precisions alone.

    Concerns RMSNorm, SiLU and rotary embeddings (srt/layers, 0.5.17); has to come before models are built, because each
    layer keeps the method it found.
    """
    from sglang.srt.layers.activation import SiluAndMul
    from sglang.srt.layers.layernorm import RMSNorm
    from sglang.srt.layers.rotary_embedding.base import RotaryEmbedding

    for operator in (RMSNorm, SiluAndMul, RotaryEmbedding):
        operator.forward_cuda = _native_for_float32(operator.forward_cuda)


def _native_for_float32(fused: Callable[..., Any]) -> Callable[..., Any]:
    import torch

    def forward(layer: Any, *args: Any, **kwargs: Any) -> Any:
        tensors = (value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor))
        if any(tensor.dtype == torch.float32 for tensor in tensors):
            return layer.forward_native(*args, **kwargs)
        return fused(layer, *args, **kwargs)

    return forward
