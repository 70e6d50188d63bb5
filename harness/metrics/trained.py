"""What the drafts of a training study accept, with intervals: tokens over rounds of all held-out answers.

Intervals are 95% and come from resampling answers within their kinds, and seeds where there are several; comparisons
resample both drafts' answers together.
"""

from __future__ import annotations

import re
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


@dataclass(frozen=True)
class ScalingPoint:
    """One draft of a grid of layers and tokens."""

    layers: int
    tokens: int
    seeds: Sequence[Trained]


def by_layers(drafts: Mapping[str, Sequence[Trained]]) -> dict[str, list[ScalingPoint]]:
    """Of drafts that were trained with several numbers of layers on several amounts (NAME-LAYERS-TOKENSk): those with
    the tokens that they saw."""
    found: dict[str, list[ScalingPoint]] = defaultdict(list)
    for name, seeds in drafts.items():
        if match := re.fullmatch(r"(.+)-(\d+)-\d+k", name):
            tokens = int(seeds[0].ledger["num_entries_seen"])
            found[match[1]].append(ScalingPoint(int(match[2]), tokens, seeds))
    grids = {}
    for family, points in found.items():
        points.sort(key=lambda point: (point.layers, point.tokens))
        if len({point.layers for point in points}) > 1 and len({point.tokens for point in points}) > 1:
            grids[family] = points
    return grids


@dataclass(frozen=True)
class LogLinear:
    """Acceptance length as a straight line in the logarithms of tokens and layers.

    Attributes:
        tenfold: tokens of a round that ten times the training tokens add, with its 95%; `doubled`: twice the layers.
        explained: share of the variance between the drafts that the line explains.
        farthest: the largest distance of a draft from the line, in tokens of a round.
    """

    tenfold: tuple[float, float, float]
    doubled: tuple[float, float, float]
    explained: float
    farthest: float


def log_linear(points: Sequence[ScalingPoint]) -> LogLinear | None:
    """The least-squares line through a grid's acceptance lengths; None where there are too few drafts to judge it.

    The form is Scylla's (arXiv 2505.07858, theorems 1.1 and 1.2), which fits each alone. Intervals come from resampling
    answers: all drafts answer the same ones.
    """
    if len(points) < 4:
        return None
    design = np.array([(1.0, np.log10(point.tokens), np.log2(point.layers)) for point in points])
    found = np.array([mean_length(point.seeds) for point in points])
    solve = np.linalg.pinv(design)
    answers = resampled(points[0].seeds, np.random.default_rng(0))[0]
    chosen = [resampled(point.seeds, np.random.default_rng(1 + n))[1] for n, point in enumerate(points)]
    each = np.array([lengths(point.seeds, answers, own) for point, own in zip(points, chosen, strict=True)])
    lows, highs = np.percentile(solve @ each, LEVELS, axis=1)
    line = solve @ found
    away = found - design @ line
    spread = float(((found - found.mean()) ** 2).sum())
    tenfold, doubled = ((float(line[n]), float(lows[n]), float(highs[n])) for n in (1, 2))
    explained = 1 - float((away**2).sum()) / spread if spread else 0.0
    return LogLinear(tenfold, doubled, explained, float(np.abs(away).max()))
