"""A plugin that tests put on the engines' path: keeps what goes into and comes out of the draft's first passes.

It does so where the run's folder has a file named `probed`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

NUM_PASSES = 24


def activate() -> None:
    """Hook the model runner where draftbench has started the engine."""
    folder = os.environ.get("DRAFTBENCH_ENGINE_FOLDER")
    if folder is None or not (Path(folder).parents[1] / "probed").exists():
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
    if json.loads(os.environ["DRAFTBENCH_DRAFT"])["architecture"] == "token_recycling":
        record_table(Path(folder))


def record_table(folder: Path) -> None:
    """What the target said at every verified node since the last flush, and the table that was made of it."""
    import torch
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    from draftbench.drafts.token_recycling.proposer import TokenRecycling

    passes: list[Any] = []

    def forward(original: Any, runner: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        tokens, verifies = batch.input_ids.clone(), batch.forward_mode.is_target_verify()
        result = original(runner, batch, *args, **kwargs)
        if verifies:
            passes.append((tokens, result.logits_output.next_token_logits.topk(8).indices))
        return result

    original_reset = TokenRecycling.reset

    def reset(self: Any) -> None:
        if passes:
            table = torch.from_numpy(self.successors_VK.copy())
            torch.save({"passes": list(passes), "table": table}, folder / "table.pt")
        passes.clear()
        original_reset(self)

    HookRegistry.register("sglang.srt.model_executor.model_runner.ModelRunner.forward", forward, HookType.AROUND)
    TokenRecycling.reset = reset  # type: ignore[method-assign]
