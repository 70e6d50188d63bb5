"""One layer on the target's last hidden state drafts a tree; HASS trains the same weights over several steps."""

from drafts.api import DraftSpec

SPEC = DraftSpec(
    name="eagle",
    title="one layer on the target's last hidden state (EAGLE-1/2; HASS weights too)",
    origin="Li et al. 2024, EAGLE-2; HASS: Zhang et al. 2024",
    sglang_algorithm="EAGLE",
    draft_model_class="LlamaForCausalLMEagle",
    needs_checkpoint=True,
)
