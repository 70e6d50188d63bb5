"""One target over two processes of the CPU: every architecture says and drafts what it does on one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import psutil
import pytest

from draftbench.harness.models.find import EMBEDDED, read_target
from draftbench.harness.models.memory import engine_bytes, weight_bytes
from draftbench.harness.suite import load_suite

pytestmark = pytest.mark.slow

SUITE = """\
version: 1
name: shared
target: {model: tiny, dtype: float32, tensor_parallel: RANKS}
arms:
  - {name: vanilla, architecture: vanilla}
  - {name: eagle, architecture: eagle, checkpoint: tiny/hass, num_steps: 4, topk: 3, num_draft_tokens: 10}
  - {name: eagle3, architecture: eagle3, checkpoint: tiny/eagle3, num_steps: 4, topk: 3, num_draft_tokens: 10}
  - {name: medusa, architecture: medusa, checkpoint: tiny/medusa, num_steps: 4, topk: 3, num_draft_tokens: 10}
  - {name: prism, architecture: prism, checkpoint: tiny/prism, num_steps: 4, topk: 3, num_draft_tokens: 10}
  - {name: ngram, architecture: ngram, num_steps: 4, topk: 1, num_draft_tokens: 5}
  - {name: lookup, architecture: prompt_lookup, num_steps: 4, topk: 1, num_draft_tokens: 5}
workloads:
  - {name: dialogue, source: synthetic, family: dialogue, num_prompts: 3}
sampling: {temperature: 0, max_tokens: 40, seed: 0}
load: [{concurrency: 1}]
blocks: 1
chunked_prefill_size: 48
"""
ARMS = ("eagle", "eagle3", "medusa", "prism", "ngram", "lookup")
Run = dict[str, Any]


def run_of(folder: Path, ranks: int) -> Run:
    """A run's folder, its rows and requests by arm, and the most memory of its engines by their folders."""
    suite, out = folder / f"shared-{ranks}.yaml", folder / f"run-{ranks}"
    suite.write_text(SUITE.replace("RANKS", str(ranks)))
    words = [sys.executable, "bench.py", str(suite), "--out", str(out)]
    with (folder / f"said-{ranks}").open("w") as said:
        process = subprocess.Popen(words, stdout=said, stderr=subprocess.STDOUT)
        most: dict[int, int] = defaultdict(int)
        while process.poll() is None:
            for group, size in group_bytes(process.pid).items():
                most[group] = max(most[group], size)
            time.sleep(0.2)
    told = (folder / f"said-{ranks}").read_text()
    assert process.returncode == 0, told
    rows = {row["arm"]: row for row in json.loads((out / "results.json").read_text())}
    requests: dict[str, dict[str, Any]] = defaultdict(dict)
    for line in (out / "requests.jsonl").read_text().splitlines():
        request = json.loads(line)
        requests[request["cell"]["arm"]][request["prompt_id"]] = request
    manifest = json.loads((out / "manifest.json").read_text())
    return {"out": out, "rows": rows, "requests": requests, "engines": manifest["engines"], "groups": dict(most)}


def group_bytes(root: int) -> dict[int, int]:
    """Memory of the engines under a process, each a group with its server and schedulers; shared pages are divided."""
    found: dict[int, int] = defaultdict(int)
    try:
        for process in psutil.Process(root).children(recursive=True):
            try:
                group = os.getpgid(process.pid)
                if group == process.pid or group in found:
                    found[group] += process.memory_full_info().pss
            except (psutil.Error, OSError):
                continue
    except psutil.Error:
        return {}
    return found


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_of(tmp_path_factory.mktemp("one"), 1)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_of(tmp_path_factory.mktemp("two"), 2)


def test_two_ranks_share_the_target(two: Run) -> None:
    """By the receipts, of rank 0; the report says so, and its rows are lossless."""
    assert {receipt["server_args"]["tp_size"] for receipt in two["engines"].values()} == {2}
    assert len(two["engines"]) == 1 + len(ARMS)
    assert "| devices of each engine | 2: tensor parallel 2 |" in (two["out"] / "report.md").read_text()
    for arm, row in two["rows"].items():
        assert row["valid"], (arm, row["reason"])
        assert row["lossless_share"] == 1.0, arm


@pytest.mark.parametrize("arm", ["vanilla", *ARMS])
def test_outputs_are_those_of_one_device(one: Run, two: Run, arm: str) -> None:
    """Token for token."""
    assert len(one["requests"][arm]) == 3
    for prompt, request in one["requests"][arm].items():
        assert two["requests"][arm][prompt]["output_ids"] == request["output_ids"], prompt


@pytest.mark.parametrize("arm", ARMS)
def test_drafts_are_those_of_one_device(one: Run, two: Run, arm: str) -> None:
    """Round by round the same number is accepted, and each round is told once though two ranks run it."""
    for prompt, request in one["requests"][arm].items():
        assert two["requests"][arm][prompt]["rounds"] == request["rounds"], prompt
    accepted = sum(each["num_accepted_drafts"] for r in two["requests"][arm].values() for each in r["rounds"])
    assert accepted > 0
    assert two["rows"][arm]["detail"]["num_rounds"] == one["rows"][arm]["detail"]["num_rounds"]


def test_an_engine_takes_no_more_than_is_reckoned_with(two: Run, tmp_path: Path) -> None:
    """All its processes together, by the rule by which engines are let side by side."""
    (tmp_path / "shared.yaml").write_text(SUITE.replace("RANKS", "2"))
    suite, target = load_suite(tmp_path / "shared.yaml"), EMBEDDED / "tiny" / "target"
    most = engine_bytes(suite, read_target(target), weight_bytes(target), weight_bytes(target), on_gpu=False)
    print({group: f"{size / 1e9:.2f} GB" for group, size in two["groups"].items()}, f"of {most / 1e9:.2f} GB")
    assert two["groups"]
    assert max(two["groups"].values()) < most
