"""DFlash is SGLang's own; on a host without a GPU it needs what the CPU runtime adds for blocks."""

from __future__ import annotations

import torch

if not torch.cuda.is_available():
    from draftbench.harness.runtime.cpu import block_drafts

    block_drafts.install()
