"""FSPAD's objective: the loss on hidden states falls on the state that goes on, that on scores on the other alone.

The terms and passes are EAGLE's and HASS's (`draftbench.drafts.eagle.loss`); what is partial is the alignment.
Source: FSPAD (arXiv 2408.15562): smooth L1 1.0 and cross-entropy 0.1, one pass (Luc4Gui/FSPAD
eagle/train/main_fspad.py).
"""

from __future__ import annotations

from torch import Tensor

from draftbench.drafts.eagle.loss import EagleObjective, weighted_passes
from draftbench.drafts.fspad.model import FspadDraft
from draftbench.drafts.training.features import Batch


def fspad_loss(draft: FspadDraft, batch: Batch, objective: EagleObjective) -> Tensor:
    """The weighted mean of the passes' losses over the entries that a draft step can meet."""
    return weighted_passes(draft, batch, objective, lambda states: states[..., draft.size :])
