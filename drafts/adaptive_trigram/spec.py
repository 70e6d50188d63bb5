"""Tri-gram counts of the target's outputs, searched with a balance of exploring and exploiting (ADED)."""

from __future__ import annotations

from pydantic import Field

from draftbench.drafts.proposer import StatefulOptions, proposer_spec


class AdaptiveTrigramOptions(StatefulOptions):
    """How curious the search is."""

    exploration: float = Field(0.5, ge=0, description="Weight of candidates that have rarely been tried.")


SPEC = proposer_spec(
    name="adaptive_trigram",
    title="tri-gram counts of the outputs, searched with exploration; no weights, learns online",
    origin="Liu et al. 2024, ADED",
    factory="draftbench.drafts.adaptive_trigram.proposer:AdaptiveTrigram",
    options=AdaptiveTrigramOptions,
)
