"""What followed the same tokens in the request and in earlier outputs drafts, by frequency (suffix decoding)."""

from __future__ import annotations

from pydantic import Field

from draftbench.drafts.proposer import StatefulOptions, proposer_spec


class SuffixOptions(StatefulOptions):
    """How far it looks back, and how boldly it drafts."""

    longest_match: int = Field(32, ge=1, description="Tokens at the request's end that are matched at most.")
    nodes_per_match: float = Field(
        2.0, gt=0, allow_inf_nan=False, description="Drafts for each matched token: longer matches draft more."
    )
    min_probability: float = Field(
        0.1, ge=0, le=1, description="Share of the occurrences that has to go on so; rarer paths are not drafted."
    )
    remembered_tokens: int = Field(
        500_000, ge=0, description="Of earlier outputs; the oldest are forgotten first, with 0 all of them."
    )


SPEC = proposer_spec(
    name="suffix",
    title="what followed the same tokens before, also in other outputs, by frequency; no weights, learns online",
    origin="Oliaro et al. 2024, SuffixDecoding",
    factory="draftbench.drafts.suffix.proposer:Suffix",
    options=SuffixOptions,
)
