"""Gates that a real engine makes fire: a draft that never proposes anything, a warm cache on one side, an engine that
is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).parents[2]
SUITE = """\
version: 1
name: gates
target: {model: tiny, dtype: float32}
arms:
  - {name: vanilla, architecture: vanilla}
  - {name: cold, architecture: eagle, checkpoint: tiny/hass, num_steps: 3, topk: 2, num_draft_tokens: 6,
     engine: {disable_radix_cache: true}}
  - {name: silent, architecture: naughty, num_steps: 3, topk: 1, num_draft_tokens: 4,
     options: {mischief: silent, good_rounds: 0}}
  - {name: killed, architecture: prompt_lookup, num_steps: 3, topk: 1, num_draft_tokens: 4}
workloads:
  - {name: dialogue, source: synthetic, family: dialogue, num_prompts: 2}
sampling: {temperature: 0, max_tokens: 24, seed: 0}
load: [{concurrency: 1}]
blocks: 2
prefix_cache: true
"""


def environment() -> dict[str, str]:
    """With the misbehaving package on the path."""
    return {**os.environ, "PYTHONPATH": str(ROOT / "tests" / "runtime" / "naughty")}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The suite's run, in which one engine is killed in the middle of its first cell."""
    folder = tmp_path_factory.mktemp("gates")
    (folder / "gates.yaml").write_text(SUITE)
    words = [sys.executable, "bench.py", str(folder / "gates.yaml"), "--out", str(folder / "run")]
    process = subprocess.Popen(words, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    requests = folder / "run" / "requests.jsonl"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not (requests.exists() and '"killed"' in requests.read_text()):
        time.sleep(0.01)
    for child in psutil.Process(process.pid).children(recursive=True):
        # An engine is known by the file that takes its output.
        if os.readlink(f"/proc/{child.pid}/fd/1").endswith("engines/killed/engine.log"):
            child.send_signal(signal.SIGKILL)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output.decode()
    return folder / "run"


@pytest.fixture(scope="module")
def rows(run: Path) -> dict[str, dict[str, Any]]:
    return {row["arm"]: row for row in json.loads((run / "results.json").read_text())}


@pytest.mark.parametrize(
    ("arm", "gate"), [("cold", "unequal cache"), ("silent", "silent non-speculation"), ("cold", "own settings")]
)
def test_gates_fire(rows: dict[str, dict[str, Any]], arm: str, gate: str) -> None:
    """The row says which and why; what is invalid takes part in no verdict."""
    found = {finding["gate"]: finding for finding in rows[arm]["detail"]["findings"]}
    assert gate in found
    assert not rows[arm]["valid"]
    assert rows[arm]["detail"]["against"] == {}
    assert arm not in rows["vanilla"]["detail"]["against"]


def test_an_engine_that_was_killed_fails_its_cell_alone(run: Path, rows: dict[str, dict[str, Any]]) -> None:
    """Its row names the reason; the cell that was measured before stays, and the other arms' cells are all there."""
    found = {finding["gate"] for finding in rows["killed"]["detail"]["findings"]}
    assert found & {"failed cell", "failures"}
    assert not rows["killed"]["valid"]
    cells = [json.loads(line) for line in (run / "cells.jsonl").read_text().splitlines()]
    assert len(cells) == 8
    assert rows["vanilla"]["valid"]
