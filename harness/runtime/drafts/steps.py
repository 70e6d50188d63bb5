"""Which draft step a pass belongs to, for models whose steps differ. Plain Python, so that a CUDA graph can hold it."""

from __future__ import annotations

from typing import Any

from sglang.srt.speculative.eagle_worker_v2 import EagleDraftWorker


class StepCounter:
    """Passes over accepted tokens are draft step 1; a round's decode passes are steps 2, 3, … in their order."""

    def __init__(self) -> None:
        self._num_decode_passes = 0

    def begin_round(self) -> None:
        """The next decode pass is draft step 2."""
        self._num_decode_passes = 0

    def step_of(self, forward_batch: Any) -> int:
        """The draft step, from 1, of the pass that begins now."""
        if not forward_batch.forward_mode.is_decode():
            return 1
        self._num_decode_passes += 1
        return self._num_decode_passes + 1


class SteppedDraftWorker(EagleDraftWorker):
    """EAGLE's draft worker, which tells the model's `steps` when a round begins."""

    def draft_forward(self, forward_batch: Any) -> Any:
        """All decode passes of one round."""
        self.draft_runner.model.steps.begin_round()
        return super().draft_forward(forward_batch)
