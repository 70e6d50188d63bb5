"""One LLaMA layer in plain torch whose attention is handed in, so that training and decoding share every formula.

Shapes: B batch, T positions, D hidden size, H heads, C head size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""Attention of one layer: its index, then rotated queries, keys and values [B, H, T, C]; returns [B, H, T, C]."""


@dataclass(frozen=True)
class LayerShape:
    """The sizes that a LLaMA layer is built from."""

    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    rms_norm_eps: float
    rope_theta: float

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> LayerShape:
        """The shape of the layers that a Hugging Face LLaMA config.json describes."""
        rope = config.get("rope_parameters") or {}
        return cls(
            hidden_size=config["hidden_size"],
            intermediate_size=config["intermediate_size"],
            num_heads=config["num_attention_heads"],
            num_kv_heads=config.get("num_key_value_heads", config["num_attention_heads"]),
            rms_norm_eps=config["rms_norm_eps"],
            rope_theta=rope.get("rope_theta", config.get("rope_theta", 10000.0)),
        )


class Norm(nn.Module):
    """Root-mean-square norm, computed in fp32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Scale each vector to unit mean square, times the weight."""
        return nn.functional.rms_norm(x_BTD.float(), (x_BTD.shape[-1],), self.weight, self.eps)


class VocabularyHead(nn.Linear):
    """A trained projection to a vocabulary; optimizers treat it as they treat embeddings."""

    def __init__(self, hidden_size: int, vocab_size: int) -> None:
        super().__init__(hidden_size, vocab_size, bias=False)


class Attention(nn.Module):
    """Projections and rotation around an attention that the caller supplies."""

    def __init__(self, shape: LayerShape, input_size: int | None = None) -> None:
        """`input_size` is what queries, keys and values are made from; the hidden size unless told."""
        super().__init__()
        read = input_size or shape.hidden_size
        self.head_size = shape.hidden_size // shape.num_heads
        self.groups = shape.num_heads // shape.num_kv_heads
        self.rope_theta = shape.rope_theta
        kv_size = shape.num_kv_heads * self.head_size
        self.q_proj = nn.Linear(read, shape.hidden_size, bias=False)
        self.k_proj = nn.Linear(read, kv_size, bias=False)
        self.v_proj = nn.Linear(read, kv_size, bias=False)
        self.o_proj = nn.Linear(shape.hidden_size, shape.hidden_size, bias=False)

    def forward(self, index: int, x_BTD: Tensor, positions_BT: Tensor, attend: Attend) -> Tensor:
        """Project, rotate, attend, project back."""
        q, k, v = (
            proj(x_BTD).unflatten(-1, (-1, self.head_size)).transpose(1, 2)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = rotated(q, positions_BT, self.rope_theta), rotated(k, positions_BT, self.rope_theta)
        if self.groups > 1:
            k, v = k.repeat_interleave(self.groups, 1), v.repeat_interleave(self.groups, 1)
        out: Tensor = self.o_proj(attend(index, q, k, v).transpose(1, 2).flatten(-2))
        return out


class Mlp(nn.Module):
    """LLaMA's gated feed-forward block."""

    def __init__(self, shape: LayerShape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """down(silu(gate(x)) * up(x))."""
        out: Tensor = self.down_proj(nn.functional.silu(self.gate_proj(x_BTD)) * self.up_proj(x_BTD))
        return out


class Layer(nn.Module):
    """A LLaMA layer; EAGLE's has no input norm (SGLang 0.5.17, srt/models/llama_eagle.py)."""

    def __init__(self, shape: LayerShape, *, input_norm: bool) -> None:
        super().__init__()
        if input_norm:
            self.input_layernorm = Norm(shape.hidden_size, shape.rms_norm_eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = Norm(shape.hidden_size, shape.rms_norm_eps)
        self.mlp = Mlp(shape)
        self.has_input_norm = input_norm

    def forward(self, index: int, x_BTD: Tensor, positions_BT: Tensor, attend: Attend) -> Tensor:
        """The layer's output at every position."""
        normed = self.input_layernorm(x_BTD) if self.has_input_norm else x_BTD
        x_BTD = x_BTD + self.self_attn(index, normed, positions_BT, attend)
        out: Tensor = x_BTD + self.mlp(self.post_attention_layernorm(x_BTD))
        return out


def rotated(x_BHTC: Tensor, positions_BT: Tensor, theta: float) -> Tensor:
    """Rotary position embedding, the two halves of each head as the two coordinates (as Hugging Face and SGLang do)."""
    half = x_BHTC.shape[-1] // 2
    frequencies = theta ** (-torch.arange(half, device=x_BHTC.device, dtype=torch.float32) / half)
    angles = positions_BT[:, None, :, None].float() * frequencies
    cos, sin = angles.cos().to(x_BHTC.dtype), angles.sin().to(x_BHTC.dtype)
    a, b = x_BHTC[..., :half], x_BHTC[..., half:]
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


def reset(model: nn.Module, seed: int) -> None:
    """Draw the weights of every trainable matrix anew, scaled by fan-in, from a seed."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.ndim == 2:
            std = 0.02 if "embed" in name else parameter.shape[1] ** -0.5
            with torch.no_grad():
                parameter.normal_(0.0, std, generator=generator)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
