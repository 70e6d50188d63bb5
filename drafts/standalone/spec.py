"""A small language model of the same vocabulary drafts."""

from drafts.api import DraftSpec

SPEC = DraftSpec(
    name="standalone",
    title="a small language model drafts",
    origin="Leviathan et al. 2023, Fast Inference from Transformers via Speculative Decoding",
    sglang_algorithm="STANDALONE",
    draft_model_class=None,
    needs_checkpoint=True,
)
