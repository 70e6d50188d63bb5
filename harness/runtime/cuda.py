"""What an engine process needs on a GPU host: environment, server arguments, and float32 where kernels lack it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def engine_environment(exact: bool) -> dict[str, str]:
    """Environment variables of the engine's processes; `exact` where the target computes in float32."""
    # ninja may lie beside this Python and not on the path; kernels are compiled with it at their first use.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    precision = {"TRITON_F32_DEFAULT": "ieee"} if exact else {}  # or attention multiplies in TF32
    return {"PATH": path, "TOKENIZERS_PARALLELISM": "false", **precision}


def server_arguments() -> dict[str, str | int | float | bool]:
    """Server arguments of a GPU host; alike for every arm."""
    # SGLang 0.5.17 captures prefills for vanilla and some drafts only (model_runner_components/cuda_graph_setup.py),
    # which would make times to first token unequal, and each start longer.
    return {"disable_prefill_cuda_graph": True}


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
