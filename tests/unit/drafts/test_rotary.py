"""Rotary positions in training are transformers' and SGLang's, for every scaling of the frequencies."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sglang.srt.layers.rotary_embedding import base, get_rope
from sglang.srt.server_args import ServerArgs, set_global_server_args_for_scheduler

from draftbench.drafts.training.hf import LlamaConfig, rotary_of
from draftbench.drafts.training.layer import rotated
from draftbench.harness.errors import TrainingError
from tests.fakes.target import CONFIG

SIZE = 64
POSITIONS = torch.tensor([0, 1, 4001, 6000, 8190])
FACTORS = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
"""Llama 3.1's; its factor is 8."""
KINDS: dict[str, dict[str, Any]] = {
    "default": {},
    "linear": {"factor": 4.0},
    "dynamic": {"factor": 2.0},
    "llama3": {"factor": 8.0, "original_max_position_embeddings": 2048, **FACTORS},
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 2048},
}


def config(kind: str, **changes: Any) -> dict[str, Any]:
    """A target with this scaling, as transformers 4 wrote it."""
    scaling = {"rope_scaling": {"rope_type": kind, **KINDS[kind]}} if kind != "default" else {}
    own = {"head_dim": SIZE, "rope_theta": 500000.0, "max_position_embeddings": 4096 if kind == "dynamic" else 8192}
    return {**CONFIG, **own, **scaling, **changes}


@pytest.mark.parametrize("kind", KINDS)
def test_rotation_is_transformers_and_sglangs(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within 1e-4 beyond position 4,000; dynamic frequencies are those of the longest sequence, as SGLang has them."""
    found = config(kind)
    angles, scale = rotary_of(found)
    torch.manual_seed(0)
    x_BHTC = torch.randn(1, 1, len(POSITIONS), SIZE)
    ours = rotated(x_BHTC, POSITIONS[None], angles, scale)[0, 0]
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

    described: Any = LlamaConfig(**found)
    rotary: Any = LlamaRotaryEmbedding(described)
    longest = torch.tensor([8191])  # makes dynamic frequencies those of the longest sequence
    cos, sin = (part[:, :-1] for part in rotary(x_BHTC, torch.cat((POSITIONS, longest))[None]))
    theirs = apply_rotary_pos_emb(x_BHTC, x_BHTC, cos, sin)[0][0, 0]
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    monkeypatch.setattr(base, "_is_cpu", True)  # an engine's environment says so at import
    set_global_server_args_for_scheduler(ServerArgs(model_path="dummy", device="cpu"))
    served = get_rope(
        SIZE, SIZE, found["max_position_embeddings"], 500000.0, True, described.rope_parameters, torch.float32
    )
    rows = x_BHTC[0, 0].clone()
    engine = served.forward_native(POSITIONS, rows, rows.clone())[0]
    torch.testing.assert_close(ours, engine, atol=1e-4, rtol=0)


def test_a_kind_that_is_not_computed_alike_is_refused() -> None:
    """Phi's longrope."""
    scaling = {"rope_type": "longrope", "short_factor": [1.0] * 32, "long_factor": [2.0] * 32, "factor": 2.0}
    with pytest.raises(TrainingError, match="rope_scaling is longrope"):
        rotary_of(config("default", rope_scaling={**scaling, "original_max_position_embeddings": 4096}))
