"""A tiny target on disk with a corpus of its own answers, and trainers for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from draftbench.drafts.training.features import Example, Features, features_of
from draftbench.drafts.training.loop import Task, Trainer
from draftbench.drafts.training.processes import Processes
from draftbench.drafts.training.recipe import Recipe, Start
from draftbench.drafts.training.settings import Budget
from tests.fakes.target import CONFIG, new_target, own_answers

NUM_LAYERS = 6


@pytest.fixture(scope="session")
def answers() -> tuple[Any, list[Example]]:
    """A target of six layers and 20 of its greedy answers."""
    target = new_target(NUM_LAYERS)
    return target, own_answers(target, 20)


@pytest.fixture
def new_trainer(answers: tuple[Any, list[Example]], tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a trainer of a recipe on those answers, in a folder of its own unless one is given."""
    target, samples = answers

    def make(
        recipe: Recipe,
        *,
        folder: Path | None = None,
        seed: int = 0,
        rate: float = 0.01,
        dtype: str = "float32",
        every: int = 50,
        wrapped: Callable[[Features], Features] = lambda features: features,
        chosen: Sequence[int] = range(20),
        **budget: Any,
    ) -> Trainer:
        settings = {"axis": "steps", "amount": 20, "tokens_per_batch": 128, "learning_rates": (rate,)}
        spent = Budget.model_validate(settings | budget)
        layers = recipe.layers(NUM_LAYERS)
        features = wrapped(features_of(target, samples, layers))
        config = {**CONFIG, "num_hidden_layers": NUM_LAYERS}
        draft = recipe.new(Start(config, target, features, np.array(chosen), seed))
        task = Task("draft", spent, spent.amount, rate, seed, dtype, every)
        out = folder or tmp_path / f"t{len(list(tmp_path.iterdir()))}"
        learn = np.array(chosen)
        return Trainer(draft, recipe.phases, features, learn, learn[:2], task, Processes(), out)

    return make


@pytest.fixture(scope="session")
def target_folder(answers: tuple[Any, list[Example]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The target as a checkpoint, with its answers beside it as answers.jsonl."""
    target, samples = answers
    folder = tmp_path_factory.mktemp("target")
    target.save_pretrained(folder)
    lines = [json.dumps({"prompt_ids": sample.prompt_ids, "output_ids": sample.output_ids}) for sample in samples]
    (folder / "answers.jsonl").write_text("\n".join(lines) + "\n")
    return folder
