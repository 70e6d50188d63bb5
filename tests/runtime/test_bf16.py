"""bfloat16: rounding depends on a batch's shape, so losslessness is judged by scoring every emitted token again.

A pass over 16 tree nodes rounds otherwise than a pass over one token, and vanilla itself differs between batch shapes:
that is the control. Every token must be within δ of the best one, given the tokens before it, where δ is twice the
largest error that bfloat16 makes in a likely token's logit (an argmax can turn when two logits err by that much).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from draftbench.drafts.api import discover
from draftbench.drafts.training.hf import LlamaForCausalLM
from draftbench.harness.host.provenance import has_gpu
from draftbench.harness.models.find import EMBEDDED
from draftbench.harness.records import RequestRecord
from draftbench.harness.runtime.fleet import find_fleet
from draftbench.harness.suite import Suite
from tests.runtime.oracle import Oracle
from tests.runtime.test_engines import prompts, run

pytestmark = pytest.mark.slow
TINY = EMBEDDED / "tiny"
NUM_PROMPTS = 15
LIKELY = 8
GREEDY = {"temperature": 0.0}
SUITE: dict[str, Any] = {
    "version": 1,
    "name": "bf16",
    "target": {"model": "tiny", "dtype": "bfloat16"},
    "arms": (
        {"name": "vanilla", "architecture": "vanilla"},
        {"name": "prism", "architecture": "prism", "checkpoint": "tiny/prism", "num_steps": 5, "topk": 4,
         "num_draft_tokens": 16},
        {"name": "medusa", "architecture": "medusa", "checkpoint": "tiny/medusa", "num_steps": 4, "topk": 4,
         "num_draft_tokens": 16},
        {"name": "trigram", "architecture": "adaptive_trigram", "checkpoint": "tiny/trigram", "num_steps": 4,
         "topk": 12, "num_draft_tokens": 25},
        {"name": "flash", "architecture": "flash_text", "checkpoint": "tiny/flash-text", "num_steps": 5, "topk": 4,
         "num_draft_tokens": 16},
        {"name": "chimera", "architecture": "chimera", "checkpoint": "tiny/chimera", "num_steps": 4, "topk": 4,
         "num_draft_tokens": 16},
    ),
    "workloads": ({"name": "w", "source": "synthetic", "family": "code", "num_prompts": 1},),
    "sampling": {"temperature": 0, "max_tokens": 96, "seed": 0},
    "load": ({"concurrency": 5},),
    "blocks": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, RequestRecord]]:
    """Answers of vanilla, alone and five at a time, and of drafts."""
    arms = find_fleet(Suite.model_validate(SUITE), discover(), Path.cwd(), tmp_path_factory.mktemp("run"), has_gpu())
    arms = arms.forking(pytest.fail)
    found = {}
    for name in arms.by_name:
        engine = arms.start(name)
        try:
            found[name], _ = run(engine, name, 1, GREEDY, prompts()[:NUM_PROMPTS])
            if name == "vanilla":
                found["control"], _ = run(engine, name, 5, GREEDY, prompts()[:NUM_PROMPTS])
        finally:
            engine.stop()
    return found


@pytest.fixture(scope="module")
def scored(outputs: dict[str, dict[str, RequestRecord]]) -> dict[str, Any]:
    """δ, how far each emitted token is from the best one, and how far the second best is."""
    oracle = Oracle(TINY / "target")
    rounded = Oracle(TINY / "target")
    rounded.target = LlamaForCausalLM.from_pretrained(TINY / "target", dtype=torch.bfloat16).eval()
    errors, seconds = [], []
    gaps: dict[str, list[torch.Tensor]] = {name: [] for name in outputs}
    for prompt in prompts()[:NUM_PROMPTS]:
        for name, records in outputs.items():
            output = records[prompt.prompt_id].output_ids
            exact = oracle.logits(prompt.prompt_ids, output)
            best = exact.topk(LIKELY)
            gaps[name].append(best.values[:, 0] - exact[torch.arange(len(output)), torch.tensor(output)])
            if name == "vanilla":
                noisy = rounded.logits(prompt.prompt_ids, output).float()
                errors.append((noisy - exact).gather(1, best.indices).abs().max())
                seconds.append(best.values[:, 0] - best.values[:, 1])
    delta = 2 * float(torch.stack(errors).max())
    return {"delta": delta, "seconds": torch.cat(seconds), **{name: torch.cat(gap) for name, gap in gaps.items()}}


@pytest.mark.parametrize("name", ["control", *(arm["name"] for arm in SUITE["arms"])])
def test_every_token_is_the_best_one_up_to_rounding(outputs, scored, name):
    """Drafts' outputs are as close to the argmax as vanilla's own are."""
    assert all(record.error is None for record in outputs[name].values())
    assert len(scored[name]) > 600
    assert float(scored[name].max()) <= scored["delta"]


def test_the_bound_would_catch_wrong_tokens(scored):
    """The second best token is mostly farther away than δ: tokens chosen by mistake would be found."""
    assert float((scored["seconds"] > scored["delta"]).float().mean()) > 0.8
