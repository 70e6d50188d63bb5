"""A target trained on this machine for minutes, drafts for it on one budget, the quickstart on it, and a sweep of load.

    python -m benchmarks.trained_target train --data DATA --out runs/trained --size 200m --seconds 150
    python -m benchmarks.trained_target report --out runs/trained
    python -m benchmarks.trained_target study --out runs/trained          PRISM and its controls on it, three seeds
    python -m benchmarks.trained_target sweep --out runs/trained          on the embedded target where none was trained

Whatever is there already is not made again.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from benchmarks.suite_run import run_suite

TREE = {"num_steps": 5, "topk": 4, "num_draft_tokens": 16}
DRAFTS: dict[str, dict[str, Any]] = {
    "standalone": {"architecture": "standalone", "num_steps": 3, "topk": 1, "num_draft_tokens": 4},
    "medusa": {"architecture": "medusa", "num_steps": 4, "topk": 4, "num_draft_tokens": 16},
    "eagle": {"architecture": "eagle", **TREE},
    "hass": {"architecture": "eagle", **TREE},
    "prism": {"architecture": "prism", **TREE},
}
"""As the quickstart has them."""
LAYERS = {"options": {"reads_layers": 3}}
STUDY: tuple[dict[str, Any], ...] = (
    {"name": "eagle", "recipe": "eagle"},
    {"name": "hass", "recipe": "hass"},
    {"name": "hass-half", "recipe": "hass", "share": 0.5},
    {"name": "prism", "recipe": "prism"},
    {"name": "hass-layers", "recipe": "hass", **LAYERS},
    {"name": "prism-layers", "recipe": "prism", **LAYERS},
    {"name": "stacked-2", "recipe": "stacked-2"},
)
"""The arms of PRISM's study that a claim rests on, as drafts/training/prism_study.yaml has them."""
FAMILIES = ("arithmetic", "dialogue")
NUM_PROMPTS = 3000
BATCHES = (1, 2, 4, 8, 16, 32, 64)


def train(data: Path, out: Path, size: str, seconds: float | None) -> int:
    """The target, then drafts for it; an exit code."""
    smoke = size == "smoke"
    target = out / "target"
    if not (target / "training.json").exists():
        set_aside(out)
        limit = [] if seconds is None else ["--seconds", str(seconds)]
        words = ["--gsm8k", str(data / "gsm8k_train.jsonl"), "--out", str(target), "--size", size, *limit]
        code = subprocess.run([sys.executable, "-m", "draftbench.drafts.training.target", *words]).returncode
        if code:
            return code
    if not (out / "prompts.jsonl").exists():
        write_prompts(data, out / "prompts.jsonl", 12 if smoke else NUM_PROMPTS)
    return train_drafts(out, smoke)


def set_aside(out: Path) -> None:
    """Rename what was begun on an earlier target, as on another machine that has gone: it cannot be gone on with."""
    begun = [path for path in out.glob("*/manifest.json") if not json.loads(path.read_text()).get("finished")]
    for folder in (path.parent for path in begun if path.parent.name in ("quickstart", "sweep")):
        number = 1 + len(list(out.glob(f"{folder.name}-earlier-*")))
        folder.rename(out / f"{folder.name}-earlier-{number}")


def train_drafts(out: Path, smoke: bool) -> int:
    """All drafts on the target's own answers and one budget; goes on with a training that was stopped."""
    recipe, drafts = out / "drafts.yaml", out / "drafts"
    recipe.write_text(yaml.safe_dump(drafts_recipe(smoke), sort_keys=False))
    resume = ["--resume"] if drafts.exists() else []
    command = [sys.executable, "bench.py", "train", str(recipe), "--out", str(drafts), *resume]
    return subprocess.run(command).returncode


def study(out: Path, smoke: bool) -> int:
    """PRISM's study on the trained target: the drafts, seed by seed, then the page, of whatever was trained."""
    recipe, drafts = out / "study.yaml", out / "study-drafts"
    arms = STUDY[-3:-1] if smoke else STUDY
    changes = {"name": "prism-study", "drafts": list(arms), "seeds": [0] if smoke else [0, 1, 2]}
    recipe.write_text(yaml.safe_dump({**drafts_recipe(smoke), **changes}, sort_keys=False))
    resume = ["--resume"] if drafts.exists() else []
    train = [sys.executable, "bench.py", "train", str(recipe), "--out", str(drafts), *resume]
    page = [sys.executable, "bench.py", "study", str(drafts), "--out", str(out / "study")]
    code = subprocess.run(train).returncode
    return subprocess.run(page).returncode or code if any(drafts.glob("*/training.json")) else code


def drafts_recipe(smoke: bool) -> dict[str, Any]:
    """The recipe; its paths are relative to the output folder."""
    concurrency = 4 if smoke else 64
    return {
        "version": 1,
        "name": "trained",
        "target": {"model": "target", "dtype": "float32" if smoke else "bfloat16"},
        "corpus": {
            "responses": "target",
            "sources": [{"name": "prompts", "source": "chat_jsonl", "path": "prompts.jsonl"}],
            "sampling": {"temperature": 0, "max_tokens": 8 if smoke else 192, "seed": 0},
            "concurrency": concurrency,
            "max_total_tokens": 2048 * concurrency,
        },
        "tree": TREE,
        "budget": {
            "axis": "steps",
            "amount": 2 if smoke else 300,
            "tokens_per_batch": 512 if smoke else 8192,
            "learning_rates": [0.003],
        },
        "seeds": [0],
        "dtype": "float32" if smoke else "bfloat16",
        "drafts": [{"name": name, "recipe": name} for name in (("prism",) if smoke else DRAFTS)],
    }


def write_prompts(data: Path, path: Path, count: int) -> None:
    """Prompts for the drafts' corpus: synthetic ones of the train split, and GSM8K's."""
    from itertools import islice

    from draftbench.drafts.training.corpus import gsm8k_chats, synthetic_chats

    chats = list(islice(synthetic_chats(100), count - count // 6))
    chats += random.Random(1).sample(gsm8k_chats(data / "gsm8k_train.jsonl"), count // 6)
    random.Random(2).shuffle(chats)
    path.write_text("".join(json.dumps({"id": n, "turns": [chat[0]]}) + "\n" for n, chat in enumerate(chats)))


def drafts_suite(out: Path, name: str, smoke: bool, load: list[dict[str, int]], blocks: int) -> dict[str, Any]:
    """The quickstart's suite on the trained target with the drafts that there are; on the embedded one if none is."""
    trained = (out / "target" / "training.json").exists()
    kept = ("prism",) if smoke else tuple(DRAFTS)
    drafts = [draft for draft in kept if not trained or (out / "drafts" / f"{draft}-s0" / "config.json").exists()]
    arms: list[dict[str, Any]] = [] if smoke else [{"name": "vanilla", "architecture": "vanilla"}]
    arms += [{"name": d, "checkpoint": f"drafts/{d}-s0" if trained else f"tiny/{d}", **DRAFTS[d]} for d in drafts]
    most = max(point["num_prompts"] for point in load)
    return {
        "version": 1,
        "name": name,
        "target": {"model": "target" if trained else "tiny", "dtype": "float32" if smoke else "bfloat16"},
        "arms": arms,
        "workloads": [
            {"name": family, "source": "synthetic", "family": family, "num_prompts": most}
            for family in (FAMILIES[:1] if smoke else FAMILIES)
        ],
        "sampling": {"temperature": 0, "max_tokens": 8 if smoke else 96, "seed": 0},
        "load": load,
        "blocks": blocks,
        "max_total_tokens": 8192 if smoke else 65536,
    }


def main() -> int:
    """Read the arguments and do one part; its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("train", "report", "study", "sweep"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="folder with gsm8k_train.jsonl")
    parser.add_argument("--size", default="200m", help="as draftbench.drafts.training.target has them")
    parser.add_argument("--seconds", type=float, help="how long the target is trained")
    parser.add_argument("--smoke", action="store_true", help="as little as shows that it runs")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.part == "train":
        return train(args.data, args.out, args.size, args.seconds)
    if args.part == "study":
        return study(args.out, args.smoke)
    if args.part == "report":
        batches: tuple[int, ...] = (1, 2) if args.smoke else (1,)
        name, load = "quickstart", [{"concurrency": b, "num_prompts": 2 if args.smoke else 8} for b in batches]
    else:
        batches = (1, 2) if args.smoke else BATCHES
        name, load = "sweep", [{"concurrency": b, "num_prompts": 2 if args.smoke else max(8, 2 * b)} for b in batches]
    blocks = 1 if args.smoke or name == "sweep" else 3
    suite = args.out / f"{name}.yaml"
    suite.write_text(yaml.safe_dump(drafts_suite(args.out, name, args.smoke, load, blocks), sort_keys=False))
    if not args.smoke:
        return run_suite(suite, args.out / name)
    if name == "sweep":  # what it would run; the quickstart has shown that such a suite does
        return subprocess.run([sys.executable, "bench.py", "plan", str(suite)], check=False).returncode
    code = run_suite(suite, args.out / name)
    # A target of two steps says nothing that a draft could foresee, so that no row may be valid.
    return 0 if code == 1 and (args.out / name / "report.md").exists() else code


if __name__ == "__main__":
    sys.exit(main())
