"""A plugin that tests put on the engines' path: keeps what goes into and comes out of the draft's first passes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

NUM_PASSES = 24


def activate() -> None:
    """Hook the model runner where draftbench has started the engine."""
    folder = os.environ.get("DRAFTBENCH_ENGINE_FOLDER")
    if folder is None:
        return
    import torch
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    passes: list[dict[str, Any]] = []

    def forward(original: Any, runner: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        keep = runner.is_draft_worker and len(passes) < NUM_PASSES
        if keep:
            hidden = batch.spec_info.hidden_states
            found = {"tokens": batch.input_ids.clone(), "positions": batch.positions.clone()}
            found |= {"mode": batch.forward_mode.name, "hidden": None if hidden is None else hidden.clone()}
        result = original(runner, batch, *args, **kwargs)
        if keep:
            passes.append(found | {"logits": result.logits_output.next_token_logits.clone()})
            torch.save(passes, Path(folder) / "passes.pt")
        return result

    HookRegistry.register("sglang.srt.model_executor.model_runner.ModelRunner.forward", forward, HookType.AROUND)
