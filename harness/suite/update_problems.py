"""What does not go together where drafts are updated between blocks, or blocks have prompts of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from draftbench.drafts.updated import UpdatedOptions
from draftbench.harness.suite.yaml_lines import Path_

if TYPE_CHECKING:
    from draftbench.harness.suite.schema import Suite


def update_problems(suite: Suite) -> list[tuple[Path_, str]]:
    """Blocks whose prompts the draft has learnt, blocks that see no update, and parts that cannot be had."""
    problems: list[tuple[Path_, str]] = []
    num_blocks, is_fresh = suite.blocks_per_launch, suite.block_prompts == "fresh"
    for index, arm in enumerate(suite.arms):
        if not arm.is_updated:
            continue
        if not is_fresh:
            text = "would learn the very prompts of later blocks; say block_prompts: fresh."
            problems.append((("arms", index, "architecture"), f"arms[{index}] is updated between blocks and {text}"))
        every = arm.options.get("every", UpdatedOptions.model_fields["every"].default)
        if isinstance(every, int) and every >= num_blocks:
            text = (
                f"arms[{index}] would be updated after {every} blocks, and a launch has {num_blocks}; take more blocks."
            )
            problems.append((("arms", index, "options", "every"), text))
    for index, workload in enumerate(suite.workloads if is_fresh else ()):
        if workload.num_prompts is not None and workload.num_prompts < num_blocks:
            text = f"is {workload.num_prompts}, but block_prompts: fresh shares them out over {num_blocks} blocks."
            problems.append((("workloads", index, "num_prompts"), f"workloads[{index}].num_prompts {text}"))
    for index, point in enumerate(suite.load if is_fresh else ()):
        if point.trace is not None:
            text = f"load[{index}].trace says when every prompt is sent, and block_prompts: fresh sends a part of them."
            problems.append((("load", index, "trace"), f"{text} Leave one of them out."))
    return problems
