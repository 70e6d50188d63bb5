"""How training, the simulation and the loader ask a draft, whatever its architecture.

Shapes: B batch, T entries, D hidden size, E several layers' outputs side by side, V vocabulary, W width of a draft's
own state, which is D where it is nothing but a hidden state.
"""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from draftbench.drafts.training.fusion_layer import Fusion
from draftbench.drafts.training.layer import Attend

Proposal = Literal["beams", "joint"]
"""How a round's tree is made: at every step the likeliest continuations of all beams, each step reading the one before
(EAGLE-2); or the paths of highest joint probability of heads that all read the target's one state (Medusa)."""


class Draft(Protocol):
    """A draft with weights, as a torch module; its spec's `model` makes it from a configuration."""

    @property
    def proposal(self) -> Proposal:
        """How its tree is made."""

    @property
    def reads_layers(self) -> bool:
        """Whether step 1 reads the chosen layers' outputs [B, T, E] and not the last hidden state [B, T, D]."""

    @property
    def reads_tokens(self) -> int:
        """How many of an entry's last tokens step 1 reads; later ones are in its own state."""

    @property
    def most_steps(self) -> int | None:
        """Steps that it can draft; None for any number."""

    def adopt(self, embedding_VD: Tensor, head_VD: Tensor, /) -> None:
        """Take the target's embedding and head where it has none of its own; before its own weights are loaded."""

    def __call__(self, tokens_BT: Tensor, hidden: Tensor, positions_BT: Tensor, attend: Attend, step: int, /) -> Tensor:
        """States [B, T, W] at every entry, as draft step `step` (from 1) makes them.

        `hidden` is the target's at step 1, and where it proposes jointly; else the draft's own of the step before.
        Tokens are [B, T, n] at step 1 where it reads n > 1 of them, the oldest first (`first_tokens`).
        """

    def logits(self, hidden: Tensor, step: int = 1, /) -> Tensor:
        """Scores [..., V] of the target's vocabulary from a step's states [..., W]."""


class FeatureDraft(nn.Module):
    """What drafts that estimate the target's next hidden state share: its embedding and its head, both frozen, and
    perhaps a matrix that makes the first step's hidden state of several layers' outputs."""

    proposal: Proposal = "beams"
    reads_layers = False
    reads_tokens = 1

    def __init__(self, vocab_size: int, hidden_size: int) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding.from_pretrained(torch.zeros(vocab_size, hidden_size), freeze=True)
        self.head_VD: Tensor
        self.register_buffer("head_VD", torch.zeros(0, hidden_size), persistent=False)

    @property
    def most_steps(self) -> int | None:
        """One set of weights serves any number of steps."""
        return None

    def adopt(self, embedding_VD: Tensor, head_VD: Tensor, /) -> None:
        """Take the target's; a draft of another width has an embedding of its own."""
        if embedding_VD.shape[1] == self.embed_tokens.embedding_dim:
            self.embed_tokens.weight = nn.Parameter(embedding_VD.float(), requires_grad=False)
        self.head_VD = head_VD.float()

    def add_fusion(self, num_read: int) -> None:
        """Let the first step read so many layers; the last matrix to be made, so that others start as without it."""
        if num_read:
            self.reads_layers = True
            self.fusion_layer = Fusion(num_read, self.embed_tokens.embedding_dim)

    def fused(self, hidden: Tensor, step: int) -> Tensor:
        """The hidden state [B, T, D] that a step reads, from [B, T, E] where it is the first and reads layers."""
        return self.fusion_layer(hidden) if self.reads_layers and step == 1 else hidden

    def logits(self, hidden: Tensor, step: int = 1, /) -> Tensor:
        """The target's head on estimated hidden states."""
        return nn.functional.linear(hidden, self.head_VD)


class WideDraft(FeatureDraft):
    """One whose states hold more than an estimate of the hidden state, for later steps."""

    def scored(self, state: Tensor, step: int) -> Tensor:
        """What the target's head scores [..., D] of a step's states [..., W]."""
        raise NotImplementedError

    def logits(self, hidden: Tensor, step: int = 1, /) -> Tensor:
        """The target's head on that."""
        return nn.functional.linear(self.scored(hidden, step), self.head_VD)


def first_tokens(draft: Draft, tokens_BT: Tensor, positions_BT: Tensor) -> Tensor:
    """The tokens that step 1 reads: an entry's own [B, T], or its last ones [B, T, n], the oldest first.

    Before a sample's first entry, at position 0, its token is repeated.
    """
    if draft.reads_tokens == 1:
        return tokens_BT
    places_T = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
    back = torch.arange(draft.reads_tokens - 1, -1, -1, device=tokens_BT.device)
    places_BTn = places_T[:, None] - torch.minimum(back, positions_BT[..., None])
    return tokens_BT.gather(1, places_BTn.flatten(1)).view(places_BTn.shape)


def target_states(draft: Draft, hidden_BTD: Tensor, aux_BTE: Tensor) -> Tensor:
    """What the first step reads of the target."""
    return aux_BTE if draft.reads_layers else hidden_BTD
