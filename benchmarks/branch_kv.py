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

from draftbench.drafts.api import Tree
from draftbench.drafts.layout import default_layers
from draftbench.drafts.training.features import features_of
from draftbench.drafts.training.hf import LlamaForCausalLM
from draftbench.drafts.training.load import load_draft
from draftbench.drafts.training.offline_acceptance import measure_acceptance
from draftbench.drafts.training.tokens import read_samples
from draftbench.harness.models.find import EMBEDDED

TREE = Tree(num_steps=5, topk=4, num_draft_tokens=16)
DRAFTS = {
    "standalone": "standalone",
    "eagle": "eagle",
    "hass": "eagle",
    "stacked-2": "eagle",
    "prism": "prism",
    "eagle3": "eagle3",
}
"""Embedded drafts and their architectures."""


def main(path: Path) -> None:
    """Print acceptance lengths with slots as they are and with keys and values that follow their beams."""
    target = LlamaForCausalLM.from_pretrained(EMBEDDED / "tiny" / "target", dtype=torch.float32).eval()
    samples = read_samples(path)
    features = features_of(target, samples, default_layers(target.config.num_hidden_layers), torch.float32)
    rows = []
    for name, architecture in DRAFTS.items():
        draft = load_draft(architecture, EMBEDDED / "tiny" / name, target, TREE)
        slots, beams = (
            measure_acceptance(draft, features, samples, TREE, follow_beams=follow).acceptance_length
            for follow in (False, True)
        )
        rows.append((name, f"{slots:.3f}", f"{beams:.3f}", f"{slots / beams - 1:+.2%}"))
    print(tabulate(rows, ("draft", "τ in slots (the engine)", "τ with beams' own KV", "cost"), "github"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
