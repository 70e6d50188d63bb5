"""The same layers with fewer operators: at batch 1 on a CPU the calls cost more than the arithmetic.

SGLang's own CPU forms need its compiled kernels; without them it falls back to several torch operators per layer.
These compute the same, in fewer. They serve target and drafts of every arm alike.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import linear, rms_norm, silu


def install() -> None:
    """Replace the forwards that SGLang 0.5.17's dispatch picks on a CPU."""
    from sglang.srt.layers.activation import SiluAndMul
    from sglang.srt.layers.layernorm import RMSNorm
    from sglang.srt.layers.linear import ColumnParallelLinear, RowParallelLinear
    from sglang.srt.layers.quantization.unquant import UnquantizedLinearMethod
    from sglang.srt.layers.rotary_embedding.base import RotaryEmbedding

    general_norm = RMSNorm.forward_native

    def norm(
        self: Any,
        x: torch.Tensor,
        residual: torch.Tensor | None = None,
        post_residual_addition: torch.Tensor | None = None,
    ) -> Any:
        if self.variance_size_override is not None or self.fp32_residual or post_residual_addition is not None:
            return general_norm(self, x, residual, post_residual_addition)
        if residual is None:
            return rms_norm(x, (self.hidden_size,), self.weight, self.variance_epsilon)
        residual = x + residual
        return rms_norm(residual, (self.hidden_size,), self.weight, self.variance_epsilon), residual

    def silu_and_mul(self: Any, x: torch.Tensor) -> torch.Tensor:
        gate, up = x.chunk(2, dim=-1)
        return silu(gate).mul_(up)

    general_rotary = RotaryEmbedding.forward_native

    def rotary(
        self: Any,
        positions: torch.Tensor,
        query: torch.Tensor,
        key: torch.Tensor,
        offsets: torch.Tensor | None = None,
        fused_set_kv_buffer_arg: Any = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        plain = type(self) is RotaryEmbedding and self.is_neox_style and self.rotary_dim == self.head_size
        if offsets is not None or fused_set_kv_buffer_arg is not None or not plain:
            result: tuple[torch.Tensor, torch.Tensor] = general_rotary(
                self, positions, query, key, offsets, fused_set_kv_buffer_arg
            )
            return result
        cos_ND, sin_ND = _rotation(self, positions)
        return _rotated(query, cos_ND, sin_ND, self.head_size), _rotated(key, cos_ND, sin_ND, self.head_size)

    general_linear = UnquantizedLinearMethod.apply

    def apply(self: Any, layer: Any, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        weight = layer.weight
        if x.dtype == weight.dtype and weight.dim() == 2:
            return linear(x, weight, bias)
        result: torch.Tensor = general_linear(self, layer, x, bias)
        return result

    for layer, forward in ((RMSNorm, norm), (SiluAndMul, silu_and_mul), (RotaryEmbedding, rotary)):
        layer.forward_cpu = forward
        layer.forward_native = forward
    UnquantizedLinearMethod.apply = apply
    for parallel in (ColumnParallelLinear, RowParallelLinear):
        _skip_parallel_bookkeeping(parallel)


def _skip_parallel_bookkeeping(layer: Any) -> None:
    """On one rank without quantisation a parallel linear layer is a linear layer."""
    general = layer.forward

    def forward(self: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        weight = getattr(self, "weight", None)
        if args or kwargs or self.tp_size != 1 or self.bias is not None or weight is None or x.dtype != weight.dtype:
            return general(self, x, *args, **kwargs)
        return linear(x, weight), None

    layer.forward = forward


def _rotation(rotary: Any, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and signed sines of the positions, [N, 1, D] each; every layer of a pass asks for the same ones."""
    cached = getattr(rotary, "_draftbench_rotation", None)
    if cached is not None and cached[0] is positions and cached[1] == positions._version:
        return cached[2], cached[3]
    cos, sin = rotary.cos_sin_cache.index_select(0, positions.flatten()).chunk(2, dim=-1)
    cos_ND = torch.cat((cos, cos), dim=-1)[:, None, :]
    sin_ND = torch.cat((-sin, sin), dim=-1)[:, None, :]
    rotary._draftbench_rotation = (positions, positions._version, cos_ND, sin_ND)
    return cos_ND, sin_ND


def _rotated(x: torch.Tensor, cos_ND: torch.Tensor, sin_ND: torch.Tensor, head_size: int) -> torch.Tensor:
    """GPT-NeoX rotation: x cos + (second half, first half) (-sin, sin), in fp32 as SGLang has it."""
    heads = x.view(x.shape[0], -1, head_size)
    swapped = heads.roll(head_size // 2, dims=-1)
    return torch.addcmul(heads * cos_ND, swapped, sin_ND).to(x.dtype).view(x.shape)
