"""Write a trained draft's folder: weights, configuration, tokenizer, ledger and model card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


def save_draft(
    draft: nn.Module, config: dict[str, Any], ledger: dict[str, Any], tokenizer_folder: Path, out: Path
) -> None:
    """Write fp16 safetensors under the module's own names, config.json, training.json, README.md and the tokenizer."""
    out.mkdir(parents=True, exist_ok=True)
    weights = {
        name: (tensor.to(torch.float16) if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in draft.state_dict().items()
    }
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)  # safetensors leaves it readable by its owner alone
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (out / "training.json").write_text(json.dumps(ledger, indent=1) + "\n")
    (out / "README.md").write_text(card(ledger))
    for name in TOKENIZER_FILES:
        shutil.copyfile(tokenizer_folder / name, out / name)


def card(ledger: dict[str, Any]) -> str:
    """The model card: what the draft is, how it was trained, and what it accepts."""
    tree, chain = ledger["heldout_acceptance"]["tree"], ledger["heldout_acceptance"]["chain"]
    rows = "\n".join(
        f"| {group} | {found['acceptance_length']:.2f} | {chain[group]['acceptance_length']:.2f} | "
        + " ".join(f"{rate:.2f}" for rate in found["accept_rates"])
        + " |"
        for group, found in tree.items()
        if group != "size"
    )
    size, data = tree["size"], ledger["data"]
    return f"""# Draft `{ledger["draft"]}` for the embedded target

{ledger["summary"]}

- Architecture: `{ledger["architecture"]}`; {ledger["num_trained_parameters"]:,} trained parameters, stored as fp16.
- Data: {data["num_outputs"]:,} outputs of the target, {data["num_tokens"]:,} tokens; hashes in training.json.
- Budget: {ledger["budget"]["num_steps"]} steps of {ledger["budget"]["tokens_per_batch"]:,} tokens, Muon and AdamW;
  about {ledger["training_flops"]:.2e} FLOPs, {ledger["wall_s"]:.0f} s on a CPU, threads:
  {ledger["num_threads"]}.
- Only of use with the target whose hash training.json names.

Acceptance on held-out prompts, greedy, bonus token included, simulated in plain torch ({size["num_steps"]} steps,
{size["topk"]} branches, {size["num_draft_tokens"]} nodes; chain: {chain["size"]["num_steps"]} steps, one branch):

| prompts | tree | chain | accept rate of steps 1 to {size["num_steps"]} (tree) |
| --- | --- | --- | --- |
{rows}
"""
