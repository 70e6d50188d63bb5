"""Which of two ways of measuring spreads less: log ratios of two arms, measured both ways in turns.

    python -m benchmarks.spread turns [ROUNDS]     arms that take turns prompt by prompt, or cell by cell: by block
    python -m benchmarks.spread starts [ROUNDS]    two equal engines, forked or started cold: by launch

Printed are the standard deviation of the log ratios each way, and the ratio of their variances with a 95% bootstrap
interval, below 1 where the first way is steadier; and how far the two means are apart.
"""

from __future__ import annotations

import io
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from scipy.stats import bootstrap

from draftbench.harness.metrics.row import Row
from draftbench.harness.run import run_suite
from draftbench.harness.suite import Suite

DRAFT = {"architecture": "eagle", "checkpoint": "tiny/hass", "num_steps": 5, "topk": 4, "num_draft_tokens": 16}
BLOCKS = 10
"""Of each round, where arms take turns; a launch of starts has two."""


@dataclass(frozen=True)
class Way:
    """One way of measuring: its name, what the suite says, how engines start."""

    name: str
    suite: dict[str, Any]
    cold: bool = False


WAYS = {
    "turns": (Way("prompt by prompt", {"turns": "prompts"}), Way("cell by cell", {"turns": "cells"})),
    "starts": (Way("forked", {}), Way("cold", {}, cold=True)),
}


def new_suite(what: str, changes: dict[str, Any]) -> Suite:
    """Vanilla and a draft, or vanilla twice."""
    second = {"architecture": "vanilla"} if what == "starts" else DRAFT
    fields = {
        "version": 1,
        "name": what,
        "target": {"model": "tiny", "dtype": "float32"},
        "arms": ({"name": "first", "architecture": "vanilla"}, {"name": "second", **second}),
        "workloads": (
            {
                "name": "dialogue",
                "source": "synthetic",
                "family": "dialogue",
                "num_prompts": 4 if what == "starts" else 8,
            },
        ),
        "sampling": {"temperature": 0, "max_tokens": 64, "seed": 0},
        "load": ({"concurrency": 1},),
        "blocks": 2 if what == "starts" else BLOCKS,
    }
    return Suite.model_validate(fields | changes)


def log_ratios(rows: tuple[Row, ...], what: str) -> list[float]:
    """Of the second arm over the first: each block's, or a launch's mean."""
    row = next(row for row in rows if row.arm == "second")
    found = row.against["first"].log_ratios
    return [float(np.mean(found))] if what == "starts" else list(found)


def main(what: str, rounds: int) -> None:
    """Measure and print."""
    found: dict[str, list[float]] = {way.name: [] for way in WAYS[what]}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            ways = WAYS[what][:: -1 if number % 2 else 1]
            for way in ways:
                suite, out = new_suite(what, way.suite), Path(folder) / f"{number}-{way.name}"
                quiet = Console(file=io.StringIO())
                run = run_suite(suite, out, command="benchmarks.spread", cold_start=way.cold, console=quiet)
                found[way.name] += log_ratios(run.rows, what)
            told = (f"{name}: sd {np.std(values, ddof=1):.4f}" for name, values in found.items() if len(values) > 1)
            print(f"round {number + 1}: " + ", ".join(told), flush=True)
    ours, theirs = map(np.array, found.values())
    interval = bootstrap(
        (ours, theirs),
        lambda a, b, axis: np.var(a, ddof=1, axis=axis) / np.var(b, ddof=1, axis=axis),
        random_state=np.random.default_rng(0),
    ).confidence_interval
    ratio = np.var(ours, ddof=1) / np.var(theirs, ddof=1)
    apart = np.mean(ours) - np.mean(theirs)
    error = np.sqrt(np.var(ours, ddof=1) / len(ours) + np.var(theirs, ddof=1) / len(theirs))
    print(f"variance, {' over '.join(found)}: {ratio:.2f} [{interval.low:.2f}, {interval.high:.2f}], {len(ours)} each")
    print(f"means {apart:+.4f} apart, standard error {error:.4f}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 20 if sys.argv[1] == "starts" else 6)
