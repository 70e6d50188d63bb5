"""SGLang's adaptive number of draft steps, an option of drafts with chains that run under its EAGLE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from draftbench.drafts.api import Options, Tree, eagle_arguments


class AdaptiveOptions(Options):
    """Whether the number of draft steps follows what is accepted."""

    adaptive_steps: list[int] | None = Field(
        None,
        description="Numbers of draft steps that SGLang changes between, ascending; the last is num_steps, "
        "with which it begins. For topk 1 alone.",
        min_length=2,
    )

    def problem(self, tree: Tree) -> tuple[str, str] | None:
        """They need a chain, and its length among them."""
        steps = self.adaptive_steps
        if steps is None:
            return None
        if steps != sorted(set(steps)) or steps[0] < 0:
            return "adaptive_steps", f"is {steps}; write numbers from 0 on, each once, ascending."
        if tree.topk != 1:
            return "adaptive_steps", f"goes with topk 1 alone, and it is {tree.topk}; SGLang changes no wider trees."
        if steps[-1] != tree.num_steps:
            return "adaptive_steps", f"ends with {steps[-1]}, but num_steps is {tree.num_steps}; make them equal."
        return None


def adaptive_arguments(tree: Tree, options: AdaptiveOptions) -> Mapping[str, Any]:
    """The tree as SGLang's EAGLE family takes it, and the steps to change between: one list for all batch sizes."""
    if options.adaptive_steps is None:
        return eagle_arguments(tree, options)
    chosen = {"1": {"candidate_steps": options.adaptive_steps}}
    return {**eagle_arguments(tree, options), "speculative_adaptive": True, "speculative_adaptive_config": chosen}
