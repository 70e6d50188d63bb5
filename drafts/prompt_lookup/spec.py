"""What followed the last few tokens earlier in the same request drafts (prompt lookup decoding)."""

from __future__ import annotations

from pydantic import Field

from draftbench.drafts.api import Options
from draftbench.drafts.proposer import proposer_spec


class PromptLookupOptions(Options):
    """How much has to match."""

    longest_match: int = Field(3, ge=1, description="Tokens at the request's end that are looked for first.")
    shortest_match: int = Field(1, ge=1, description="Tokens that have to match at least.")


SPEC = proposer_spec(
    name="prompt_lookup",
    title="what followed the same tokens earlier in the request drafts; no weights, no memory of other requests",
    origin="Saxena 2023, prompt lookup decoding",
    factory="draftbench.drafts.prompt_lookup.proposer:PromptLookup",
    options=PromptLookupOptions,
)
