"""What a draft's recipe is: how to build the untrained module, what it learns in which phase, its config.json.

An architecture's spec names its recipes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from draftbench.drafts.api import Options
from draftbench.drafts.training.draft import FeatureDraft
from draftbench.drafts.training.features import Batch, Features
from draftbench.drafts.training.hf import Target

MEASURED = 16
"""Samples from which the layers' sizes are taken."""
COUNTED_TOKENS = 2_000_000
"""Tokens of the corpus from which the most frequent ones are counted."""


@dataclass(frozen=True)
class Phase:
    """A share of the budget with one objective; `begin` changes the draft before its first step."""

    share: float
    objective: Any
    """A dataclass; a recipe file can give its fields other values."""
    loss: Callable[[Any, Batch, Any], Tensor]
    begin: Callable[[Any], None] = lambda draft: None
    rate: float = 1.0
    """Of the learning rate that the budget gives."""


@dataclass(frozen=True)
class Start:
    """What an untrained draft is made from."""

    config: dict[str, Any]
    """The target's config.json."""
    target: Target
    features: Features
    chosen: np.ndarray
    """The samples that it will learn from."""
    seed: int

    @property
    def embedding_VD(self) -> Tensor:
        """The target's token embedding."""
        weight = self.target.get_input_embeddings().weight
        assert isinstance(weight, Tensor)
        return weight.data.cpu()

    @property
    def head_VD(self) -> Tensor:
        """The target's output head."""
        return self.target.lm_head.weight.data.cpu()

    def measured(self, draft: FeatureDraft) -> FeatureDraft:
        """The draft, which knows how large the layers are that it reads, if it reads any."""
        if draft.reads_layers:
            found = [self.features.store.read(int(index), self.features.layers) for index in self.chosen[:MEASURED]]
            draft.fusion_layer.measure((seen.hidden_nD, seen.aux_nE) for seen in found)
        return draft

    @cached_property
    def _counts_V(self) -> np.ndarray:
        counts = np.zeros(self.embedding_VD.shape[0], dtype=np.int64)
        seen = 0
        for index in self.chosen:
            sample = self.features.store.read(int(index), ())
            counts += np.bincount(sample.ids[sample.answers], minlength=len(counts))
            seen += len(sample.ids)
            if seen > COUNTED_TOKENS:
                break
        return counts

    def frequent_tokens_W(self, count: int) -> Tensor:
        """The tokens that are most frequent in the corpus's answers, ascending."""
        return torch.from_numpy(np.sort(np.argsort(-self._counts_V, kind="stable")[:count]))


@dataclass(frozen=True)
class Recipe:
    """One way to train one architecture.

    Attributes:
        layers: the target's layers (from 0) whose outputs the draft reads, from the number of its layers.
        options: what a recipe file can set under `options:`.
        adapt: the recipe that these options make; needed where there are any.
        most_passes: of an objective that counts them, where the draft has no more steps to learn.
    """

    architecture: str
    summary: str
    new: Callable[[Start], nn.Module]
    config: Callable[[dict[str, Any]], dict[str, Any]]
    phases: tuple[Phase, ...]
    layers: Callable[[int], tuple[int, ...]] = lambda num_layers: ()
    options: type[Options] = Options
    adapt: Callable[[Any], Recipe] | None = None
    most_passes: int | None = None


def with_objective(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    """The recipe with other values in every phase's objective that has the fields."""

    def changed(phase: Phase) -> Phase:
        own = {field.name for field in fields(phase.objective)} if is_dataclass(phase.objective) else set()
        return replace(phase, objective=replace(phase.objective, **{k: v for k, v in changes.items() if k in own}))

    return replace(recipe, phases=tuple(map(changed, recipe.phases))) if changes else recipe
