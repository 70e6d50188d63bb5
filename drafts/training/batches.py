"""The order of batches: the same for every draft, computed from the seed, so that a resumed training finds its place.

A step is a list of batches, a batch a list of rows, a row a list of samples' indices.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from draftbench.drafts.training.extract import by_length
from draftbench.drafts.training.settings import Budget

Rows = list[list[int]]


@dataclass(frozen=True)
class Step:
    """One optimiser step."""

    batches: list[Rows]

    def num_tokens(self, lengths_N: np.ndarray) -> int:
        """Tokens of its samples, padding left out."""
        return int(sum(lengths_N[row].sum() for rows in self.batches for row in rows))

    def num_entries(self, lengths_N: np.ndarray) -> int:
        """Entries of its batches, padding included."""
        return sum(len(rows) * max(int((lengths_N[row] - 1).sum()) for row in rows) for rows in self.batches)


def steps(lengths_N: np.ndarray, chosen: np.ndarray, budget: Budget, seed: int, first: int = 0) -> Iterator[Step]:
    """An endless stream of steps over the chosen samples, reshuffled every epoch, from step `first` on."""
    batches = _batches(lengths_N, chosen, budget, seed)
    for _ in range(first * budget.gradient_accumulation):
        next(batches)
    while True:
        yield Step([next(batches) for _ in range(budget.gradient_accumulation)])


def _batches(lengths_N: np.ndarray, chosen: np.ndarray, budget: Budget, seed: int) -> Iterator[Rows]:
    epoch = 0
    while True:
        rng = np.random.default_rng((seed, epoch))
        order = rng.permutation(chosen)
        groups = _packed(lengths_N, order, budget) if budget.row_tokens else _alike(lengths_N, order, budget)
        for index in rng.permutation(len(groups)):
            yield groups[index]
        epoch += 1


def _alike(lengths_N: np.ndarray, order: np.ndarray, budget: Budget) -> list[Rows]:
    groups = by_length(lengths_N, budget.tokens_per_batch, order)
    return [[[int(index)] for index in group] for group in groups]


def _packed(lengths_N: np.ndarray, order: np.ndarray, budget: Budget) -> list[Rows]:
    """Fill rows in the shuffled order; a sample longer than a row has one of its own."""
    assert budget.row_tokens is not None
    rows: Rows = []
    room = 0
    for index in order:
        size = int(lengths_N[index])
        if not rows or size > room:
            rows.append([])
            room = budget.row_tokens
        rows[-1].append(int(index))
        room -= size
    per_batch = max(1, budget.tokens_per_batch // budget.row_tokens)
    return [rows[begin : begin + per_batch] for begin in range(0, len(rows), per_batch)]


def part_of(rows: Rows, rank: int, world: int) -> Rows:
    """The rows of a batch that one of several processes computes."""
    return rows[rank::world]


def split(num_samples: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Samples to learn from, in a fixed random order, and those to validate on."""
    order = np.random.default_rng(0).permutation(num_samples)
    held = min(max(1, round(share * num_samples)), num_samples - 1)
    return order[held:], order[:held]
