"""Write a trained draft's folder: weights, configuration, tokenizer, curve, ledger and model card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from draftbench.drafts.training.shards import write_atomically

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
LEDGER = "training.json"


def save_draft(
    draft: nn.Module, config: dict[str, Any], ledger: dict[str, Any], tokenizer_folder: Path, out: Path
) -> None:
    """Write the weights in fp16 under the module's own names, config.json, README.md, tokenizer; training.json last."""
    out.mkdir(parents=True, exist_ok=True)
    weights = {
        name: (tensor.to(torch.float16) if tensor.is_floating_point() else tensor).contiguous().cpu()
        for name, tensor in draft.state_dict().items()
    }
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)  # safetensors leaves it readable by its owner alone
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (out / "README.md").write_text(card(ledger))
    for name in TOKENIZER_FILES:
        if (tokenizer_folder / name).exists():
            shutil.copyfile(tokenizer_folder / name, out / name)
    write_atomically(out / LEDGER, (json.dumps(ledger, indent=1) + "\n").encode())


def draw_curve(lines: list[dict[str, Any]], title: str, path: Path) -> None:
    """The losses of a training over its steps, as SVG."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "draftbench"  # else every drawing has other ids
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([line["tokens"] for line in lines], [line["loss"] for line in lines], linewidth=0.8, label="training")
    validated = [line for line in lines if "validation_loss" in line]
    axes.plot(
        [line["tokens"] for line in validated],
        [line["validation_loss"] for line in validated],
        marker="o",
        markersize=3,
        label="validation",
    )
    axes.set(title=title, xlabel="tokens", ylabel="loss", yscale="log")
    axes.legend()
    figure.savefig(path, metadata={"Date": None})


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
    size, data, used = tree["size"], ledger["data"], ledger["used"]
    rates = ", ".join(f"{tried['rate']:g}" for tried in ledger["learning_rates"])
    answers = {"target": "the target's own answers", "corpus": "the corpus's own text"}[data["responses"]]
    return f"""# Draft `{ledger["draft"]}`

{ledger["summary"]}

- Architecture: `{ledger["architecture"]}`; {ledger["num_trained_parameters"]:,} trained parameters, stored as fp16.
- Data: {data["num_samples"]:,} samples of {data["num_tokens"]:,} tokens, {answers}; hashes in training.json.
- Budget: {ledger["budget"]["amount"]:,.0f} {ledger["budget"]["axis"]}; used {used["tokens"]:,} tokens in
  {used["steps"]:,} steps, about {used["flops"]:.2e} FLOPs. Muon and AdamW, learning rate
  {ledger["budget"]["learning_rate"]:g} of {rates}.
- Only of use with the target whose hash training.json names.

Acceptance on held-out prompts, bonus token included, simulated in plain torch ({size["num_steps"]} steps,
{size["topk"]} branches, {size["num_draft_tokens"]} nodes; chain: {chain["size"]["num_steps"]} steps, one branch):

| prompts | tree | chain | accept rate of steps 1 to {size["num_steps"]} (tree) |
| --- | --- | --- | --- |
{rows}
"""
