"""What it costs each draft that SGLang 0.5.17 leaves a branch's keys and values in their slots.

With more than one branch SGLang moves a beam's hidden state to where the beam goes on, not its keys and values: a
branch reads what other branches wrote in its slot. Simulated in plain torch, both ways, on the target's own outputs.

python benchmarks/branch_kv.py outputs.jsonl        (written by `bench.py outputs`)
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from tabulate import tabulate

from drafts.training.acceptance import measure_acceptance
from drafts.training.drafts import EAGLE3_LAYERS, TREE
from drafts.training.features import Features, read_samples
from drafts.training.hf import LlamaForCausalLM
from drafts.training.load import load_draft
from harness.models import EMBEDDED

DRAFTS = ("standalone", "eagle", "hass", "stacked-2", "prism", "eagle3")


def main(path: Path) -> None:
    """Print acceptance lengths with slots as they are and with keys and values that follow their beams."""
    target = LlamaForCausalLM.from_pretrained(EMBEDDED / "tiny" / "target", dtype=torch.float32).eval()
    features = Features(target, read_samples(path), layers=EAGLE3_LAYERS, dtype=torch.float32)
    rows = []
    for name in DRAFTS:
        draft = load_draft(EMBEDDED / "tiny" / name, target)
        slots, beams = (
            measure_acceptance(draft, features, TREE, follow_beams=follow).acceptance_length for follow in (False, True)
        )
        rows.append((name, f"{slots:.3f}", f"{beams:.3f}", f"{slots / beams - 1:+.2%}"))
    print(tabulate(rows, ("draft", "τ in slots (the engine)", "τ with beams' own KV", "cost"), "github"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
