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
    _fuse_llama_blocks()


def _fuse_llama_blocks() -> None:
    """Llama's two blocks without a module call per operator; queries and keys are rotated together."""
    from sglang.srt.layers.rotary_embedding.base import RotaryEmbedding
    from sglang.srt.models.llama import LlamaAttention, LlamaMLP

    general_attention, general_mlp = LlamaAttention.forward, LlamaMLP.forward

    def attention(self: Any, positions: torch.Tensor, hidden_states: torch.Tensor, forward_batch: Any) -> torch.Tensor:
        rotary = self.rotary_emb
        plain = (
            type(rotary) is RotaryEmbedding
            and rotary.is_neox_style
            and rotary.rotary_dim == rotary.head_size == self.head_dim
            and _is_plain(self.qkv_proj, hidden_states)
            and _is_plain(self.o_proj, hidden_states)
        )
        if not plain:
            result: torch.Tensor = general_attention(self, positions, hidden_states, forward_batch)
            return result
        qkv = linear(hidden_states, self.qkv_proj.weight)
        qk, v = qkv.split([self.q_size + self.kv_size, self.kv_size], dim=-1)
        q, k = _rotated(qk, *_rotation(rotary, positions), self.head_dim).split([self.q_size, self.kv_size], dim=-1)
        return linear(self.attn(q, k, v, forward_batch), self.o_proj.weight)

    def mlp(self: Any, x: torch.Tensor, forward_batch: Any = None) -> torch.Tensor:
        if not (_is_plain(self.gate_up_proj, x) and _is_plain(self.down_proj, x)):
            result: torch.Tensor = general_mlp(self, x, forward_batch)
            return result
        gate, up = linear(x, self.gate_up_proj.weight).chunk(2, dim=-1)
        return linear(silu(gate).mul_(up), self.down_proj.weight)

    LlamaAttention.forward, LlamaMLP.forward = attention, mlp


def _is_plain(layer: Any, x: torch.Tensor) -> bool:
    """Whether a parallel linear layer is one matrix of the input's type on one rank, without a bias."""
    weight = getattr(layer, "weight", None)
    return weight is not None and weight.dtype == x.dtype and layer.bias is None and layer.tp_size == 1


def _skip_parallel_bookkeeping(layer: Any) -> None:
    """On one rank without quantisation a parallel linear layer is a linear layer."""
    general = layer.forward

    def forward(self: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if args or kwargs or not _is_plain(self, x):
            return general(self, x, *args, **kwargs)
        return linear(x, self.weight), None

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
