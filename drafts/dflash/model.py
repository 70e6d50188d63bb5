"""The DFlash draft in plain torch: a few layers over a block whose tokens after the first are masked.

A round that starts at entry r drafts behind token r+1, the last sure one. The block is that token and masks, at
positions r+1, r+2, …; all its tokens see each other and what the target said up to r: of the outputs of several of its
layers `fc` and a norm make one state, from which every layer takes keys and values. The head is the target's, and place
d of the block drafts token r+1+d.
Source: DFlash (arXiv 2602.06036); SGLang 0.5.17, srt/models/dflash.py and srt/speculative/dflash_worker_v2.py.

Shapes: B batch, T entries, D hidden size, E the target's layers side by side, R rounds, S places of a block, H heads,
G key heads, C head size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from draftbench.drafts.training.draft import FeatureDraft, Proposal
from draftbench.drafts.training.layer import Attend, Attention, LayerShape, Mlp, Norm, rotated


class BlockAttention(Attention):
    """Queries of a block over the context and the block; heads are normed before they are rotated, as in Qwen 3."""

    def __init__(self, shape: LayerShape) -> None:
        super().__init__(shape)
        self.q_norm = Norm(shape.head_size, shape.rms_norm_eps)
        self.k_norm = Norm(shape.head_size, shape.rms_norm_eps)

    def over(self, x_RSD: Tensor, context_TD: Tensor, places_RS: Tensor, places_T: Tensor, seen_RT: Tensor) -> Tensor:
        """Attention of R blocks [R, S, D] of one row, each over the entries that it sees and all of itself."""
        queries = self._heads(self.q_proj, x_RSD, places_RS, self.q_norm)
        own_keys = self._heads(self.k_proj, x_RSD, places_RS, self.k_norm)
        keys = self._heads(self.k_proj, context_TD[None], places_T[None], self.k_norm)
        own_values = self._heads(self.v_proj, x_RSD)
        values = self._heads(self.v_proj, context_TD[None])
        keys, values = (
            torch.cat((shared.expand(len(x_RSD), -1, -1, -1), own), 2).repeat_interleave(self.groups, 1)
            for shared, own in ((keys, own_keys), (values, own_values))
        )
        seen_RX = torch.cat((seen_RT, seen_RT.new_ones(x_RSD.shape[:2])), 1)
        out = nn.functional.scaled_dot_product_attention(queries, keys, values, attn_mask=seen_RX[:, None, None])
        found: Tensor = self.o_proj(out.transpose(1, 2).flatten(-2))
        return found

    def _heads(
        self, proj: nn.Linear, x_BTD: Tensor, places_BT: Tensor | None = None, norm: Norm | None = None
    ) -> Tensor:
        """Heads [B, H, T, C], normed and rotated where told."""
        heads = proj(x_BTD).unflatten(-1, (-1, self.head_size))
        if norm is not None:
            heads = norm(heads).to(heads.dtype)
        heads = heads.transpose(1, 2)
        return heads if places_BT is None else rotated(heads, places_BT, self.angles, self.angle_scale)


class BlockLayer(nn.Module):
    """A layer of Qwen 3 over blocks."""

    def __init__(self, shape: LayerShape) -> None:
        super().__init__()
        self.input_layernorm = Norm(shape.hidden_size, shape.rms_norm_eps)
        self.self_attn = BlockAttention(shape)
        self.post_attention_layernorm = Norm(shape.hidden_size, shape.rms_norm_eps)
        self.mlp = Mlp(shape)

    def forward(self, x_RSD: Tensor, *around: Tensor) -> Tensor:
        """The layer's output at every place of every block."""
        x_RSD = x_RSD + self.self_attn.over(self.input_layernorm(x_RSD), *around)
        out: Tensor = x_RSD + self.mlp(self.post_attention_layernorm(x_RSD))
        return out


class DFlashDraft(FeatureDraft):
    """Such layers, with the target's embedding and head, both frozen."""

    proposal: Proposal = "joint"
    reads_layers = True

    def __init__(self, shape: LayerShape, num_layers: int, num_read: int, block_size: int, mask_token: int) -> None:
        super().__init__(shape.vocab_size, shape.hidden_size)
        self.fc = nn.Linear(num_read * shape.hidden_size, shape.hidden_size, bias=False)
        self.hidden_norm = Norm(shape.hidden_size, shape.rms_norm_eps)
        self.layers = nn.ModuleList(BlockLayer(shape) for _ in range(num_layers))
        self.norm = Norm(shape.hidden_size, shape.rms_norm_eps)
        self.block_size, self.mask_token = block_size, mask_token

    @property
    def most_steps(self) -> int:
        """Places of a block behind the sure token."""
        return self.block_size - 1

    def blocks(
        self, tokens_T: Tensor, states_TE: Tensor, places_T: Tensor, starts_R: Tensor, seen_RT: Tensor
    ) -> Tensor:
        """Hidden states [R, S, D] of the blocks of rounds that start at these entries of one row.

        Args:
            seen_RT: entries of the target that each round sees.
        """
        context_TD = self.hidden_norm(self.fc(states_TE))
        ids_RS = tokens_T.new_full((len(starts_R), self.block_size), self.mask_token)
        ids_RS[:, 0] = tokens_T[starts_R]
        places_RS = places_T[starts_R, None] + torch.arange(1, self.block_size + 1, device=starts_R.device)
        x_RSD = self.embed_tokens(ids_RS)
        for layer in self.layers:
            x_RSD = layer(x_RSD, context_TD, places_RS, places_T, seen_RT)
        out: Tensor = self.norm(x_RSD)
        return out

    def forward(self, tokens_BT: Tensor, hidden: Tensor, positions_BT: Tensor, attend: Attend, step: int = 1) -> Tensor:
        """Hidden states [B, T, D] of block place `step` of a round at every entry; `hidden` is [B, T, E].

        A round sees its row's entries up to its own; what else `attend` would hide is not asked for here.
        """
        size = tokens_BT.shape[1]
        seen_TT = torch.ones(size, size, dtype=torch.bool, device=tokens_BT.device).tril()
        starts_T = torch.arange(size, device=tokens_BT.device)
        rows = zip(tokens_BT, hidden, positions_BT, strict=True)
        return torch.stack([self.blocks(*row, starts_T, seen_TT)[:, step] for row in rows])


def made(config: Mapping[str, Any]) -> DFlashDraft:
    """The draft that a checkpoint's configuration describes."""
    inner = config["dflash_config"]
    shape = LayerShape.of(config, attention_bias=bool(config.get("attention_bias")))
    num_read = len(config["target_layer_ids"])
    return DFlashDraft(shape, config["num_hidden_layers"], num_read, inner["block_size"], inner["mask_token_id"])
