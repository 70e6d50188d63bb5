"""PRISM's training in two phases over the aligned passes that HASS uses.

Warm-up: one module makes all passes, with the loss on hidden states. Then its weights are copied into every module, the
loss on hidden states is dropped, and pass j is made by the module of draft step j.
Source: PRISM (arXiv 2602.01762, section 3.2); the passes: `draftbench.drafts.eagle.loss`.
"""

from __future__ import annotations

from draftbench.drafts.prism.model import PrismDraft, copy_first_module


def begin_warm_up(draft: PrismDraft) -> None:
    """Let the first module serve every step."""
    draft.step_to_module = (0,) * len(draft.step_to_module)


def begin_switching(draft: PrismDraft, step_to_module: tuple[int, ...]) -> None:
    """Copy the first module's weights into all and let each step have its own."""
    copy_first_module(draft)
    draft.step_to_module = step_to_module
