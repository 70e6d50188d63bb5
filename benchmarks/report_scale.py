"""What a large run costs to report and to verify: 100 cells, 1,000,000 rounds, made up from a seed.

python benchmarks/report_scale.py [FOLDER]
"""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from draftbench.harness.host.provenance import suite_sha256

BLOCKS, LAUNCHES, ROUNDS = 2, 5, 1_000_000
ARMS = ("vanilla", "medusa", "eagle", "hass", "prism")
POINTS = (("dialogue", 1), ("dialogue", 8))
PROMPTS, DEPTH, NODES = 25, 5, 16
ACCEPTANCE = {"medusa": 0.55, "eagle": 0.65, "hass": 0.72, "prism": 0.75}


def main() -> None:
    """Write the run, then time each command in a process of its own."""
    if len(sys.argv) > 1:
        measure(Path(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder))


def measure(folder: Path) -> None:
    """Time report and verify on a run in the folder, and say how large its files are."""
    write_run(folder)
    for command, argument in (("report", folder), ("verify", folder / "report.md")):
        began = time.perf_counter()
        code = (
            "import bench, resource, sys; code = bench.main(sys.argv[1:]);"
            "print(f'resident at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB');"
            "sys.exit(code)"
        )
        done = subprocess.run([sys.executable, "-c", code, command, str(argument)], text=True, capture_output=True)
        print(f"{command}: exit code {done.returncode}, {time.perf_counter() - began:.1f} s, ", end="")
        print(done.stdout.splitlines()[-1], done.stderr)
    for name in ("requests.jsonl", "report.html"):
        print(f"{name}: {(folder / name).stat().st_size / 2**20:.1f} MB")


def write_run(folder: Path) -> None:
    """A run's manifest and records, with rounds spread evenly over the cells that have a draft."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps(manifest()))
    cells = [
        {"launch": launch, "block": block, "arm": arm, "workload": workload, "concurrency": concurrency}
        for launch in range(LAUNCHES)
        for block in range(BLOCKS)
        for workload, concurrency in POINTS
        for arm in ARMS
    ]
    drafting = sum(cell["arm"] != "vanilla" for cell in cells)
    rounds = ROUNDS // (drafting * PROMPTS)
    with (folder / "requests.jsonl").open("w") as requests, (folder / "cells.jsonl").open("w") as seals:
        for cell in cells:
            requests.writelines(json.dumps(line, separators=(",", ":")) + "\n" for line in requests_of(cell, rounds))
            phases = {"num_rounds": 9, "draft_ns": 30, "verify_ns": 50, "extend_ns": 15, "round_ns": 100}
            seal = {"version": 1, "cell": cell, "started_ns": 0, "finished_ns": 1, "num_requests": PROMPTS}
            seal |= {"num_failed": 0, "phases": None if cell["arm"] == "vanilla" else phases, "error": None}
            seals.write(json.dumps(seal) + "\n")


def requests_of(cell: dict[str, object], rounds: int) -> Iterator[dict[str, object]]:
    """A cell's requests; greedy blocks repeat the same tokens, so only times depend on launch and block."""
    clock = random.Random(str(cell))
    for number in range(PROMPTS):
        tokens = random.Random(f"{cell['arm']} {cell['workload']} {number}")
        share = ACCEPTANCE.get(str(cell["arm"]))
        accepted = [0] * 300 if share is None else [accept(tokens, share) for _ in range(rounds)]
        at = 1_000_000_000
        chunks = [{"at_ns": at, "num_tokens": 1}]
        for count in accepted:
            at += int((8e6 if share is None else 15e6) * clock.uniform(0.95, 1.05))
            chunks.append({"at_ns": at, "num_tokens": count + 1})
        total = sum(chunk["num_tokens"] for chunk in chunks)
        yield {
            "version": 1,
            "cell": cell,
            "request_id": f"{cell['launch']}-{cell['block']}-{cell['arm']}-{cell['concurrency']}-{number}",
            "prompt_id": f"{cell['workload']}-{number}",
            "turn": 0,
            "category": None,
            "prompt_sha256": hashlib.sha256(str(number).encode()).hexdigest(),
            "num_prompt_tokens": 100,
            "num_cached_tokens": 0,
            "sent_ns": 990_000_000,
            "chunks": chunks,
            "finished_ns": at,
            "output_ids": [1000 + (number + index) % 30_000 for index in range(total)],
            "finish_reason": "length",
            "rounds": None
            if share is None
            else [{"num_accepted_drafts": count, "num_proposed_drafts": NODES - 1} for count in accepted],
            "engine_verify_ct": None if share is None else rounds,
            "engine_accept_length": None,
            "num_retractions": 0,
            "error": None,
        }


def accept(source: random.Random, share: float) -> int:
    """Drafts accepted in one round if each is accepted with the same probability."""
    count = 0
    while count < DEPTH and source.random() < share:
        count += 1
    return count


def manifest() -> dict[str, object]:
    """What a report reads of a manifest."""
    tree = {"num_steps": DEPTH, "topk": 4, "num_draft_tokens": NODES}
    suite = {
        "version": 1,
        "name": "scale",
        "target": {"model": "made-up", "dtype": "bfloat16"},
        "arms": [
            {"name": arm, "architecture": "eagle" if arm == "hass" else arm, **({} if arm == "vanilla" else tree)}
            for arm in ARMS
        ],
        "workloads": [{"name": "dialogue", "source": "synthetic", "family": "dialogue"}],
        "sampling": {"temperature": 0.0, "max_tokens": 4096, "seed": 0},
        "load": [{"concurrency": concurrency} for _, concurrency in POINTS],
        "blocks": BLOCKS,
        "launches": LAUNCHES,
    }
    return {"version": 1, "suite": suite, "suite_sha256": suite_sha256(suite), "finished": True}


if __name__ == "__main__":
    main()
