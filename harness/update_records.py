"""What a run writes down of the updates of its drafts: one record for each, made or failed."""

from __future__ import annotations

from draftbench.harness.records import Line


class UpdateRecord(Line):
    """A draft's update after a block of a launch, outside of all cells."""

    launch: int
    block: int
    """After which it is; what it learnt from ends with it."""
    arm: str
    num_requests: int
    """Requests that it learnt from, equal ones counted once."""
    num_tokens: int
    """Delivered tokens of all requests since the update before, which share its cost."""
    num_positions: int
    """Rejected positions that it learnt from; 0 where nothing was, and the draft stays."""
    num_dropped: int
    """Further ones, older than the buffer holds."""
    num_steps: int | None
    loss_before: float | None
    """Over all these positions, in nats (tvd: a share)."""
    loss_after: float | None
    wall_ns: int
    """From its process's start to its end."""
    learning_ns: int | None
    """Of these, what is left without starting Python and reading models."""
    processor_s: float | None
    """Processor time of its process."""
    swap_ns: int | None
    """Until the engine had the new weights; None where it has none."""
    weights_sha256: str | None
    """Of the new weights; None where there are none."""
    folder: str | None
    """Where they lie in the run's folder, with what they were made from."""
    error: str | None
    """Why it failed; the draft stays as it was."""

    @property
    def is_made(self) -> bool:
        """Whether the draft has new weights."""
        return self.weights_sha256 is not None

    @property
    def cost_ns(self) -> int:
        """What it took, failed or not."""
        return self.wall_ns + (self.swap_ns or 0)
