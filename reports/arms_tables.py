"""The tables of a run's arms, and of how their drafts were trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from draftbench.harness.engine import Receipt
from draftbench.harness.manifest import Manifest
from draftbench.harness.models.fairness import LedgerFacts, tuning_text
from draftbench.harness.suite import Arm
from draftbench.harness.units import MISSING, tree_text
from draftbench.reports.table import Table


def arms_table(arms: Sequence[Arm], engines: Mapping[str, Receipt] = MappingProxyType({})) -> Table:
    """What each arm is, as the suite has it: architecture, weights, tree, and what it sets for itself.

    Args:
        engines: receipts by arm; what a draft says of itself there is shown too.
    """
    headers = ["arm", "architecture", "checkpoint", "depth", "width", "nodes", "options and engine arguments"]
    facts = {name: receipt.draft_facts for name, receipt in engines.items()}
    if said := any(facts.get(arm.name) for arm in arms):
        headers.append("the draft, as the engine says")
    lines = []
    for arm in arms:
        server = {"endpoint": arm.endpoint, "api": arm.api, "model": arm.model}
        own: dict[str, Any] = {name: value for name, value in server.items() if value} | arm.options | arm.engine
        if alphas := arm.simulated_acceptance:
            told = f", {arm.simulated_from}" if arm.simulated_from else ""
            own["simulated_acceptance"] = f"of each workload{told}" if isinstance(alphas, dict) else list(alphas)
        settings = ", ".join(f"{name}: {value}" for name, value in own.items())
        sizes = (arm.checkpoint, arm.num_steps, arm.topk, arm.num_draft_tokens)
        cells = [MISSING if size is None else str(size) for size in sizes]
        lines.append([arm.name, arm.architecture, *cells, settings or MISSING])
        if said:
            found = facts.get(arm.name, {}).items()
            lines[-1].append(", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in found) or MISSING)
    return headers, lines


TRAINING_MEANING = (
    "From the training.json beside each checkpoint. Corpus: the beginning of its SHA-256; tokens: of the corpus; seen: "
    "tokens that went through the draft in all steps; active: parameters that work at one draft step, at most; tree: "
    "depth × width, nodes. Drafts whose corpus, steps or tokens seen differ were not trained alike."
)
TRAINING_HEADERS = (
    "arm", "corpus", "tokens", "steps", "seen", "FLOPs", "trained parameters", "active", "learning rate", "seed",
    "tree", "tuning",
)  # fmt: skip


def training_table(manifest: Manifest) -> Table:
    """How each draft was trained, as far as its checkpoint says, and how its tree was chosen."""
    lines = []
    for arm in manifest.suite.arms:
        if arm.num_steps is None:
            continue
        ledger = manifest.training.get(arm.name)
        if ledger is not None:
            cells = _training_cells(LedgerFacts.of(ledger))
        else:
            has_weights = arm.name in manifest.training or arm.checkpoint
            known = "unknown training" if has_weights else "needs no training"
            cells = [known, *[MISSING] * (len(TRAINING_HEADERS) - 4)]
        lines.append([arm.name, *cells, tree_text(arm), tuning_text(arm)])
    return list(TRAINING_HEADERS), lines


def _training_cells(training: LedgerFacts) -> list[str]:
    tried = "" if training.learning_rates_tried is None else f" (of {training.learning_rates_tried})"
    return [
        MISSING if training.corpus_sha256 is None else training.corpus_sha256[:8],
        _count(training.corpus_tokens),
        _count(training.steps),
        _count(training.tokens),
        MISSING if training.flops is None else f"{training.flops:.2g}",
        _count(training.parameters),
        _count(training.active_parameters),
        MISSING if training.learning_rate is None else f"{training.learning_rate:g}{tried}",
        MISSING if training.seed is None else str(training.seed),
    ]


def _count(value: int | None) -> str:
    return MISSING if value is None else f"{value:,}"
