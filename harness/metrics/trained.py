"""What the drafts of a training study accept, with intervals: tokens over rounds of all held-out answers.

Intervals are 95% and come from resampling answers within their kinds, and seeds where there are several; comparisons
resample both drafts' answers together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

RESAMPLES = 2000
LEVELS = (2.5, 97.5)


@dataclass(frozen=True)
class Trained:
    """One draft with one seed.

    Attributes:
        tokens, rounds: of each held-out answer.
        accepted: for each number of drafts, rounds that accepted it.
    """

    name: str
    seed: int
    ledger: Mapping[str, Any]
    kinds: tuple[str, ...]
    tokens: np.ndarray
    rounds: np.ndarray
    accepted: np.ndarray

    @property
    def length(self) -> float:
        """Tokens of a round, bonus token included."""
        return float(self.tokens.sum() / self.rounds.sum())


def resampled(seeds: Sequence[Trained], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """How often each answer counts [RESAMPLES, answers], and the same of each seed."""
    kinds = np.array(seeds[0].kinds)
    counts = np.zeros((RESAMPLES, len(kinds)))
    for kind in dict.fromkeys(seeds[0].kinds):
        own = np.flatnonzero(kinds == kind)
        counts[:, own] = rng.multinomial(len(own), np.full(len(own), 1 / len(own)), RESAMPLES)
    return counts, rng.multinomial(len(seeds), np.full(len(seeds), 1 / len(seeds)), RESAMPLES)


def lengths(seeds: Sequence[Trained], answers: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The acceptance length in each resample: tokens over rounds, seeds together."""
    tokens = sum(chosen[:, [i]] * (answers @ each.tokens)[:, None] for i, each in enumerate(seeds))
    rounds = sum(chosen[:, [i]] * (answers @ each.rounds)[:, None] for i, each in enumerate(seeds))
    return np.asarray(tokens / rounds)[:, 0]


def mean_length(seeds: Sequence[Trained]) -> float:
    """Tokens over rounds, all seeds together."""
    return float(sum(each.tokens.sum() for each in seeds) / sum(each.rounds.sum() for each in seeds))


def interval(seeds: Sequence[Trained]) -> tuple[float, float]:
    """95% of the acceptance length."""
    low, high = np.percentile(lengths(seeds, *resampled(seeds, np.random.default_rng(0))), LEVELS)
    return float(low), float(high)


def ratio(above: Sequence[Trained], below: Sequence[Trained]) -> tuple[float, float, float]:
    """How much more one accepts than another, on the same answers; with its 95%."""
    answers, chosen = resampled(above, np.random.default_rng(0))
    other = resampled(below, np.random.default_rng(1))[1]
    low, high = np.percentile(lengths(above, answers, chosen) / lengths(below, answers, other), LEVELS)
    return mean_length(above) / mean_length(below), float(low), float(high)


def step_rates(seeds: Sequence[Trained]) -> list[float]:
    """α_k: of the rounds that accepted step k-1, the share that accepted step k."""
    size = max(len(each.accepted) for each in seeds)
    counts = sum(np.pad(each.accepted, (0, size - len(each.accepted))) for each in seeds)
    reached = np.cumsum(np.asarray(counts)[::-1])[::-1]
    return [float(b / a) if a else 0.0 for a, b in pairwise(reached)]


def by_size(drafts: Mapping[str, Sequence[Trained]]) -> dict[str, list[tuple[int, Sequence[Trained]]]]:
    """Of drafts that were also trained on fewer samples (NAME-COUNT): those with their numbers of samples."""
    found: dict[str, list[tuple[int, Sequence[Trained]]]] = defaultdict(list)
    for name, seeds in drafts.items():
        family, _, count = name.rpartition("-")
        samples = int(seeds[0].ledger["data"]["num_samples"])
        if family in drafts and count == str(samples):
            found[family].append((samples, seeds))
    for family, own in found.items():
        # The same seed as the smaller ones.
        own.append((int(drafts[family][0].ledger["data"]["num_samples"]), drafts[family][:1]))
        own.sort(key=lambda pair: pair[0])
    return dict(found)
