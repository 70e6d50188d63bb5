"""No draft: one token a step, the baseline of every comparison."""

from draftbench.drafts.api import DraftSpec

SPEC = DraftSpec(
    name="vanilla",
    title="no draft, one token a step",
    origin="the baseline",
    sglang_algorithm=None,
    draft_model_class=None,
    needs_checkpoint=False,
)
