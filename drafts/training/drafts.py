"""Train the embedded drafts on the target's own outputs: one loop, one budget, one objective per architecture.

    python -m drafts.training.drafts --target drafts/checkpoints/tiny/target --corpus corpus.jsonl \\
        --heldout heldout.jsonl --out drafts/checkpoints/tiny

A corpus is JSONL of {"prompt_ids": [...], "output_ids": [...]}, the target's greedy outputs; `drafts.training.outputs`
writes one without an engine. Every draft sees the same batches in the same order for the same number of steps.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from drafts.eagle.loss import EagleObjective, eagle_loss
from drafts.eagle.model import eagle_config, new_eagle
from drafts.standalone.loss import StandaloneObjective, standalone_loss
from drafts.standalone.model import new_standalone, standalone_config
from drafts.training.acceptance import Draft, TreeSize, measure_acceptance
from drafts.training.cards import save_draft
from drafts.training.corpus import sha256_of
from drafts.training.features import Batch, Features, read_samples
from drafts.training.hf import LlamaForCausalLM
from harness.errors import CheckpointError

TREE = TreeSize(num_steps=5, topk=4, num_draft_tokens=16)
CHAIN = TreeSize(num_steps=5, topk=1, num_draft_tokens=6)
Loss = Callable[[Any, Batch], Tensor]


@dataclass(frozen=True)
class Budget:
    """What is equal for all drafts: steps, batches and optimizer."""

    seed: int = 0
    num_steps: int = 300
    tokens_per_batch: int = 6144
    warmup_steps: int = 30
    decay_steps: int = 150
    learning_rate: float = 6e-3
    weight_decay: float = 0.01
    clip_norm: float = 1.0


@dataclass(frozen=True)
class Recipe:
    """One draft: how to build it, what it learns, its config.json, and how much of its compute repeats per batch."""

    architecture: str
    summary: str
    new: Callable[[dict[str, Any], LlamaForCausalLM, int], nn.Module]
    config: Callable[[dict[str, Any]], dict[str, Any]]
    objective: EagleObjective | StandaloneObjective
    num_passes: int

    def loss(self, draft: Any, batch: Batch) -> Tensor:
        """The objective's value on one batch."""
        if isinstance(self.objective, EagleObjective):
            return eagle_loss(draft, batch, self.objective)
        return standalone_loss(draft, batch, self.objective)


def embedding_of(target: LlamaForCausalLM) -> Tensor:
    """The target's token embedding [V, D]."""
    weight = target.get_input_embeddings().weight
    assert isinstance(weight, Tensor)
    return weight.data


def _new_eagle(config: dict[str, Any], target: LlamaForCausalLM, seed: int) -> nn.Module:
    return new_eagle(config, embedding_of(target), target.lm_head.weight.data, seed)


def _new_standalone(config: dict[str, Any], target: LlamaForCausalLM, seed: int) -> nn.Module:
    return new_standalone(config, embedding_of(target), seed)


RECIPES = {
    "standalone": Recipe(
        "standalone",
        "A 2-layer LLaMA language model, distilled from the target's probabilities on its own outputs.",
        _new_standalone,
        standalone_config,
        StandaloneObjective(soft_weight=1.0, hard_weight=0.0),
        1,
    ),
    "eagle": Recipe(
        "eagle",
        "A one-layer EAGLE head, trained on one step. Differs from EAGLE: cross-entropy weighs 1.0, not 0.1, and no "
        "noise is added to the features.",
        _new_eagle,
        eagle_config,
        EagleObjective(1, 1.0, 1.0, 0.0, 10, 1.0, True),
        1,
    ),
    "hass": Recipe(
        "eagle",
        "A one-layer EAGLE head, trained as HASS over 5 aligned passes, with the top-10 loss. Same batches and steps "
        "as `eagle`, about five times its training compute. Differs from HASS: cross-entropy weighs 1.0, not 0.1, and "
        "gradients flow through the passes.",
        _new_eagle,
        eagle_config,
        EagleObjective(5, 1.0, 1.0, 1.0, 10, 1.0, False),
        5,
    ),
}


def learning_rate_at(step: int, budget: Budget) -> float:
    """Linear warm-up, a plateau, and a linear decay to zero over the last `decay_steps`."""
    warm = min(1.0, (step + 1) / budget.warmup_steps)
    left = min(1.0, (budget.num_steps - step) / budget.decay_steps)
    return budget.learning_rate * warm * left


def new_optimizers(draft: nn.Module, budget: Budget) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the matrices inside, AdamW for embeddings, norms and biases; frozen weights are left out."""
    trained = [(name, p) for name, p in draft.named_parameters() if p.requires_grad]
    inner = [p for name, p in trained if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in trained if p.ndim != 2 or "embed" in name]
    return (
        torch.optim.Muon(inner, budget.learning_rate, weight_decay=budget.weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, budget.learning_rate, betas=(0.9, 0.95), weight_decay=0.0),
    )


def fit(draft: nn.Module, loss_of: Loss, features: Features, budget: Budget) -> list[float]:
    """Train in place and return the loss of every step."""
    optimizers = new_optimizers(draft, budget)
    batches = features.batches(budget.tokens_per_batch, budget.seed)
    losses: list[float] = []
    began = time.monotonic()
    for step in range(budget.num_steps):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate_at(step, budget)
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(draft, next(batches))
        loss.backward()
        nn.utils.clip_grad_norm_([p for p in draft.parameters() if p.requires_grad], budget.clip_norm)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
        if step % 50 == 0 or step + 1 == budget.num_steps:
            print(f"step {step} loss {losses[-1]:.4f} after {time.monotonic() - began:.0f} s", flush=True)
    return losses


def flops_per_step(draft: nn.Module, recipe: Recipe, features: Features, budget: Budget) -> float:
    """Floating-point operations of one optimizer step, from parameter counts.

    Per token and pass 6 for each trained weight; on the learned share of the tokens 4 for each weight of a frozen head
    (its own gradient is not computed), 6 for a trained one. Attention scores and the optimizer are left out.
    """
    inner = sum(p.numel() for name, p in draft.named_parameters() if p.requires_grad and "embed" not in name)
    head = draft.get_buffer("head_VD").numel() if recipe.architecture == "eagle" else 0
    tied = sum(p.numel() for name, p in draft.named_parameters() if p.requires_grad and "embed" in name)
    learned = sum(len(s.output_ids) - 1 for s in features.samples) / sum(len(s.ids) for s in features.samples)
    per_token = 6 * inner + learned * (4 * head + 6 * tied)
    return float(recipe.num_passes * per_token * budget.tokens_per_batch)


def train(
    name: str, target: LlamaForCausalLM, config: dict[str, Any], features: Features, heldout: dict[str, Features],
    budget: Budget, data: dict[str, Any], tokenizer_folder: Path, out: Path,
) -> None:  # fmt: skip
    """Train one draft, measure it on held-out outputs, and write its folder."""
    recipe = RECIPES[name]
    print(f"{name}: {recipe.summary}", flush=True)
    draft = recipe.new(config, target, budget.seed)
    began = time.monotonic()
    losses = fit(draft, recipe.loss, features, budget)
    wall_s = time.monotonic() - began
    draft.eval()
    tree = {group: measure_acceptance(_as_draft(draft), part, TREE) for group, part in heldout.items()}
    chain = {group: measure_acceptance(_as_draft(draft), part, CHAIN) for group, part in heldout.items()}
    for group, found in tree.items():
        print(f"{name} {group}: tree {found}; chain {chain[group]}", flush=True)
    ledger = {
        "script": "python -m drafts.training.drafts",
        "draft": name,
        "architecture": recipe.architecture,
        "summary": recipe.summary,
        "budget": asdict(budget),
        "objective": asdict(recipe.objective),
        "data": data,
        "num_trained_parameters": sum(p.numel() for p in draft.parameters() if p.requires_grad),
        "num_entries_seen": budget.num_steps * budget.tokens_per_batch,
        "training_flops_estimate": flops_per_step(draft, recipe, features, budget) * budget.num_steps,
        "wall_s": round(wall_s, 1),
        "num_threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "loss_every_25_steps": [round(loss, 4) for loss in losses[::25]],
        "heldout_acceptance": {
            "note": "plain-torch simulation of SGLang's rounds on the target's greedy outputs, fp32, bonus included",
            "tree": {"size": asdict(TREE)} | {group: asdict(found) for group, found in tree.items()},
            "chain": {"size": asdict(CHAIN)} | {group: asdict(found) for group, found in chain.items()},
        },
    }
    save_draft(draft, recipe.config(config), ledger, tokenizer_folder, out / name)


def _as_draft(draft: nn.Module) -> Draft:
    """The module under the name of what it does (nn.Module hides its call signature)."""
    return draft  # type: ignore[return-value]


def by_family(target: LlamaForCausalLM, path: Path) -> dict[str, Features]:
    """Held-out features: one group per family where lines carry "family", else a single group."""
    families = [json.loads(line).get("family", "heldout") for line in path.read_text().splitlines()]
    samples = read_samples(path)
    groups: dict[str, Features] = {}
    for family in dict.fromkeys(families):
        groups[family] = Features(target, [s for s, own in zip(samples, families, strict=True) if own == family])
    return groups


def run(
    names: list[str], target_path: Path, corpus: Path, heldout_path: Path, cache: Path | None, out: Path, budget: Budget
) -> None:
    """Compute the target's features once, then train each draft on them."""
    config = json.loads((target_path / "config.json").read_text())
    samples = read_samples(corpus)
    if not samples:
        raise CheckpointError(f"{corpus}: no outputs found; at least one line is needed. Write the corpus anew.")
    target = LlamaForCausalLM.from_pretrained(target_path, dtype=torch.float32).eval()
    began = time.monotonic()
    data: dict[str, Any] = {
        "target_sha256": sha256_of(target_path / "model.safetensors"),
        "corpus_sha256": sha256_of(corpus),
        "heldout_sha256": sha256_of(heldout_path),
        "num_outputs": len(samples),
    }
    cache_path = None
    if cache is not None:
        cache_path = cache / f"{data['target_sha256'][:16]}-{data['corpus_sha256'][:16]}.pt"
    features, heldout = Features(target, samples, cache_path), by_family(target, heldout_path)
    print(f"{len(samples)} outputs, {len(features.hidden_SD)} tokens, features after {time.monotonic() - began:.0f} s")
    data |= {
        "num_tokens": len(features.hidden_SD),
        "num_output_tokens": sum(len(sample.output_ids) for sample in samples),
    }
    for each in map(partial(_checked, allowed=tuple(RECIPES)), names):
        train(each, target, config, features, heldout, budget, data, target_path, out)


def _checked(name: str, allowed: tuple[str, ...]) -> str:
    if name not in allowed:
        raise CheckpointError(f"draft {name!r} is unknown; allowed: {', '.join(allowed)}. Name one of these.")
    return name


def main() -> None:
    """Read the paths and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", type=Path, required=True, help="folder of the target")
    parser.add_argument("--corpus", type=Path, required=True, help="the target's own outputs on the train split")
    parser.add_argument("--heldout", type=Path, required=True, help="the target's own outputs on held-out prompts")
    parser.add_argument("--out", type=Path, required=True, help="folder that gets one folder per draft")
    parser.add_argument("--draft", action="append", help=f"one of {', '.join(RECIPES)}; repeatable; default: all")
    parser.add_argument("--cache", type=Path, help="folder that keeps the target's features between runs")
    parser.add_argument("--steps", type=int, default=Budget.num_steps)
    args = parser.parse_args()
    budget = Budget(num_steps=args.steps, decay_steps=max(1, args.steps // 2))
    run(args.draft or list(RECIPES), args.target, args.corpus, args.heldout, args.cache, args.out, budget)


if __name__ == "__main__":
    main()
