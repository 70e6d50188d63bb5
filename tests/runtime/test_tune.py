"""bench.py tune on the real engine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from draftbench.harness.suite import load_suite

pytestmark = pytest.mark.slow
SUITE = """\
version: 1
name: small
target: {model: tiny, dtype: float32}
arms:
  - {name: vanilla, architecture: vanilla}
  - {name: lookup, architecture: prompt_lookup, num_steps: 3, topk: 2, num_draft_tokens: 6}
workloads:
  - {name: recall, source: synthetic, family: recall, num_prompts: 2}
sampling: {temperature: 0, max_tokens: 16, seed: 0}
load: [{concurrency: 1}]
blocks: 1
tune: {configurations: 2, prompts: 2, blocks: 1}
"""


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "bench.py", *words], capture_output=True, text=True, timeout=3600)


def test_trees_are_tried_and_the_tuned_suite_says_how(tmp_path: Path):
    """A run with its report, on other prompts than the suite's; resumed, it is not run again and says the same."""
    (tmp_path / "small.yaml").write_text(SUITE)
    words = ["tune", str(tmp_path / "small.yaml"), "--runs", str(tmp_path / "runs")]
    done = bench(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    mark = load_suite(tmp_path / "small-tuned.yaml").arms[-1].tuning
    assert mark is not None
    assert (mark.configurations, mark.run) == (2, "runs")
    run = tmp_path / "runs" / "last"
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["finished"]
    assert [arm["name"] for arm in manifest["suite"]["arms"]] == ["vanilla", "lookup.3x2x6", "lookup.3x8x16"]
    assert (run / "report.md").exists()
    records = (run / "references.jsonl").read_text().splitlines()
    assert {json.loads(record)["prompt_id"] for record in records} == {"recall-2", "recall-3"}
    again = bench(*words, "--resume", "--out", str(tmp_path / "again.yaml"))
    assert again.returncode == 0, again.stdout + again.stderr
    assert "reference pass" not in again.stdout
    assert (tmp_path / "again.yaml").read_text() == (tmp_path / "small-tuned.yaml").read_text()
