"""One layer on three of the target's layers, with a vocabulary of its own (EAGLE-3)."""

from drafts.api import DraftSpec

SPEC = DraftSpec(
    name="eagle3",
    title="one layer on three of the target's layers, with a vocabulary of its own (EAGLE-3)",
    origin="Li et al. 2025, EAGLE-3",
    sglang_algorithm="EAGLE3",
    draft_model_class="LlamaForCausalLMEagle3",
    needs_checkpoint=True,
)
