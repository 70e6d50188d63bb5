"""The likeliest next tokens of all verified nodes, rejected ones too, are kept and drafted from (Token Recycling)."""

from __future__ import annotations

from pydantic import Field

from draftbench.drafts.api import Needs
from draftbench.drafts.proposer import StatefulOptions, proposer_spec

CANDIDATES = 8
"""Next tokens that are kept of each token, as published."""


class TokenRecyclingOptions(StatefulOptions):
    """The shape of the fixed tree."""

    rank_decay: float = Field(
        0.7, gt=0, le=1, description="A path of ranks r weighs the product of rank_decay / (r + 1)."
    )


SPEC = proposer_spec(
    name="token_recycling",
    title="the target's own candidates at every verified node draft; no weights, learns online",
    origin="Luo et al. 2024, Token Recycling",
    factory="draftbench.drafts.token_recycling.proposer:TokenRecycling",
    needs=Needs(node_topk=CANDIDATES),
    options=TokenRecyclingOptions,
)
