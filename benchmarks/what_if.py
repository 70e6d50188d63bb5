"""Vanilla, EAGLE and PRISM at a target's shape with random weights, acceptance simulated from measured α_k.

    python -m benchmarks.what_if --shape llama3-8b --out runs/what-if

The α_k are those of a published report's drafts on dialogue, so the rows tell what such acceptance would be worth at
the shape, and are marked. Cells are long enough for energy counters.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import yaml

from benchmarks.prism_round import MAPS, TREE
from benchmarks.shapes import SHAPES, write_eagle, write_prism, write_target
from benchmarks.suite_run import run_suite

MEASURED = Path("reports/published/quickstart-cpu/results.json")
WORKLOAD = "dialogue"
VANILLA_STEP_S = {"llama3-8b": 0.0065, "small": 0.004}
"""Assumed, to make cells long enough: 16 GB read at an H200's or H100's bandwidth, and overhead."""
FASTEST = 3
"""No draft is expected to be more than so many times as fast, and its cells must be long enough too."""
TOKENS, BATCH = 128, 8


def measured_alphas(results: Path, arm: str) -> list[float]:
    """α_k of an arm in a report's results.json."""
    rows = json.loads(results.read_text())
    row = next(row for row in rows if row["arm"] == arm and row["workload"] == WORKLOAD)
    return [round(alpha, 4) for alpha in row["detail"]["conditional_acceptance"]]


def new_suite(shape: str, results: Path, least_s: float, arms: list[str]) -> dict[str, Any]:
    """The suite; paths are relative to the models' folder."""
    drafts = [
        {
            "name": name,
            "architecture": name,
            "checkpoint": name,
            **TREE,
            "simulated_acceptance": measured_alphas(results, name),
        }
        for name in ("eagle", "prism")
        if name in arms
    ]
    vanilla = [{"name": "vanilla", "architecture": "vanilla"}] if "vanilla" in arms else []
    num_prompts = math.ceil(FASTEST * least_s / (TOKENS * VANILLA_STEP_S[shape])) * BATCH if least_s > 1 else BATCH
    return {
        "version": 1,
        "name": f"what-if-{shape}",
        "target": {"model": "target", "dtype": "bfloat16", "random_weights": True},
        "arms": vanilla + drafts,
        "workloads": [{"name": "random", "source": "random", "prompt_tokens": 64, "num_prompts": num_prompts}],
        "sampling": {"temperature": 0, "max_tokens": TOKENS if least_s > 1 else 16, "seed": 0},
        "load": [{"concurrency": BATCH}],
        "blocks": 1,
        "max_total_tokens": 16384,
    }


def main() -> int:
    """Write models and suite, and run it; bench.py's exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=list(SHAPES), required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--results", type=Path, default=MEASURED, help="results.json that the α_k come from")
    parser.add_argument("--least-s", type=float, default=31, help="seconds that every cell should take")
    parser.add_argument("--arms", nargs="+", default=["vanilla", "eagle", "prism"])
    args = parser.parse_args()
    target = write_target(args.shape, args.out / "target")
    write_eagle(target, args.out / "eagle")
    write_prism(target, MAPS[2], args.out / "prism")
    suite = args.out / "what-if.yaml"
    suite.write_text(yaml.safe_dump(new_suite(args.shape, args.results, args.least_s, args.arms), sort_keys=False))
    return run_suite(suite, args.out / "run")


if __name__ == "__main__":
    sys.exit(main())
