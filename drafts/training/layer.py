"""One LLaMA layer in plain torch whose attention is handed in, so that training and decoding share every formula.

Shapes: B batch, T positions, D hidden size, H heads, C head size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from draftbench.drafts.layout import draft_fields
from draftbench.drafts.training.hf import rotary_of

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""Attention of one layer: its index, then rotated queries, keys and values [B, H, T, C]; returns [B, H, T, C].

Queries of no entries [B, H, 0, C] ask for nothing: keys and values are kept for later steps, and they come back."""


@dataclass(frozen=True)
class LayerShape:
    """The sizes that a LLaMA layer is built from, and the vocabulary's."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    rms_norm_eps: float
    head_size: int
    angles: tuple[float, ...]
    """Of a position, for each pair of a head's coordinates."""
    angle_scale: float
    """Factor of cosine and sine."""
    attention_bias: bool = False

    @classmethod
    def of(cls, config: Mapping[str, Any], attention_bias: bool = False) -> LayerShape:
        """The shape of a draft's layers, from its own config.json or its target's.

        Args:
            attention_bias: published drafts for Qwen2 have biases, whatever a target's configuration says.
        """
        fields = draft_fields(config)
        angles, scale = rotary_of(config)
        return cls(
            vocab_size=fields["vocab_size"],
            hidden_size=fields["hidden_size"],
            intermediate_size=fields["intermediate_size"],
            num_heads=fields["num_attention_heads"],
            num_kv_heads=fields["num_key_value_heads"],
            rms_norm_eps=fields["rms_norm_eps"],
            head_size=fields["head_dim"],
            angles=tuple(angles.tolist()),
            angle_scale=scale,
            attention_bias=attention_bias,
        )


class Norm(nn.Module):
    """Root-mean-square norm, computed in fp32; its result is of its weight's type."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Scale each vector to unit mean square, times the weight."""
        normed = nn.functional.rms_norm(x_BTD.float(), (x_BTD.shape[-1],), self.weight.float(), self.eps)
        return normed.to(self.weight.dtype)


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
        self.head_size = shape.head_size
        self.groups = shape.num_heads // shape.num_kv_heads
        self.angles: Tensor
        self.register_buffer("angles", torch.tensor(shape.angles), persistent=False)
        self.angle_scale = shape.angle_scale
        size, kv_size = shape.num_heads * self.head_size, shape.num_kv_heads * self.head_size
        self.q_proj = nn.Linear(read, size, bias=shape.attention_bias)
        self.k_proj = nn.Linear(read, kv_size, bias=shape.attention_bias)
        self.v_proj = nn.Linear(read, kv_size, bias=shape.attention_bias)
        self.o_proj = nn.Linear(size, shape.hidden_size, bias=shape.attention_bias)

    def forward(
        self, index: int, x_BTD: Tensor, positions_BT: Tensor, attend: Attend, context_BTX: Tensor | None = None
    ) -> Tensor:
        """Project, rotate, attend, project back; keys and values are made from the context where one is given."""
        q = rotated(self._heads(self.q_proj, x_BTD), positions_BT, self.angles, self.angle_scale)
        k, v = self._keys_and_values(x_BTD if context_BTX is None else context_BTX, positions_BT)
        out: Tensor = self.o_proj(attend(index, q, k, v).transpose(1, 2).flatten(-2))
        return out

    def keep(self, index: int, x_BTD: Tensor, positions_BT: Tensor, attend: Attend) -> None:
        """Only keep keys and values for later steps."""
        k, v = self._keys_and_values(x_BTD, positions_BT)
        attend(index, k[:, :, :0], k, v)

    def _keys_and_values(self, x_BTX: Tensor, positions_BT: Tensor) -> tuple[Tensor, Tensor]:
        k, v = self._heads(self.k_proj, x_BTX), self._heads(self.v_proj, x_BTX)
        k = rotated(k, positions_BT, self.angles, self.angle_scale)
        if self.groups > 1:
            k, v = k.repeat_interleave(self.groups, 1), v.repeat_interleave(self.groups, 1)
        return k, v

    def _heads(self, projection: nn.Linear, x_BTX: Tensor) -> Tensor:
        out: Tensor = projection(x_BTX).unflatten(-1, (-1, self.head_size)).transpose(1, 2)
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

    def forward(
        self, index: int, x_BTD: Tensor, positions_BT: Tensor, attend: Attend, context_BTD: Tensor | None = None
    ) -> Tensor:
        """The layer's output at every position; keys and values are made from the context where one is given."""
        normed, context = (
            self.input_layernorm(given) if self.has_input_norm and given is not None else given
            for given in (x_BTD, context_BTD)
        )
        x_BTD = x_BTD + self.self_attn(index, normed, positions_BT, attend, context)
        out: Tensor = x_BTD + self.mlp(self.post_attention_layernorm(x_BTD))
        return out


def rotated(x_BHTC: Tensor, positions_BT: Tensor, angles: Tensor, scale: float = 1.0) -> Tensor:
    """Rotary position embedding, the two halves of each head as the two coordinates (as Hugging Face and SGLang do).

    Args:
        angles: of one position [C / 2]; `scale` is the factor of cosine and sine.
    """
    half = x_BHTC.shape[-1] // 2
    turned = positions_BT[:, None, :, None].float() * angles
    cos, sin = (scale * turned.cos()).to(x_BHTC.dtype), (scale * turned.sin()).to(x_BHTC.dtype)
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
