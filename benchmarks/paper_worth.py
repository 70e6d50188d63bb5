"""What the acceptance that PRISM's paper reports is worth in speed here, at the paper's shapes.

    python -m benchmarks.paper_worth --shape llama3-8b --out runs/paper

Weights are random and acceptance is drawn: for each of the paper's six sets and each method (EAGLE-2, HASS, PRISM) so
that the acceptance length τ is that of Table 4 (T=0); only the shape of the α_k over the steps is taken from elsewhere,
the paper's artifact. What is measured is time: the round, vanilla's step, and so the speedup, beside the paper's.
Prompts are random words, so sets differ by their τ and the length of their prompts alone. One engine per method serves
all sets.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml
from tabulate import tabulate

from benchmarks.shapes import SHAPES, write_eagle, write_prism, write_target
from benchmarks.suite_run import run_suite

PAPER = Path(__file__).parents[1] / "reports" / "printed" / "prism_table4.json"
PROMPT_TOKENS = {
    "mt_bench": 96, "humaneval": 160, "gsm8k": 96, "alpaca": 64, "cnn_dm": 512, "natural_questions": 64,
}  # fmt: skip
"""By set, about as long as its prompts are; CNN/DM's are longer."""
METHODS = {"eagle-2": ("EAGLE-2", "eagle"), "hass": ("HASS", "eagle"), "prism": ("PRISM", "prism")}
"""The arms: the paper's name, and the architecture, by which the checkpoints are named."""
MARK = " (simulated acceptance)"
"""What reports add to the names of such arms."""
MODULES = 2
TREE = (6, 4, 16)
TARGETS = {"llama3-8b": "llama3-8b", "llama2-7b": "llama2-7b", "small": "llama3-8b"}
"""Whose rows of Table 4 a shape takes."""
MAX_TOTAL_TOKENS = 4096


def acceptance_length(alphas: Sequence[float]) -> float:
    """τ = 1 + Σ_k Π_{j≤k} α_j: the bonus token, and each step if all up to it were accepted."""
    length, reached = 1.0, 1.0
    for alpha in alphas:
        reached *= alpha
        length += reached
    return length


def scaled(shape: Sequence[float], wanted: float) -> list[float]:
    """α_k = min(1, s · shape_k) with the s, found by bisection, that makes τ the wanted one; τ grows with s.

    Raises:
        ValueError: no s does: τ lies between 1 and the number of steps + 1, and every step's share is above 0.
    """
    if not 1 <= wanted <= len(shape) + 1 or min(shape) <= 0:
        raise ValueError(f"no scale of {list(shape)} gives an acceptance length of {wanted}")

    def at(scale: float) -> list[float]:
        return [min(1.0, scale * alpha) for alpha in shape]

    low, high = 0.0, 1 / min(shape)
    for _ in range(100):
        middle = (low + high) / 2
        if acceptance_length(at(middle)) < wanted:
            low = middle
        else:
            high = middle
    return at(high)


def over_steps(curve: Sequence[float], num_steps: int) -> list[float]:
    """A curve for another number of steps: cut, or its last value held."""
    return [curve[min(step, len(curve) - 1)] for step in range(num_steps)]


@dataclass(frozen=True)
class Paper:
    """Table 4 for one target, and the curves of the artifact."""

    table: Mapping[str, Mapping[str, Mapping[str, float]]]
    curves: Mapping[str, Mapping[str, Sequence[float]]]

    @classmethod
    def of(cls, target: str) -> Paper:
        """From the data file."""
        content = json.loads(PAPER.read_text())
        return cls(content["tokens_per_s_and_acceptance_length"][target], content["conditional_acceptance"])

    def tau(self, method: str, name: str) -> float:
        """Acceptance length."""
        return self.table[method][name]["acceptance_length"]

    def speedup(self, method: str, name: str) -> float:
        """Tokens per second over vanilla's."""
        return self.table[method][name]["tokens_per_s"] / self.table["vanilla"][name]["tokens_per_s"]

    def round_ms(self, method: str, name: str) -> float:
        """Acceptance length over tokens per second."""
        return 1000 * self.tau(method, name) / self.table[method][name]["tokens_per_s"]

    def alphas(self, method: str, name: str, num_steps: int) -> list[float]:
        """α_k with Table 4's acceptance length."""
        return scaled(over_steps(self.curves[method][name], num_steps), self.tau(method, name))


@dataclass(frozen=True)
class Trial:
    """What is run.

    Attributes:
        tree: steps, branches, verified tokens.
        prompts: of each set, in every block.
        tokens: of each output.
    """

    shape: str
    sets: tuple[str, ...]
    tree: tuple[int, int, int]
    blocks: int
    prompts: int
    tokens: int

    @cached_property
    def paper(self) -> Paper:
        """The paper's numbers for the shape."""
        return Paper.of(TARGETS[self.shape])

    def write_models(self, folder: Path) -> None:
        """Target, EAGLE draft (HASS's too) and PRISM draft."""
        config = write_target(self.shape, folder / "target")
        write_eagle(config, folder / "eagle")
        steps = range(self.tree[0])
        write_prism(config, [min(step, MODULES - 1) for step in steps], folder / "prism")

    def suite(self) -> dict[str, Any]:
        """The suite; its paths are relative to the models' folder."""
        num_steps, topk, num_draft_tokens = self.tree
        drafts = [
            {
                "name": method,
                "architecture": kind,
                "checkpoint": kind,
                "num_steps": num_steps,
                "topk": topk,
                "num_draft_tokens": num_draft_tokens,
                "simulated_acceptance": {name: self.paper.alphas(method, name, num_steps) for name in self.sets},
            }
            for method, (_, kind) in METHODS.items()
        ]
        longest = max(PROMPT_TOKENS[name] for name in self.sets) + self.tokens + 4 * num_draft_tokens
        return {
            "version": 1,
            "name": f"paper-worth-{self.shape}",
            "target": {"model": "target", "dtype": "bfloat16", "random_weights": True},
            "arms": [{"name": "vanilla", "architecture": "vanilla"}, *drafts],
            "workloads": [
                {
                    "name": name,
                    "source": "random",
                    "prompt_tokens": PROMPT_TOKENS[name],
                    "num_prompts": self.prompts,
                }
                for name in self.sets
            ],
            "sampling": {"temperature": 0, "max_tokens": self.tokens, "seed": 0},
            "load": [{"concurrency": 1}],
            "blocks": self.blocks,
            "max_total_tokens": max(MAX_TOTAL_TOKENS, 4 * longest),
        }


HEADS = (
    "set", "method", "τ wanted", "τ measured", "speedup [95%]", "τ wanted ÷ c", "paper's speedup", "round ms", "c",
    "paper's round ms", "paper's c",
)  # fmt: skip


OURS = (3, 4, 5, 7, 8)
"""Columns of what was measured."""


def _line(trial: Trial, row: Mapping[str, Any]) -> list[Any]:
    """A set's row; its numbers as numbers, in HEADS's order."""
    method, name = row["arm"].removesuffix(MARK), row["workload"]
    tau, theirs, theirs_ms = (
        found(method, name) for found in (trial.paper.tau, trial.paper.speedup, trial.paper.round_ms)
    )
    cost, step_s = row["step_cost_ratio"], row["detail"]["decode_step_s"]
    return [
        name, f"{METHODS[method][0]}{MARK}", tau, row["acceptance_length"], row["speedup"],
        None if cost is None else tau / cost, theirs, None if step_s is None else 1000 * step_s, cost, theirs_ms,
        tau / theirs,
    ]  # fmt: skip


def tables(trial: Trial, rows: Sequence[Mapping[str, Any]]) -> str:
    """Per set and method, and means over the sets, beside the paper's; of the rows that are there.

    Invalid rows are struck through, and the means are of the valid rows with a speedup alone, the paper's too.
    """
    found = {(row["workload"], row["arm"].removesuffix(MARK)): row for row in rows}
    pairs = [(name, method) for name in trial.sets for method in METHODS if (name, method) in found]
    lines = {pair: _line(trial, found[pair]) for pair in pairs}
    shown = []
    for pair, line in lines.items():
        texts = _texts(line)
        low, high = found[pair]["speedup_low"], found[pair]["speedup_high"]
        if low is not None and high is not None:
            texts[4] += f" [{low:.2f}, {high:.2f}]"
        if not found[pair]["valid"]:
            texts = [f"~~{text}~~" if column in OURS else text for column, text in enumerate(texts)]
        shown.append(texts)
    means = []
    for method in METHODS:
        own = [
            line
            for pair, line in lines.items()
            if pair[1] == method and found[pair]["valid"] and found[pair]["speedup"] is not None
        ]
        if own:
            means.append(_texts([f"mean of {len(own)}", own[0][1], *map(_mean, list(zip(*own, strict=True))[2:])]))
    vanilla = [
        1000 * row["detail"]["decode_step_s"]
        for row in rows
        if row["arm"] == "vanilla" and row["detail"]["decode_step_s"] is not None
    ]
    steps, topk, tokens = trial.tree
    step_text = f" Vanilla's step: {min(vanilla):.2f} to {max(vanilla):.2f} ms by set." if vanilla else ""
    notes = [
        f"Shape {trial.shape}, random weights, simulated acceptance: no draft was measured, only times are. "
        f"{steps} steps, {topk} branches, {tokens} verified tokens, batch 1; {trial.prompts} random prompts a set, "
        f"{trial.tokens} tokens each, {trial.blocks} blocks.{step_text}",
        f"τ wanted is Table 4's for {TARGETS[trial.shape]} (6 steps, 4 branches, 16 tokens, A800), τ measured what "
        "was drawn. Speedup: tokens per second over vanilla's, prefill included as in the paper, whose outputs are "
        "longer. τ wanted ÷ c leaves out prefill and the chance of the draws. c: a round in vanilla's steps; the "
        "paper's is τ over its speedup, and its round τ over tokens per second.",
    ]
    invalid = [f"Not valid: {row['arm']}, {row['workload']}: {row['reason']}." for row in rows if not row["valid"]]
    return (
        "\n\n".join(
            [
                "# What the paper's acceptance is worth here",
                tabulate([*shown, *means], HEADS, "github", disable_numparse=True),
                *notes,
                *invalid,
            ]
        )
        + "\n"
    )


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return fmean(present) if present else None


def _texts(line: Sequence[Any]) -> list[str]:
    return [value if isinstance(value, str) else "–" if value is None else f"{value:.2f}" for value in line]


def run(trial: Trial, out: Path) -> int:
    """Run the suite, or go on with it, and write and print paper.md; bench.py's exit code."""
    trial.write_models(out)
    suite = out / "paper.yaml"
    suite.write_text(yaml.safe_dump(trial.suite(), sort_keys=False))
    code = run_suite(suite, out / "run")
    results = out / "run" / "results.json"
    if results.exists():
        text = tables(trial, json.loads(results.read_text()))
        (out / "paper.md").write_text(text)
        print(text)
    return code


def tree_of(text: str) -> tuple[int, int, int]:
    """`6,4,16`: steps, branches, verified tokens."""
    steps, topk, tokens = (int(part) for part in text.split(","))
    return steps, topk, tokens


def main() -> int:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=list(SHAPES), required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of models, run and paper.md; gone on with")
    parser.add_argument("--sets", nargs="+", choices=list(PROMPT_TOKENS), default=list(PROMPT_TOKENS))
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--prompts", type=int, default=1, help="of each set, in every block")
    parser.add_argument("--tokens", type=int, default=128, help="of each output")
    parser.add_argument(
        "--tree", type=tree_of, default=TREE, help="steps, branches, verified tokens; τ remains that of 6,4,16"
    )
    args = parser.parse_args()
    trial = Trial(args.shape, tuple(args.sets), args.tree, args.blocks, args.prompts, args.tokens)
    return run(trial, args.out)


if __name__ == "__main__":
    sys.exit(main())
