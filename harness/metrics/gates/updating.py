"""Whether a draft that is updated between blocks was updated, and met nothing that it had learnt before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from draftbench.harness.metrics.blocks import Blocks
from draftbench.harness.metrics.draft_updating import learnt_prompts
from draftbench.harness.metrics.gates.gate import Gate
from draftbench.harness.update_records import UpdateRecord


def failed_updates(updates: Sequence[UpdateRecord]) -> Iterable[str]:
    """Updates that failed; the draft went on as it was."""
    failed = [update for update in updates if update.error is not None]
    if failed:
        yield (
            f"{len(failed)} of {len(updates)}, the first after launch {failed[0].launch} block {failed[0].block}: "
            f"{failed[0].error}"
        )


FAILED_UPDATE = Gate(
    "failed update", "warning", "row", "Every update of the draft that was due was made.",
    "After one that failed the draft goes on as it was: the row is of a draft that was updated less often.",
    "Read the update's log in the run's folder under updates/, then start a new run.",
    lambda at: failed_updates(at.known.updates),
)  # fmt: skip


def repeated_prompts(blocks: Blocks, updates: Sequence[UpdateRecord]) -> Iterable[str]:
    """Requests whose prompt the draft had learnt from before."""
    known, after = learnt_prompts(blocks, updates)
    if known:
        yield f"{known} of {after} requests after an update have a prompt that it learnt from"


LEARNT_PROMPTS = Gate(
    "learnt prompts", "warning", "row",
    "A draft that is updated between blocks was sent no prompt again that it had learnt from.",
    "It then knows the answer by heart, which no live traffic grants it: contamination.",
    "Say block_prompts: fresh, and take prompts that differ from each other.",
    lambda at: repeated_prompts(at.blocks, at.known.updates),
)  # fmt: skip
