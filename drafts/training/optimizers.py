"""The optimisers and the learning rate, alike for every draft."""

from __future__ import annotations

import torch
from torch import nn

from draftbench.drafts.training.layer import VocabularyHead
from draftbench.drafts.training.settings import Budget


def new_optimizers(draft: nn.Module, budget: Budget) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the matrices inside, AdamW for embeddings, heads, norms and biases; frozen weights are left out."""
    vocabulary = {id(module.weight) for module in draft.modules() if isinstance(module, nn.Embedding | VocabularyHead)}
    trained = [p for p in draft.parameters() if p.requires_grad]
    inner = [p for p in trained if p.ndim == 2 and id(p) not in vocabulary]
    others = [p for p in trained if p.ndim != 2 or id(p) in vocabulary]
    found: list[torch.optim.Optimizer] = []
    if inner:
        found.append(torch.optim.Muon(inner, weight_decay=budget.weight_decay, adjust_lr_fn="match_rms_adamw"))
    if others:
        found.append(torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=0.0))
    return tuple(found)


def rate_at(progress: float, rate: float, budget: Budget) -> float:
    """Linear warm-up, a plateau, and a linear decay to zero at the end.

    Args:
        progress: the share of the budget that will be spent after the step.
    """
    warm = min(1.0, progress / budget.warmup) if budget.warmup else 1.0
    left = min(1.0, (1.0 - progress) / budget.decay) if budget.decay else 1.0
    return rate * min(warm, max(left, 0.0))
