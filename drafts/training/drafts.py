"""Train the embedded drafts on the target's own outputs: one loop, one budget, one objective per architecture.

    python -m drafts.training.drafts --target drafts/checkpoints/tiny/target --corpus corpus.jsonl \\
        --heldout heldout.jsonl --out drafts/checkpoints/tiny

A corpus is JSONL of {"prompt_ids": [...], "output_ids": [...]}, the target's greedy outputs, as `python bench.py
outputs` writes it. Every draft sees the same batches in the same order for the same number of steps.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from drafts.api import Tree
from drafts.eagle.loss import EagleObjective, eagle_loss
from drafts.eagle.model import eagle_config, new_eagle
from drafts.eagle3.loss import Eagle3Objective, eagle3_loss
from drafts.eagle3.model import eagle3_config, new_eagle3
from drafts.medusa.loss import MedusaObjective, medusa_loss
from drafts.medusa.model import MedusaDraft, medusa_config, new_medusa
from drafts.prism.loss import begin_switching, begin_warm_up
from drafts.prism.model import new_prism, prism_config
from drafts.standalone.loss import StandaloneObjective, standalone_loss
from drafts.standalone.model import new_standalone, standalone_config
from drafts.training.acceptance import Draft, measure_acceptance
from drafts.training.cards import save_draft
from drafts.training.corpus import sha256_of
from drafts.training.features import Batch, Features, Sample, read_samples
from drafts.training.hf import LlamaForCausalLM
from drafts.training.layer import VocabularyHead
from harness.errors import CheckpointError

TREE = Tree(num_steps=5, topk=4, num_draft_tokens=16)
CHAIN = Tree(num_steps=5, topk=1, num_draft_tokens=6)
MEDUSA_HEADS = 4
PRISM_MAP = (0, 1, 1, 1, 1)
"""Module 1 for the first step alone, module 2 for all later ones, as in PRISM's main results."""
EAGLE3_LAYERS = (1, 11, 20)
"""Layers (from 0) whose outputs EAGLE-3 reads: what SGLang takes by default from a target of 24 layers."""
EAGLE3_VOCAB = 1024
ENTRY_POINTS = "draftbench.recipes"


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
class Phase:
    """A share of the steps with one objective; `begin` changes the draft before the first of them."""

    share: float
    objective: Any
    loss: Callable[[Any, Batch, Any], Tensor]
    begin: Callable[[Any], None] = lambda draft: None


@dataclass(frozen=True)
class Recipe:
    """One draft: how to build it, what it learns, its config.json."""

    architecture: str
    summary: str
    new: Callable[[Start], nn.Module]
    config: Callable[[dict[str, Any]], dict[str, Any]]
    phases: tuple[Phase, ...]


@dataclass(frozen=True)
class Start:
    """What an untrained draft is made from."""

    config: dict[str, Any]
    target: LlamaForCausalLM
    samples: list[Sample]
    seed: int

    @property
    def embedding_VD(self) -> Tensor:
        """The target's token embedding."""
        weight = self.target.get_input_embeddings().weight
        assert isinstance(weight, Tensor)
        return weight.data

    @property
    def head_VD(self) -> Tensor:
        """The target's output head."""
        return self.target.lm_head.weight.data

    def frequent_tokens_W(self, count: int) -> Tensor:
        """The tokens that are most frequent in the corpus's outputs, ascending."""
        tokens = torch.tensor([token for sample in self.samples for token in sample.output_ids])
        counts = torch.bincount(tokens, minlength=self.embedding_VD.shape[0])
        return counts.argsort(descending=True, stable=True)[:count].sort().values


def _eagle(start: Start, num_layers: int = 1) -> nn.Module:
    return new_eagle(start.config, start.embedding_VD, start.head_VD, start.seed, num_layers)


ONE_STEP = EagleObjective(1, 1.0, 1.0, 0.0, 10, 1.0, True)
ALIGNED = EagleObjective(5, 1.0, 1.0, 1.0, 10, 1.0, False)
ALIGNED_LOGITS = replace(ALIGNED, feature_weight=0.0)
"""PRISM's second phase: without the loss on hidden states."""

RECIPES = {
    "standalone": Recipe(
        "standalone",
        "A 2-layer LLaMA language model, distilled from the target's probabilities on its own outputs.",
        lambda start: new_standalone(start.config, start.embedding_VD, start.seed),
        standalone_config,
        (Phase(1.0, StandaloneObjective(soft_weight=1.0, hard_weight=0.0), standalone_loss),),
    ),
    "medusa": Recipe(
        "medusa",
        "Four Medusa heads, trained on the target's probabilities; later heads weigh 0.8 of the one before.",
        lambda start: new_medusa(MEDUSA_HEADS, start.head_VD, start.seed),
        lambda config: medusa_config(config, MEDUSA_HEADS),
        (Phase(1.0, MedusaObjective(0.8), medusa_loss),),
    ),
    "eagle": Recipe(
        "eagle",
        "A one-layer EAGLE head, trained on one step. Differs from EAGLE: cross-entropy weighs 1.0, not 0.1, and no "
        "noise is added to the features.",
        _eagle,
        eagle_config,
        (Phase(1.0, ONE_STEP, eagle_loss),),
    ),
    "hass": Recipe(
        "eagle",
        "A one-layer EAGLE head, trained as HASS over 5 aligned passes, with the top-10 loss. Same batches and steps "
        "as `eagle`, about five times its training compute. Differs from HASS: cross-entropy weighs 1.0, not 0.1, and "
        "gradients flow through the passes.",
        _eagle,
        eagle_config,
        (Phase(1.0, ALIGNED, eagle_loss),),
    ),
    "stacked-2": Recipe(
        "eagle",
        "PRISM's control: two stacked layers that both run at every step, trained exactly as `hass`.",
        partial(_eagle, num_layers=2),
        partial(eagle_config, num_layers=2),
        (Phase(1.0, ALIGNED, eagle_loss),),
    ),
    "prism": Recipe(
        "prism",
        "Two PRISM modules, the first for draft step 1, the second for all later steps. Half of the steps train one "
        "module exactly as `hass`; then it is copied and the modules take turns, without the loss on hidden states. "
        "Differs from PRISM: soft targets and the top-10 loss as in `hass`, smooth L1 for MSE, 5 passes for 3, and "
        "gradients flow through the passes.",
        lambda start: new_prism(start.config, PRISM_MAP, start.embedding_VD, start.head_VD, start.seed),
        lambda config: prism_config(config, PRISM_MAP),
        (
            Phase(0.5, ALIGNED, eagle_loss, begin_warm_up),
            Phase(0.5, ALIGNED_LOGITS, eagle_loss, partial(begin_switching, step_to_module=PRISM_MAP)),
        ),
    ),
    "eagle3": Recipe(
        "eagle3",
        "A one-layer EAGLE-3 draft on the outputs of layers 1, 11 and 20, with training-time test over 5 passes and "
        "the 1,024 most frequent tokens of the corpus as its vocabulary.",
        lambda start: new_eagle3(
            start.config, start.frequent_tokens_W(EAGLE3_VOCAB), start.embedding_VD, start.head_VD, start.seed
        ),
        lambda config: eagle3_config(config, EAGLE3_VOCAB, EAGLE3_LAYERS),
        (Phase(1.0, Eagle3Objective(5, 0.8), eagle3_loss),),
    ),
}


def recipes() -> dict[str, Recipe]:
    """The embedded drafts' recipes and those of installed packages (entry-point group `draftbench.recipes`)."""
    return RECIPES | {point.name: point.load() for point in entry_points(group=ENTRY_POINTS)}


@dataclass(frozen=True)
class Course:
    """How a training went; FLOPs are torch's count of each phase's first step, times its steps."""

    losses: list[float]
    flops: float
    wall_s: float


def learning_rate_at(step: int, budget: Budget) -> float:
    """Linear warm-up, a plateau, and a linear decay to zero over the last `decay_steps`."""
    warm = min(1.0, (step + 1) / budget.warmup_steps)
    left = min(1.0, (budget.num_steps - step) / budget.decay_steps)
    return budget.learning_rate * warm * left


def new_optimizers(draft: nn.Module, budget: Budget) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the matrices inside, AdamW for embeddings, heads, norms and biases; frozen weights are left out."""
    vocabulary = {id(module.weight) for module in draft.modules() if isinstance(module, nn.Embedding | VocabularyHead)}
    trained = [p for p in draft.parameters() if p.requires_grad]
    inner = [p for p in trained if p.ndim == 2 and id(p) not in vocabulary]
    others = [p for p in trained if p.ndim != 2 or id(p) in vocabulary]
    return (
        torch.optim.Muon(inner, budget.learning_rate, weight_decay=budget.weight_decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, budget.learning_rate, betas=(0.9, 0.95), weight_decay=0.0),
    )


def fit(draft: nn.Module, phases: Sequence[Phase], features: Features, budget: Budget) -> Course:
    """Train in place, phase after phase over one stream of batches and one learning-rate schedule."""
    batches = features.batches(budget.tokens_per_batch, budget.seed)
    losses: list[float] = []
    flops = 0.0
    began = time.monotonic()
    for index, phase in enumerate(phases):
        phase.begin(draft)
        optimizers = new_optimizers(draft, budget)
        end = round(budget.num_steps * sum(each.share for each in phases[: index + 1]))
        first = len(losses)
        for step in range(first, end):
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate_at(step, budget)
            with FlopCounterMode(display=False) if step == first else nullcontext() as counter:
                with torch.autocast("cpu", torch.bfloat16):
                    loss = phase.loss(draft, next(batches), phase.objective)
                loss.backward()
            if counter is not None:
                flops += counter.get_total_flops() * (end - first)
            nn.utils.clip_grad_norm_([p for p in draft.parameters() if p.requires_grad], budget.clip_norm)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            losses.append(loss.item())
            if step % 50 == 0 or step + 1 == budget.num_steps:
                print(f"step {step} loss {losses[-1]:.4f} after {time.monotonic() - began:.0f} s", flush=True)
    return Course(losses, float(flops), time.monotonic() - began)


def train(
    name: str, target: LlamaForCausalLM, config: dict[str, Any], features: Features, heldout: dict[str, Features],
    budget: Budget, data: dict[str, Any], tokenizer_folder: Path, out: Path,
) -> None:  # fmt: skip
    """Train one draft, measure it on held-out outputs, and write its folder."""
    recipe = recipes()[name]
    print(f"{name}: {recipe.summary}", flush=True)
    draft = recipe.new(Start(config, target, features.samples, budget.seed))
    course = fit(draft, recipe.phases, features, budget)
    draft.eval()
    tree_size, chain_size = TREE, CHAIN
    if isinstance(draft, MedusaDraft):
        tree_size, chain_size = replace(TREE, num_steps=len(draft)), Tree(len(draft), 1, len(draft) + 1)
    tree = {group: measure_acceptance(_as_draft(draft), part, tree_size) for group, part in heldout.items()}
    chain = {group: measure_acceptance(_as_draft(draft), part, chain_size) for group, part in heldout.items()}
    for group, found in tree.items():
        print(f"{name} {group}: tree {found}; chain {chain[group]}", flush=True)
    ledger = {
        "script": "python -m drafts.training.drafts",
        "draft": name,
        "architecture": recipe.architecture,
        "summary": recipe.summary,
        "budget": asdict(budget),
        "phases": [{"share": phase.share, "objective": asdict(phase.objective)} for phase in recipe.phases],
        "data": data,
        "num_trained_parameters": sum(p.numel() for p in draft.parameters() if p.requires_grad),
        "num_entries_seen": budget.num_steps * budget.tokens_per_batch,
        "training_flops": course.flops,
        "wall_s": round(course.wall_s, 1),
        "num_threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "loss_every_25_steps": [round(loss, 4) for loss in course.losses[::25]],
        "heldout_acceptance": {
            "note": "plain-torch simulation of SGLang's rounds on the target's greedy outputs, fp32, bonus included",
            "tree": {"size": asdict(tree_size)} | {group: asdict(found) for group, found in tree.items()},
            "chain": {"size": asdict(chain_size)} | {group: asdict(found) for group, found in chain.items()},
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
        own = [sample for sample, label in zip(samples, families, strict=True) if label == family]
        groups[family] = Features(target, own, layers=EAGLE3_LAYERS)
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
        cache_path = cache / f"{data['target_sha256'][:16]}-{data['corpus_sha256'][:16]}-layers.pt"
    features, heldout = Features(target, samples, cache_path, EAGLE3_LAYERS), by_family(target, heldout_path)
    print(f"{len(samples)} outputs, {len(features.hidden_SD)} tokens, features after {time.monotonic() - began:.0f} s")
    data |= {
        "num_tokens": len(features.hidden_SD),
        "num_output_tokens": sum(len(sample.output_ids) for sample in samples),
    }
    for each in map(partial(_checked, allowed=tuple(recipes())), names):
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
