"""Shares of a corpus's tri-grams, raised by those of the running texts and searched by rollouts (ADED)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from draftbench.drafts.api import Checkpoint, Loadable, Tree
from draftbench.drafts.layout import check_sizes
from draftbench.drafts.proposer import StatefulOptions, proposer_spec
from draftbench.harness.errors import CheckpointError


class AdaptiveTrigramOptions(StatefulOptions):
    """The published constants. Source: liuxukun2000/Adaptix at 241dad8, DraftRetriever/src/lib.rs and mcts_sub.rs."""

    rollouts: int = Field(150, ge=1, description="Paths that the search tries in a round.")
    exploration: float = Field(
        32.0, ge=0, allow_inf_nan=False, description="Weight of a token's share against what its paths have scored."
    )
    exploration_growth: float = Field(
        8.0, gt=0, allow_inf_nan=False, description="Visits after which that weight begins to grow, by their logarithm."
    )
    window: int = Field(16, ge=3, description="A text's last tokens, whose tri-grams are raised in every round.")
    boost: float = Field(0.04, ge=0, allow_inf_nan=False, description="Added to the share of each of them.")
    highest: float = Field(3.0, gt=0, allow_inf_nan=False, description="Most that a raised share can be.")
    seed: int = Field(0, ge=0, description="Of the rollouts.")


def facts_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the engine has to say of a table."""
    return {"table_pairs": config["num_pairs"], "table_corpus": config["corpus_sha256"]}


def read(found: Checkpoint, options: AdaptiveTrigramOptions, tree: Tree) -> Loadable:
    """A table as `bench.py table` makes it."""
    from draftbench.harness.corpora.trigrams import ARCHITECTURE, table_shapes  # with NumPy, which a list does without

    if found.config.get("architectures") != [ARCHITECTURE]:
        raise CheckpointError(f"{found.folder}: no table of tri-grams; bench.py table makes one from a corpus.")
    check_sizes(found, "vocab_size")
    facts = {"proposer": "AdaptiveTrigram", **facts_of(found.config)}
    return Loadable(found.config, table_shapes(found.config), facts=facts)


SPEC = proposer_spec(
    name="adaptive_trigram",
    title="tri-grams of a corpus, raised by those of the running texts, searched by rollouts; learns online",
    origin="Liu et al. 2024, ADED",
    factory="draftbench.drafts.adaptive_trigram.proposer:AdaptiveTrigram",
    options=AdaptiveTrigramOptions,
    read=read,
)
