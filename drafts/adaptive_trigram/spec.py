"""Tri-gram counts of the target's outputs, searched with a balance of exploring and exploiting (ADED)."""

from __future__ import annotations

from pydantic import Field

from drafts.api import DraftSpec, full_tree
from drafts.ngram import ngram_arguments
from drafts.proposer import ProposerSpec, StatefulOptions


class AdaptiveTrigramOptions(StatefulOptions):
    """How curious the search is."""

    exploration: float = Field(0.5, ge=0, description="Weight of candidates that have rarely been tried.")


SPEC = DraftSpec(
    name="adaptive_trigram",
    title="tri-gram counts of the outputs, searched with exploration; no weights, learns online",
    origin="Liu et al. 2024, ADED",
    sglang_algorithm="NGRAM",
    draft_model_class=None,
    needs_checkpoint=False,
    options=AdaptiveTrigramOptions,
    largest_tree=full_tree,
    engine_arguments=ngram_arguments,
    proposer=ProposerSpec("drafts.adaptive_trigram.proposer:AdaptiveTrigram"),
)
