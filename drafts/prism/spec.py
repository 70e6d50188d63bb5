"""Modules that take turns over the draft steps, at the cost of one (PRISM)."""

from drafts.api import DraftSpec

ARCHITECTURE = "LlamaForCausalLMPrism"
STEP_TO_MODULE = "step_to_module"

SPEC = DraftSpec(
    name="prism",
    title="modules that take turns over the draft steps; each step costs what one module costs",
    origin="PRISM, arXiv 2602.01762, MLSys 2026",
    sglang_algorithm="EAGLE",
    draft_model_class=ARCHITECTURE,
    needs_checkpoint=True,
)
