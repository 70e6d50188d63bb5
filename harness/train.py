"""`bench.py train`: a recipe file to checkpoints. Only here does the command's process import torch: it measures
nothing, and its engine runs in processes of its own and has ended before the first draft is trained."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from draftbench.drafts.training.settings import Training, load_training
from draftbench.harness.corpora.answers import prepare_corpus
from draftbench.harness.errors import TrainingError
from draftbench.harness.models.find import model_folder, read_target

RECIPE = "recipe.json"
READY = "ready.json"
"""Where the corpora are, for the other processes."""
POLL_S = 1.0


def train(recipe: Path, out: Path | None, resume: bool, console: Console) -> int:
    """Train what a recipe file says; exit code 1 if a draft failed.

    Raises:
        HarnessError: the recipe, its corpus, its target or the disk do not allow it.
    """
    from draftbench.drafts.training.entries import resolve_drafts
    from draftbench.drafts.training.material import TokenCorpus, prepare
    from draftbench.drafts.training.processes import Processes, rank_in_environment
    from draftbench.drafts.training.reporter import Reporter
    from draftbench.drafts.training.study import Study

    training, lines = load_training(recipe)
    target = model_folder(training.target.model, recipe.parent, training.target.revision)
    num_layers = read_target(target)["num_hidden_layers"]
    recipes = resolve_drafts(training, recipe, lines, num_layers)
    folder = out or Path(training.out or f"runs/train-{training.name}")
    first = rank_in_environment() == 0
    reporter = Reporter(console, first)
    if first:
        _open(folder, training, resume)
        corpora = [
            (name, *prepare_corpus(training, corpus, name, target, folder, reporter.note))
            for name, corpus in (("corpus", training.corpus), ("heldout", training.heldout))
            if corpus is not None
        ]
        _write(folder / READY, {name: [str(path), facts] for name, path, facts in corpora})
    found = {name: TokenCorpus(Path(path), facts) for name, (path, facts) in read_ready(folder, first).items()}
    processes = Processes()
    layers = sorted({layer for each in recipes.values() for layer in each.layers(num_layers)})
    material = prepare(training, target, layers, found["corpus"], found.get("heldout"), folder, reporter, processes)
    failures = Study(training, recipes, material, folder, reporter, processes).run()
    reporter.note(f"drafts: {folder}" + (f"; {len(failures)} failed" if failures else ""))
    return 1 if failures else 0


def _open(folder: Path, training: Training, resume: bool) -> None:
    if folder.exists() and any(folder.iterdir()) and not resume:
        raise TrainingError(f"{folder} holds a training already; go on with --resume, or give another --out.")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / READY).unlink(missing_ok=True)
    _write(folder / RECIPE, training.model_dump(mode="json"))


def read_ready(folder: Path, first: bool) -> dict[str, Any]:
    """The corpora; other processes than the first wait for them, since the engine may take hours.

    What an earlier run has left is older than the launcher that started these processes.
    """
    path, launched = folder / READY, psutil.Process(os.getppid()).create_time()
    while not first and _modified(path) < launched:
        time.sleep(POLL_S)
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def _modified(path: Path) -> float:
    """Seconds of the epoch; before everything for a file that is not there."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return -math.inf


def _write(path: Path, content: Any) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=1) + "\n")
    part.replace(path)
