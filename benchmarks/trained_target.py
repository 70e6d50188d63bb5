"""A target trained on this machine for minutes, drafts for it on one budget, the quickstart on it, and a sweep of load.

    python -m benchmarks.trained_target train --data DATA --out runs/trained --size 200m --seconds 150
    python -m benchmarks.trained_target report --out runs/trained
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
FAMILIES = ("arithmetic", "dialogue")
NUM_PROMPTS, HELD_OUT = 3000, 60
BATCHES = (1, 2, 4, 8, 16, 32, 64)


def train(data: Path, out: Path, size: str, seconds: float | None) -> None:
    """Target, its own answers, drafts; each only if it is not there.

    Raises:
        CalledProcessError: a part failed.
    """
    smoke = size == "smoke"
    target = out / "target"
    if not (target / "training.json").exists():
        limit = [] if seconds is None else ["--seconds", str(seconds)]
        gsm8k = data / "gsm8k_train.jsonl"
        _module("drafts.training.target", "--gsm8k", gsm8k, "--out", target, "--size", size, *limit)
    corpus, heldout = out / "corpus.jsonl", out / "heldout.jsonl"
    if not heldout.exists():
        write_prompts(data, out / "prompts.jsonl", 12 if smoke else NUM_PROMPTS)
        suite = out / "corpus.yaml"
        suite.write_text(yaml.safe_dump(corpus_suite(8 if smoke else 192, 4 if smoke else 64), sort_keys=False))
        answers = out / "answers.jsonl"
        subprocess.run([sys.executable, "bench.py", "outputs", str(suite), "--out", str(answers)], check=True)
        lines = answers.read_text().splitlines(keepends=True)
        held = min(HELD_OUT, len(lines) // 4)
        corpus.write_text("".join(lines[held:]))
        heldout.write_text("".join(lines[:held]))
    train_drafts(out, ("prism",) if smoke else tuple(DRAFTS), 2 if smoke else 300)


def train_drafts(out: Path, names: tuple[str, ...], steps: int) -> None:
    """All drafts on one corpus and one budget; the one place that knows how drafts are trained."""
    missing = [name for name in names if not (out / "drafts" / name / "training.json").exists()]
    for name in missing:
        _module(
            "drafts.training.drafts", "--target", out / "target", "--corpus", out / "corpus.jsonl",
            "--heldout", out / "heldout.jsonl", "--out", out / "drafts", "--cache", out / "features",
            "--draft", name, "--steps", steps,
        )  # fmt: skip


def _module(name: str, *words: object) -> None:
    subprocess.run([sys.executable, "-m", name, *map(str, words)], check=True)


def write_prompts(data: Path, path: Path, count: int) -> None:
    """Prompts for the drafts' corpus: synthetic ones of the train split, and GSM8K's."""
    from itertools import islice

    from drafts.training.corpus import gsm8k_chats, synthetic_chats

    chats = list(islice(synthetic_chats(100), count - count // 6))
    chats += random.Random(1).sample(gsm8k_chats(data / "gsm8k_train.jsonl"), count // 6)
    random.Random(2).shuffle(chats)
    path.write_text("".join(json.dumps({"id": n, "turns": [chat[0]]}) + "\n" for n, chat in enumerate(chats)))


def corpus_suite(max_tokens: int, concurrency: int) -> dict[str, Any]:
    """What the target answers for its drafts."""
    return {
        "version": 1,
        "name": "corpus",
        "target": {"model": "target", "dtype": "bfloat16"},
        "arms": [{"name": "vanilla", "architecture": "vanilla"}],
        "workloads": [{"name": "prompts", "source": "chat_jsonl", "path": "prompts.jsonl"}],
        "sampling": {"temperature": 0, "max_tokens": max_tokens, "seed": 0},
        "load": [{"concurrency": concurrency}],
        "blocks": 1,
        "max_total_tokens": 2048 * concurrency if concurrency > 4 else 8192,
    }


def drafts_suite(out: Path, name: str, smoke: bool, load: list[dict[str, int]], blocks: int) -> dict[str, Any]:
    """The quickstart's suite on the trained target with the drafts that there are; on the embedded one if none is."""
    trained = (out / "target" / "training.json").exists()
    kept = ("prism",) if smoke else tuple(DRAFTS)
    drafts = [draft for draft in kept if not trained or (out / "drafts" / draft / "config.json").exists()]
    arms: list[dict[str, Any]] = [] if smoke else [{"name": "vanilla", "architecture": "vanilla"}]
    arms += [{"name": d, "checkpoint": f"drafts/{d}" if trained else f"tiny/{d}", **DRAFTS[d]} for d in drafts]
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
    parser.add_argument("part", choices=("train", "report", "sweep"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="folder with gsm8k_train.jsonl")
    parser.add_argument("--size", default="200m", help="as drafts.training.target has them")
    parser.add_argument("--seconds", type=float, help="how long the target is trained")
    parser.add_argument("--smoke", action="store_true", help="as little as shows that it runs")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.part == "train":
        try:
            train(args.data, args.out, args.size, args.seconds)
        except subprocess.CalledProcessError as error:
            return error.returncode
        return 0
    if args.part == "report":
        batches = (1, 2) if args.smoke else (1,)
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
