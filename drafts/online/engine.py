"""SGLang's /update_weights_from_disk, for the draft alone: the target stays as it is.

SGLang loads what it is given into the target and the draft (0.5.17, managers/scheduler_components/weight_updater.py).
The caches are emptied: the draft's keys and values are of its old weights.
"""

from __future__ import annotations

from typing import Any

from sglang.srt.managers.io_struct import UpdateWeightFromDiskReqOutput
from sglang.srt.managers.scheduler_components.weight_updater import SchedulerWeightUpdaterManager


def update_draft(manager: Any, request: Any) -> UpdateWeightFromDiskReqOutput:
    """Load the draft's weights from a folder."""
    success, message = manager.draft_worker.update_weights_from_disk(request)
    if success:
        manager.flush_cache_after_weight_update(request)
    return UpdateWeightFromDiskReqOutput(success=success, message=message, num_paused_requests=0)


SchedulerWeightUpdaterManager.update_weights_from_disk = update_draft
