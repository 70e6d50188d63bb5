"""A draft's ledger: what it was trained on, for how long, with what, and what it accepts on held-out answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from draftbench.drafts.api import Tree
from draftbench.drafts.training.draft import Draft, first_tokens, target_states
from draftbench.drafts.training.features import Example, Features
from draftbench.drafts.training.loop import Task, Trainer
from draftbench.drafts.training.offline_acceptance import accepted_over, all_rounds
from draftbench.drafts.training.recipe import Recipe
from draftbench.drafts.training.settings import TreeSize
from draftbench.drafts.training.shards import write_atomically

ACCEPTANCE = "acceptance.jsonl"
Groups = dict[str, tuple[Features, Sequence[Example]]]
"""Held-out answers by kind."""


def trained_parameters(draft: nn.Module) -> int:
    """Numbers that training changes."""
    return sum(parameter.numel() for parameter in draft.parameters() if parameter.requires_grad)


def active_parameters(draft: Any, features: Features, num_steps: int) -> list[int]:
    """Trained numbers that each draft step reads: those that a gradient of its scores reaches."""
    batch = features.batch([0])
    found = []
    output = torch.empty(0)
    trained = [parameter for parameter in draft.parameters() if parameter.requires_grad]
    for step in range(1, steps_of(draft, num_steps) + 1):
        from_target = step == 1 or draft.proposal == "joint"
        hidden = target_states(draft, batch.hidden_BTD, batch.aux_BTE) if from_target else output.detach()
        tokens = first_tokens(draft, batch.tokens_BT, batch.positions_BT) if step == 1 else batch.tokens_BT
        output = draft(tokens, hidden, batch.positions_BT, batch.causal, step)
        scores = draft.logits(output, step).nan_to_num(neginf=0.0)
        if not scores.requires_grad:  # all of it was computed at a step before
            found.append(0)
            continue
        reached = torch.autograd.grad(scores.sum(), trained, allow_unused=True)
        found.append(sum(p.numel() for p, grad in zip(trained, reached, strict=True) if grad is not None))
    return found


def steps_of(draft: Draft, num_steps: int) -> int:
    """Of so many steps those that the draft can make."""
    return min(num_steps, draft.most_steps or num_steps)


def held_out_acceptance(draft: Any, groups: Groups, tree: Tree, out: Path) -> dict[str, Any]:
    """Acceptance on a tree and on a chain, by group; each answer's rounds on the tree go into `acceptance.jsonl`."""
    tree = replace(tree, num_steps=steps_of(draft, tree.num_steps))
    chain = Tree(tree.num_steps, 1, tree.num_steps + 1)
    found: dict[str, Any] = {
        "note": "plain-torch simulation of SGLang's rounds on held-out answers, float32, bonus included",
        "tree": {"size": asdict(tree)},
        "chain": {"size": asdict(chain)},
    }
    lines = []
    for group, (features, samples) in groups.items():
        counted = list(all_rounds(draft, features, samples, tree))
        lines += [{"group": group, "tokens": tokens, "accepted": rounds} for tokens, rounds in counted]
        found["tree"][group] = asdict(accepted_over(counted, tree))
        found["chain"][group] = asdict(accepted_over(list(all_rounds(draft, features, samples, chain)), chain))
    write_atomically(out / ACCEPTANCE, "".join(json.dumps(line) + "\n" for line in lines).encode())
    return found


def settings_of(task: Task, recipe: Recipe, data: dict[str, Any], tree: TreeSize) -> dict[str, Any]:
    """The part of a ledger that is known before the training, but for the learning rate."""
    return {
        "architecture": recipe.architecture,
        "summary": recipe.summary,
        "budget": task.budget.model_dump(mode="json") | {"amount": task.amount, "seed": task.seed, "dtype": task.dtype},
        "phases": [
            {
                "share": phase.share,
                **({} if phase.rate == 1 else {"rate": phase.rate}),
                "objective": asdict(phase.objective) if is_dataclass(phase.objective) else str(phase.objective),  # type: ignore[arg-type]
            }
            for phase in recipe.phases
        ],
        "data": data,
        "tree": tree.model_dump(),
    }


def differences(wanted: Any, found: Any, at: str = "") -> list[str]:
    """Where `found`, from a JSON file, does not hold what `wanted` holds: keys, joined by dots."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return [
            where
            for key, value in wanted.items()
            for where in differences(value, found.get(key), f"{at}.{key}" if at else str(key))
        ]
    return [] if json.loads(json.dumps(wanted)) == found else [at]


def ledger_of(
    trainer: Trainer,
    name: str,
    settings: dict[str, Any],
    search: list[dict[str, Any]],
    lines: list[dict[str, Any]],
    num_steps: int,
) -> dict[str, Any]:
    """Everything that a report or a reader has to know of a training, but for what the draft accepts.

    Args:
        settings: as `settings_of` gives them.
    """
    task, course, draft = trainer.task, trainer.course, trainer.draft
    active = active_parameters(draft, trainer.features, num_steps)
    shown = lines[:: max(1, len(lines) // 40)]
    validated = [[line["step"], round(line["validation_loss"], 5)] for line in lines if "validation_loss" in line]
    return {
        "version": 2,
        "script": "python bench.py train",
        "draft": name,
        **settings,
        "budget": settings["budget"]
        | {
            "num_steps": course.num_steps,
            "learning_rate": task.rate,
            "learning_rates_tried": [tried["rate"] for tried in search],
        },
        "used": {"tokens": course.num_tokens, "steps": course.num_steps, "flops": course.flops},
        "learning_rates": search,
        "num_trained_parameters": trained_parameters(draft),
        "num_parameters": sum(parameter.numel() for parameter in draft.parameters()),
        "num_active_parameters": max(active),
        "num_active_parameters_by_step": active,
        "num_entries_seen": course.num_tokens,
        "training_flops": course.flops,
        "wall_s": round(course.wall_s, 1),
        "num_threads": torch.get_num_threads(),
        "num_processes": trainer.num_processes,
        "torch": torch.__version__,
        "versions": {package: version(package) for package in ("torch", "transformers", "accelerate", "numpy")},
        "losses": [[line["step"], round(line["loss"], 5)] for line in shown],
        "validation_losses": validated,
    }
