"""Whether the drafts of a suite were trained and tuned alike: what their ledgers say, and what the suite requires."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from draftbench.harness.errors import CheckpointError, SuiteError
from draftbench.harness.suite import Arm, Suite
from draftbench.harness.units import tree_text
from draftbench.harness.workloads.regular import JSON_BYTES, read_json

LEDGER = "training.json"
"""File beside a checkpoint's weights that says how they were trained."""
TOLERANCE = 0.01
"""Amounts that differ by less, as a share, count as equal: a trainer stops after a whole batch."""

Ledger = Mapping[str, Any]
Ledgers = Mapping[str, Ledger | None]
"""The ledger of each arm with weights; None where its checkpoint has none."""


@dataclass(frozen=True)
class LedgerFacts:
    """What a ledger says of one training; None where it does not say it.

    Attributes:
        corpus_sha256: of the corpus file; `corpus_tokens` are its tokens.
        tokens: that went through the draft in all steps.
        flops: of all steps, forward and backward.
        parameters: that were trained; `active_parameters` of them work at one draft step, at most.
        learning_rates_tried: how many were tried to find `learning_rate`.
        axis: what the budget was counted in.
    """

    corpus_sha256: str | None
    corpus_tokens: int | None
    tokens: int | None
    steps: int | None
    flops: float | None
    parameters: int | None
    active_parameters: int | None
    learning_rate: float | None
    learning_rates_tried: int | None
    seed: int | None
    axis: str | None

    @classmethod
    def of(cls, ledger: Ledger) -> LedgerFacts:
        """Read a ledger; what is missing or of another kind is not known."""
        tried, active = _at(ledger, "learning_rates"), _at(ledger, "num_active_parameters")
        return cls(
            corpus_sha256=_text(_at(ledger, "data", "corpus_sha256")),
            corpus_tokens=_count(_at(ledger, "data", "num_tokens")),
            tokens=_count(_at(ledger, "num_entries_seen")),
            steps=_count(_at(ledger, "budget", "num_steps")),
            flops=_number(_at(ledger, "training_flops")),
            parameters=_count(_at(ledger, "num_trained_parameters")),
            active_parameters=max((_count(each) or 0 for each in active), default=None)
            if isinstance(active, list)
            else _count(active),
            learning_rate=_number(_at(ledger, "budget", "learning_rate")),
            learning_rates_tried=len(tried) if isinstance(tried, list) and tried else None,
            seed=_count(_at(ledger, "budget", "seed")),
            axis=_text(_at(ledger, "budget", "axis")),
        )


TRAINED: Mapping[str, Callable[[LedgerFacts], str | float | None]] = {
    "data": lambda training: training.corpus_sha256,
    "tokens": lambda training: training.tokens,
    "steps": lambda training: training.steps,
    "flops": lambda training: training.flops,
    "parameters": lambda training: training.parameters,
}
"""What a suite may require of trainings, and where it is found."""


def read_ledger(folder: Path) -> dict[str, Any] | None:
    """What a checkpoint says of its training; None where it has no ledger.

    Raises:
        CheckpointError: the file is there but holds no JSON object.
    """
    path = folder / LEDGER
    if not path.exists():
        return None
    ledger = read_json(path, JSON_BYTES, CheckpointError)
    if not isinstance(ledger, dict):
        raise CheckpointError(f"{path}: no JSON object; a ledger is one. Mend it or take it away.")
    return ledger


def check_fairness(suite: Suite, ledgers: Ledgers) -> None:
    """Compare what the suite requires to be alike.

    Raises:
        SuiteError: arms differ, or what they would be compared by is not known.
    """
    problems = unfair(suite, ledgers)
    if problems:
        raise SuiteError("\n".join(f"{suite.fairness.place}: {problem}" for problem in problems))


def unfair(suite: Suite, ledgers: Ledgers) -> list[str]:
    """A sentence for everything that the suite requires to be alike and that is not, or is not known.

    Vanilla is exempt, drafts without weights from what concerns training.
    """
    required, advice = suite.fairness.require, "Compare drafts that are alike (--only names them), or"
    trainings = {arm: None if ledger is None else LedgerFacts.of(ledger) for arm, ledger in ledgers.items()}
    of_training = [name for name in required if name in TRAINED]
    unknown = [arm for arm, training in trainings.items() if training is None]
    problems = []
    if unknown and of_training:
        problems.append(
            f"fairness.require has {', '.join(of_training)}, but the training of {', '.join(unknown)} is unknown: no "
            f"{LEDGER} beside the weights. {advice} leave the requirement out."
        )
    servers = [arm.name for arm in suite.arms if arm.is_endpoint]
    if required and servers:
        problems.append(
            f"fairness.require has {', '.join(required)}, but what {', '.join(servers)} drafts with is known to its "
            f"server alone. {advice} leave the requirement out."
        )
    drafting = [arm for arm in suite.arms if arm.tree is not None]
    for name in required:
        if name in TRAINED:
            found = {arm: TRAINED[name](training) for arm, training in trainings.items() if training is not None}
        elif name == "tree":
            found = {arm.name: tree_text(arm.tree) for arm in drafting if arm.tree is not None}
        else:
            found = _tunings(drafting)
        if missing := [arm for arm, value in found.items() if value is None]:
            text = f"the {LEDGER} of {', '.join(missing)} does not say it"
        elif _differ(list(found.values())):
            text = f"the arms differ: {_grouped(found)}"
        else:
            continue
        problems.append(f"fairness.require has {name}, but {text}. {advice} take {name} out of the list.")
    return problems


def tuning_text(arm: Arm) -> str:
    """How an arm's tree was chosen."""
    if arm.tuning is None:
        return "default"
    return f"tuned, {arm.tuning.configurations} configurations, run {arm.tuning.run}"


def _tunings(arms: Sequence[Arm]) -> dict[str, str | float | None]:
    """Per draft, whatever its trees: the tuning that any of its arms had."""
    found: dict[tuple[str, ...], list[Arm]] = {}
    for arm in arms:
        weights_and_options = arm.model_dump(include={"architecture", "checkpoint", "options", "engine"})
        found.setdefault(tuple(map(repr, weights_and_options.values())), []).append(arm)
    return {
        " and ".join(arm.name for arm in same): next(
            (tuning_text(arm) for arm in same if arm.tuning is not None), "default"
        )
        for same in found.values()
    }


def _differ(values: Sequence[str | float | None]) -> bool:
    numbers = [value for value in values if isinstance(value, int | float)]
    if len(numbers) == len(values) and numbers:
        return max(numbers) > min(numbers) * (1 + TOLERANCE)
    return len(set(values)) > 1


def _grouped(found: Mapping[str, str | float | None]) -> str:
    """`1,843,200 (eagle, hass); 921,600 (prism)`."""
    pairs = sorted((_shown(value), arm) for arm, value in found.items())
    return "; ".join(
        f"{value} ({', '.join(arm for _, arm in same)})" for value, same in groupby(pairs, key=lambda pair: pair[0])
    )


def _shown(value: str | float | None) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    is_hash = len(text) == 64 and not set(text) - set("0123456789abcdef")
    return text[:8] if is_hash else text


def _at(ledger: Any, *keys: str) -> Any:
    for key in keys:
        ledger = ledger.get(key) if isinstance(ledger, Mapping) else None
    return ledger


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: Any) -> int | None:
    return value if type(value) is int else None


def _number(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) else None
