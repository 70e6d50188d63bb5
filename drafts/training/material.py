"""What all drafts of a recipe share: the target, its hidden states of the corpus, the splits, held-out answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from draftbench.drafts.layout import text_fields
from draftbench.drafts.training.batches import split
from draftbench.drafts.training.features import Example, Features, InMemory
from draftbench.drafts.training.hf import AutoModelForCausalLM, Target
from draftbench.drafts.training.ledger import Groups
from draftbench.drafts.training.processes import Processes
from draftbench.drafts.training.reporter import Reporter
from draftbench.drafts.training.settings import Training
from draftbench.drafts.training.shards import (
    INDEX,
    Origin,
    Shards,
    check_room,
    features_bytes,
    is_complete,
    write_atomically,
    write_index,
    write_shards,
)
from draftbench.drafts.training.tokens import TokenFiles, read_samples, write_tokens
from draftbench.harness.errors import TrainingError
from draftbench.harness.host.provenance import file_sha256, folder_sha256

HELD_OUT_SAMPLES = 200
"""Of the validation split, where a recipe names no held-out prompts."""
SKIPPED = "skipped.json"


@dataclass(frozen=True)
class TokenCorpus:
    """A corpus as token ids, and what is known of it."""

    path: Path
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Material:
    """Everything that drafts are made from.

    Attributes:
        learn: samples to learn from, in a fixed random order.
        validate: samples that losses and learning rates are judged on.
        groups: held-out answers by kind.
        facts: hashes and counts for the ledgers.
    """

    folder: Path
    config: dict[str, Any]
    target: Target
    features: Features
    learn: np.ndarray
    validate: np.ndarray
    groups: Groups
    facts: Mapping[str, Any]


def prepare(
    training: Training,
    target_folder: Path,
    layers: Sequence[int],
    corpus: TokenCorpus,
    heldout: TokenCorpus | None,
    out: Path,
    reporter: Reporter,
    processes: Processes,
) -> Material:
    """Load the target and compute what is missing of its hidden states.

    Args:
        layers: whose outputs some draft reads.

    Raises:
        TrainingError: the corpus holds too little, or the disk has no room.
    """
    config: dict[str, Any] = text_fields(json.loads((target_folder / "config.json").read_text()))
    dtype = getattr(torch, training.target.dtype)
    loaded: Any = AutoModelForCausalLM.from_pretrained(target_folder, dtype=dtype)
    target: Target = loaded.eval().requires_grad_(False).to(processes.device)
    folder, corpus_sha256 = out / "features", file_sha256(corpus.path)
    tokens = _tokens(training, corpus.path, corpus_sha256, config, folder, reporter, processes)
    origin = Origin(
        target_sha256=_weights_sha256(target_folder),
        corpus_sha256=corpus_sha256,
        target_dtype=training.target.dtype,
        dtype="bfloat16" if training.target.dtype == "bfloat16" else "float16",
        hidden_size=config["hidden_size"],
        layers=tuple(layers),
    )
    if not is_complete(folder, origin):
        _compute(target, tokens, folder, origin, reporter, processes)
    store = Shards(folder, tokens)
    learn, validate = split(len(store.lengths_N), training.validation.share)
    if not len(learn) or not len(validate):
        raise TrainingError(f"{corpus.path}: one sample is too few; there have to be some to validate on. Add more.")
    features = Features(store, target.lm_head.weight.data, device=processes.device)
    samples = _held_out(features, validate, heldout)
    groups: Groups = {}
    for group, own in samples.items():
        held = InMemory(target, own, origin.layers)
        groups[group] = (Features(held, features.head_VD, device=processes.device), held.samples)
    facts = {
        "target_sha256": origin.target_sha256,
        "corpus_sha256": origin.corpus_sha256,
        "features_sha256": store.sha256,
        "heldout_sha256": None if heldout is None else file_sha256(heldout.path),
        "num_validation_samples": len(validate),
        "skipped": json.loads((folder / SKIPPED).read_text())["counts"],
        **corpus.facts,
    }
    return Material(target_folder, config, target, features, learn, validate, groups, facts)


def _tokens(
    training: Training,
    corpus: Path,
    sha256: str,
    config: dict[str, Any],
    folder: Path,
    reporter: Reporter,
    processes: Processes,
) -> TokenFiles:
    """The corpus's samples as flat files, written once, or anew where features were not yet made of them."""
    note, longest = folder / SKIPPED, training.corpus.longest or config.get("max_position_embeddings", 2048)
    made_from = {"corpus_sha256": sha256, "longest": longest}
    known = json.loads(note.read_text()) if note.exists() else {}
    if processes.first and known.get("made_from") != made_from:
        if (folder / INDEX).exists():
            raise TrainingError(
                f"{folder} holds features of another corpus, or of one that was cut at another length; give another "
                "--out or remove it."
            )
        skipped = write_tokens(corpus, folder, config["vocab_size"], longest)
        found = {"made_from": made_from, "counts": skipped.counts, "lines": skipped.lines()}
        write_atomically(note, json.dumps(found).encode())
    processes.wait()
    for line in json.loads(note.read_text())["lines"]:
        reporter.note(line)
    return TokenFiles(folder)


def _compute(
    target: Target, tokens: TokenFiles, folder: Path, origin: Origin, reporter: Reporter, processes: Processes
) -> None:
    """Let every process compute its share of the shards; say first what they take."""
    needed = features_bytes(tokens.num_tokens, origin)
    there = sum(path.stat().st_size for path in folder.glob("?????-*.bin"))
    reporter.note(
        f"hidden states of {tokens.num_tokens:,} tokens, {1 + len(origin.layers)} layers: {needed / 1e9:.2f} GB in "
        f"{folder}"
    )
    if processes.first:
        check_room(folder, max(0, needed - there))
    mine = slice(processes.rank, None, processes.world)
    seen = 0
    with reporter.task("hidden states") as advance:

        def done(count: int) -> None:
            nonlocal seen
            seen += count
            advance(min(1.0, seen * processes.world / tokens.num_tokens), f"{seen:,} tokens")

        write_shards(target, tokens, folder, origin, mine, done)
    processes.wait()
    if processes.first:
        write_index(folder, tokens, origin)
    processes.wait()


def _held_out(features: Features, validate: np.ndarray, heldout: TokenCorpus | None) -> dict[str, list[Example]]:
    """Held-out answers by kind: those of the recipe, or the validation split's."""
    if heldout is None:
        return {"validation": [features.store.read(int(index), ()).sample() for index in validate[:HELD_OUT_SAMPLES]]}
    lines = [json.loads(line) for line in heldout.path.read_text().splitlines() if line.strip()]
    found: dict[str, list[Example]] = {}
    for line, sample in zip(lines, read_samples(heldout.path), strict=True):
        found.setdefault(str(line.get("group") or line.get("family") or "heldout"), []).append(sample)
    return found


def _weights_sha256(folder: Path) -> str:
    """The hash of a model's only file of weights, or over all of them."""
    files = sorted(folder.glob("*.safetensors"))
    return file_sha256(files[0]) if len(files) == 1 else folder_sha256(folder)
