"""Medusa heads in plain torch: K residual blocks with a vocabulary projection each, on the target's last hidden state.

At entry i (token i+1, the target's hidden state at i after its final norm) head k predicts token i+1+k.
Names of the tensors are the published ones: `{head}.{block}.linear.weight|bias`, `{head}.{blocks}.weight`.
Source: Medusa (arXiv 2401.10774, section 3.1); FasterDecoding/Medusa, medusa/model/medusa_model.py.

Shapes: B batch, T entries, D hidden size, V vocabulary, K heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from draftbench.drafts.layout import draft_fields
from draftbench.drafts.medusa.spec import ARCHITECTURE
from draftbench.drafts.training.layer import Attend, VocabularyHead


class ResidualBlock(nn.Module):
    """x + SiLU(Wx + b); W starts at zero, so that a new head repeats the target's."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(size, size)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """One residual block on the last dimension."""
        return x + nn.functional.silu(self.linear(x))


class MedusaDraft(nn.ModuleList):
    """K heads of one residual block; each projection starts as the target's head."""

    reads_layers = False

    def __init__(self, num_heads: int, head_VD: Tensor) -> None:
        vocab, size = head_VD.shape
        projections = [VocabularyHead(size, vocab) for _ in range(num_heads)]
        for projection in projections:
            projection.weight.data.copy_(head_VD)
        super().__init__(nn.Sequential(ResidualBlock(size), projection) for projection in projections)

    def forward(
        self, tokens_BT: Tensor, hidden_BTD: Tensor, positions_BT: Tensor, attend: Attend, step: int = 1
    ) -> Tensor:
        """The target's hidden states as they are: heads look at nothing else."""
        return hidden_BTD

    def head_logits(self, hidden: Tensor, head: int) -> Tensor:
        """Scores [..., V] of head `head` (from 1) on hidden states [..., D]."""
        out: Tensor = self[head - 1](hidden)
        return out


def new_medusa(num_heads: int, head_VD: Tensor, seed: int) -> MedusaDraft:
    """Untrained heads; nothing in them is random."""
    torch.manual_seed(seed)
    return MedusaDraft(num_heads, head_VD)


def medusa_config(config: Mapping[str, Any], num_heads: int) -> dict[str, Any]:
    """The draft's config.json: the target's, for its sizes, beside the published keys."""
    return {
        **draft_fields(config),
        "architectures": [ARCHITECTURE],
        "num_hidden_layers": 1,
        "tie_word_embeddings": False,
        "medusa_num_heads": num_heads,
        "medusa_num_layers": 1,
    }
