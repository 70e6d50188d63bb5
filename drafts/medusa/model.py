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
from draftbench.drafts.training.draft import Proposal
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
    """K heads, each of residual blocks and a projection of its own."""

    proposal: Proposal = "joint"
    reads_layers = False
    reads_tokens = 1

    def __init__(self, num_heads: int, num_blocks: int, vocab_size: int, hidden_size: int) -> None:
        super().__init__(
            nn.Sequential(
                *(ResidualBlock(hidden_size) for _ in range(num_blocks)), VocabularyHead(hidden_size, vocab_size)
            )
            for _ in range(num_heads)
        )

    @property
    def most_steps(self) -> int:
        """A head drafts one step."""
        return len(self)

    def adopt(self, embedding_VD: Tensor, head_VD: Tensor, /) -> None:
        """Heads have all that they need."""

    def forward(
        self, tokens_BT: Tensor, hidden_BTD: Tensor, positions_BT: Tensor, attend: Attend, step: int = 1
    ) -> Tensor:
        """The target's hidden states as they are: heads look at nothing else."""
        return hidden_BTD

    def logits(self, hidden: Tensor, step: int = 1, /) -> Tensor:
        """Scores [..., V] of head `step` (from 1) on hidden states [..., D]."""
        out: Tensor = self[step - 1](hidden)
        return out


def made(config: Mapping[str, Any]) -> MedusaDraft:
    """The heads that a checkpoint's configuration describes."""
    sizes = config["medusa_num_layers"], config["vocab_size"], config["hidden_size"]
    return MedusaDraft(config["medusa_num_heads"], *sizes)


def new_medusa(num_heads: int, head_VD: Tensor, seed: int) -> MedusaDraft:
    """Untrained heads of one residual block; each projection starts as the target's head, and nothing is random."""
    torch.manual_seed(seed)
    draft = MedusaDraft(num_heads, 1, *head_VD.shape)
    for projection in (module for module in draft.modules() if isinstance(module, VocabularyHead)):
        projection.weight.data.copy_(head_VD)
    return draft


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
