"""Every draft of a recipe on the same material and budget: learning rate, training, ledger, checkpoint.

What is finished stays: a draft's folder with its training.json is not trained again, an interrupted one goes on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from draftbench.drafts.training.cards import LEDGER, draw_curve, save_draft
from draftbench.drafts.training.features import Features
from draftbench.drafts.training.ledger import differences, held_out_acceptance, ledger_of, settings_of
from draftbench.drafts.training.loop import STATE, Task, Trainer
from draftbench.drafts.training.material import Material
from draftbench.drafts.training.processes import Processes
from draftbench.drafts.training.recipe import Recipe, Start
from draftbench.drafts.training.reporter import Reporter
from draftbench.drafts.training.settings import DraftEntry, Training
from draftbench.drafts.training.shards import write_atomically
from draftbench.harness.errors import TrainingError

SEARCHES, RESULT = "searches", "result.json"


class Study:
    """One recipe's run in one folder."""

    def __init__(
        self,
        training: Training,
        recipes: Mapping[str, Recipe],
        material: Material,
        out: Path,
        reporter: Reporter,
        processes: Processes,
    ) -> None:
        self._training, self._recipes, self._material, self._out = training, recipes, material, out
        self._reporter, self._processes = reporter, processes

    def run(self) -> list[str]:
        """Train what is not trained yet; one draft's failure leaves the others be.

        Returns:
            Why drafts failed, a sentence for each.
        """
        failures = []
        for entry, seed in self._jobs():
            out = self._out / f"{entry.name}-s{seed}"
            try:
                if (out / LEDGER).exists():
                    self._check(entry, seed, out)
                    self._reporter.note(f"{out.name}: trained already")
                else:
                    self._train(entry, seed, out)
            except TrainingError as error:
                failures.append(str(error))
                self._reporter.note(f"FAILED: {error}")
            self._processes.wait()
        return failures

    def _jobs(self) -> list[tuple[DraftEntry, int]]:
        """Every draft's first seed, then every draft's second, and so on."""
        seeds = {entry.name: entry.seeds or self._training.seeds for entry in self._training.drafts}
        return [
            (entry, seeds[entry.name][turn])
            for turn in range(max(map(len, seeds.values())))
            for entry in self._training.drafts
            if turn < len(seeds[entry.name])
        ]

    def _check(self, entry: DraftEntry, seed: int, out: Path) -> None:
        """Refuse to take a finished draft for one that this recipe would train.

        Raises:
            TrainingError: it was trained otherwise.
        """
        recipe, task = self._recipes[entry.name], self._task(out.name, 0.0, seed, entry.share)
        differ = differences(self._settings(recipe, self._samples(entry), task), json.loads((out / LEDGER).read_text()))
        config = recipe.config(self._material.config)
        differ += differences(config, json.loads((out / "config.json").read_text()), "config")
        if differ:
            raise TrainingError(
                f"{out.name} was trained with other settings than this recipe's ({', '.join(differ)}); "
                "give another --out or remove its folder."
            )

    def _settings(self, recipe: Recipe, chosen: np.ndarray, task: Task) -> dict[str, Any]:
        """What a ledger says of a training that is to come."""
        store = self._material.features.store
        data = {
            **self._material.facts,
            "num_samples": len(chosen),
            "num_tokens": int(store.lengths_N[chosen].sum()),
            "num_learned_tokens": int(store.learned_N[chosen].sum()),
        }
        return settings_of(task, recipe, data, self._training.tree)

    def _train(self, entry: DraftEntry, seed: int, out: Path) -> None:
        recipe, chosen = self._recipes[entry.name], self._samples(entry)
        search = self._search(entry, recipe, chosen)
        rate = min(search, key=lambda tried: tried["validation_loss"])["rate"]
        self._reporter.note(f"{out.name}: learning rate {rate:g}; {recipe.summary}")
        trainer = self._trainer(recipe, chosen, self._task(out.name, rate, seed, entry.share), out)
        curve = self._fit(trainer)
        if self._processes.first:
            self._write(entry, recipe, chosen, search, trainer, curve, out)

    def _samples(self, entry: DraftEntry) -> np.ndarray:
        learn = self._material.learn
        if entry.num_samples is not None and entry.num_samples > len(learn):
            raise TrainingError(
                f"{entry.name}: num_samples is {entry.num_samples}, but the corpus leaves {len(learn)} to learn from. "
                "Lower it."
            )
        return learn[: entry.num_samples]

    def _search(self, entry: DraftEntry, recipe: Recipe, chosen: np.ndarray) -> list[dict[str, Any]]:
        """Each candidate's validation loss after a share of the budget on the same share of the data.

        Raises:
            TrainingError: none of them stays finite, or the share is too little.
        """
        rates = self._training.budget.learning_rates
        if len(rates) == 1:
            return [{"rate": rates[0], "validation_loss": None}]
        part = chosen[: math.ceil(entry.search_share * len(chosen))]
        seed, share = (entry.seeds or self._training.seeds)[0], entry.search_share * entry.share
        found: list[dict[str, Any]] = []
        for rate in rates:
            folder = self._out / SEARCHES / f"{entry.name}-{rate:g}"
            task = self._task(f"{entry.name}, trying learning rate {rate:g}", rate, seed, share)
            settings = self._settings(recipe, part, task) | {"config": recipe.config(self._material.config)}
            kept = _read(folder / RESULT)
            if differences(settings, kept.get("settings")):
                kept = self._try(self._trainer(recipe, part, task, folder), settings, folder)
            found.append({key: kept[key] for key in ("rate", "validation_loss")})
        if not any(math.isfinite(tried["validation_loss"]) for tried in found):
            raise TrainingError(
                f"{entry.name}: none of the learning rates {list(rates)} keeps its loss finite; try lower ones."
            )
        return found

    def _try(self, trainer: Trainer, settings: dict[str, Any], folder: Path) -> dict[str, Any]:
        """Train with one candidate; one whose loss does not stay finite counts as infinitely bad."""
        try:
            self._fit(trainer)
            loss = trainer.validation_loss()
        except TrainingError as error:
            if not trainer.diverged:
                raise
            self._reporter.note(str(error))
            loss = math.inf
        result = {"rate": trainer.task.rate, "validation_loss": loss, "settings": settings}
        self._processes.wait()
        if self._processes.first:
            write_atomically(folder / RESULT, json.dumps(result).encode())
            (folder / STATE).unlink(missing_ok=True)
        self._processes.wait()
        return result

    def _write(
        self,
        entry: DraftEntry,
        recipe: Recipe,
        chosen: np.ndarray,
        search: list[dict[str, Any]],
        trainer: Trainer,
        curve: list[dict[str, Any]],
        out: Path,
    ) -> None:
        """Measure the draft and write its folder."""
        material, tree = self._material, self._training.tree.tree
        layers, settings = self._layers(recipe), self._settings(recipe, chosen, trainer.task)
        ledger = ledger_of(trainer, entry.name, settings, search, curve, tree.num_steps)
        groups = {group: (part.reading(layers), samples) for group, (part, samples) in material.groups.items()}
        ledger["heldout_acceptance"] = held_out_acceptance(trainer.draft.eval(), groups, tree, out)
        draw_curve(curve, out.name, out / "loss.svg")
        save_draft(trainer.draft, recipe.config(material.config), ledger, material.folder, out)
        (out / STATE).unlink()
        for group, accepted in ledger["heldout_acceptance"]["tree"].items():
            if group != "size":
                self._reporter.note(f"{out.name}, {group}: acceptance length {accepted['acceptance_length']:.3f}")

    def _layers(self, recipe: Recipe) -> tuple[int, ...]:
        return recipe.layers(self._material.config["num_hidden_layers"])

    def _task(self, title: str, rate: float, seed: int, share: float) -> Task:
        training = self._training
        amount = share * training.budget.amount
        return Task(title, training.budget, amount, rate, seed, training.dtype, training.checkpoint_every)

    def _trainer(self, recipe: Recipe, chosen: np.ndarray, task: Task, folder: Path) -> Trainer:
        material = self._material
        features: Features = material.features.reading(self._layers(recipe))
        draft = recipe.new(Start(material.config, material.target, features, chosen, task.seed))
        return Trainer(draft, recipe.phases, features, chosen, material.validate, task, self._processes, folder)

    def _fit(self, trainer: Trainer) -> list[dict[str, Any]]:
        with self._reporter.task(trainer.task.title) as advance:
            return trainer.run(lambda share, loss: advance(share, f"loss {loss:.4f}"))


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found
