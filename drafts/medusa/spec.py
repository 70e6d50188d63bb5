"""Heads on the target's last hidden state, one per later token (Medusa-1)."""

from drafts.api import DraftSpec

ARCHITECTURE = "MedusaHeads"

SPEC = DraftSpec(
    name="medusa",
    title="heads on the target's last hidden state, one per later token (Medusa-1)",
    origin="Cai et al. 2024, Medusa",
    sglang_algorithm="EAGLE",
    draft_model_class=ARCHITECTURE,
    needs_checkpoint=True,
)
