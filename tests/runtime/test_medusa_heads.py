"""Medusa's heads in the engine and in training are the same function of the hidden state."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from draftbench.drafts.medusa.model import new_medusa
from draftbench.harness.host.provenance import has_gpu
from draftbench.harness.models.find import EMBEDDED
from draftbench.harness.runtime.cpu.environment import engine_environment

ENGINE_SIDE = """
import sys
from types import SimpleNamespace
import torch
from safetensors.torch import load_file
from draftbench.drafts.medusa.engine import MedusaHeads
config = SimpleNamespace(
    hidden_size=128, vocab_size=2048, medusa_num_heads=4, medusa_num_layers=1, medusa_choices=None
)
heads = MedusaHeads(config)
heads.load_weights(load_file(sys.argv[1]).items())
hidden = torch.load(sys.argv[2])
torch.save([heads.heads[number](hidden) for number in range(4)], sys.argv[3])
"""


@pytest.mark.slow
def test_torch_and_engine_heads_give_the_same_logits(tmp_path: Path) -> None:
    """Four heads on 16 hidden states, within 1e-4."""
    weights = EMBEDDED / "tiny" / "medusa" / "model.safetensors"
    hidden = torch.randn(16, 128, generator=torch.Generator().manual_seed(0))
    torch.save(hidden, tmp_path / "hidden.pt")
    environment = dict(os.environ) | ({} if has_gpu() else engine_environment())
    words = [sys.executable, "-c", ENGINE_SIDE, str(weights), str(tmp_path / "hidden.pt"), str(tmp_path / "logits.pt")]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    draft = new_medusa(4, torch.zeros(2048, 128), 0)
    draft.load_state_dict(load_file(weights))
    for number, found in enumerate(torch.load(tmp_path / "logits.pt"), 1):
        torch.testing.assert_close(found, draft.logits(hidden, number), rtol=1e-4, atol=1e-4)
