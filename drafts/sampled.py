"""Drafts that are sampled, and papers' own rules for accepting them, as options of drafts that give probabilities."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from draftbench.drafts.adaptive import AdaptiveOptions
from draftbench.drafts.api import Options, Tree

Rule = Literal["rsd", "spectr"]


class SampledOptions(Options):
    """How drafts are chosen and accepted at temperatures above 0; at 0 both are as without it."""

    acceptance_rule: Rule | None = Field(
        None,
        description="Sample topk paths and accept them by recursive rejection (rsd: the first tokens without "
        "replacement) or by k-SEQ (spectr: with it), at temperatures above 0.",
    )

    def problem(self, tree: Tree) -> tuple[str, str] | None:
        """Every path is a whole one, so the tree has as many nodes as they have."""
        nodes = tree.topk * tree.num_steps + 1
        if self.acceptance_rule is None or tree.num_draft_tokens == nodes:
            return None
        return "acceptance_rule", (
            f"is {self.acceptance_rule}, which drafts topk paths of num_steps tokens: set num_draft_tokens to {nodes}."
        )


class EagleOptions(SampledOptions, AdaptiveOptions):
    """Of drafts under SGLang's EAGLE whose children are chosen by probability."""

    def problem(self, tree: Tree) -> tuple[str, str] | None:
        """What either of the two says."""
        if self.acceptance_rule is not None and self.adaptive_steps is not None:
            return "acceptance_rule", "goes with a fixed number of steps; leave adaptive_steps out, or it."
        return SampledOptions.problem(self, tree) or AdaptiveOptions.problem(self, tree)
