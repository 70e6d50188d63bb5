"""bench.py as a user calls it, on the real engine."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from draftbench.bench import main

SUITE = """\
version: 1
name: small
target: {model: tiny, dtype: float32}
arms:
  - {name: vanilla, architecture: vanilla}
  - {name: hass, architecture: eagle, checkpoint: tiny/hass, num_steps: 3, topk: 2, num_draft_tokens: 6}
workloads:
  - {name: chat, source: mt_bench, path: chat.jsonl}
sampling: {temperature: 0, max_tokens: 24, seed: 0}
load: [{concurrency: 2}]
blocks: 2
chunked_prefill_size: 48
"""
CHAT = [
    {"question_id": n, "category": "math", "turns": [f"Work out {n} + 57 step by step.", "Now add 10 to it."]}
    for n in (34, 45)
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, command: Callable[..., tuple[int, str]]) -> tuple[Path, str]:
    """A finished run, interrupted once on the way and resumed."""
    folder = tmp_path_factory.mktemp("bench")
    (folder / "small.yaml").write_text(SUITE)
    (folder / "chat.jsonl").write_text("".join(json.dumps(record) + "\n" for record in CHAT))
    out = folder / "run"
    words = [sys.executable, "bench.py", str(folder / "small.yaml"), "--out", str(out)]
    first = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Tests that were started in the background may ignore Ctrl-C, and their children with them.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 900
    while not (out / "cells.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    started = psutil.Process(first.pid).children(recursive=True)
    first.send_signal(signal.SIGINT)
    told = first.communicate(timeout=300)[0]
    assert first.returncode == 130, told
    assert "what was measured is kept" in told
    assert started
    _, alive = psutil.wait_procs(started, timeout=60)
    assert not alive
    assert (out / "requests.jsonl").read_text()
    code, printed = command(str(folder / "small.yaml"), "--out", str(out), "--resume")
    assert code == 0, printed
    return out, printed


def test_a_run_prints_the_comparison_and_the_reports_path(run):
    """The table has a row per arm; the last line is the report."""
    out, printed = run
    assert "baseline" in printed
    assert printed.count("hass") >= 1
    assert f"report: {out / 'report.md'}" in printed.replace("\n", "")


def test_results_csv_is_the_stable_interface(run):
    """One row per arm, with the documented columns; greedy is lossless."""
    with (run[0] / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "arm",
        "architecture",
        "workload",
        "load",
        "concurrency",
        "offered_per_s",
        "temperature",
        "num_requests",
        "num_failed",
        "acceptance_length",
        "output_tokens_per_s",
        "speedup",
        "speedup_low",
        "speedup_high",
        "ttft_s",
        "tpot_s",
        "itl_chunk_s",
        "itl_token_s",
        "latency_s",
        "latency_ratio",
        "latency_ratio_low",
        "latency_ratio_high",
        "steady_tokens_per_s",
        "goodput_per_s",
        "within_limits",
        "step_cost_ratio",
        "lossless_share",
        "joules_per_token",
        "net_joules_per_token",
        "valid",
        "reason",
    ]
    assert [(row["arm"], row["concurrency"]) for row in rows] == [("vanilla", "2"), ("hass", "2")]
    for row in rows:
        assert row["valid"] == "true", row["reason"]
        assert row["num_requests"] == str(2 * 4)
        assert row["lossless_share"] == "1.0"
    assert float(rows[1]["acceptance_length"]) > 1.2


def test_prompts_are_equal_across_arms_and_turns_have_history(run):
    """Each of the 4 requests has one hash for all arms; second turns are longer than first ones."""
    records = [json.loads(line) for line in (run[0] / "requests.jsonl").read_text().splitlines()]
    hashes: dict[tuple[str, int], set[str]] = {}
    for record in records:
        hashes.setdefault((record["prompt_id"], record["turn"]), set()).add(record["prompt_sha256"])
    assert len(hashes) == 4
    assert all(len(found) == 1 for found in hashes.values())
    length = {turn: min(r["num_prompt_tokens"] for r in records if r["turn"] == turn) for turn in (0, 1)}
    assert length[1] > length[0] + 20
    assert {record["num_cached_tokens"] for record in records} == {0}


def test_every_sealed_cell_has_one_window_around_its_requests(run):
    """Also in a run that was interrupted; the engine's processes are counted wherever it runs."""
    windows = [json.loads(line) for line in (run[0] / "telemetry.jsonl").read_text().splitlines()]
    by_cell = {json.dumps(window["cell"]): window for window in windows if window["cell"] is not None}
    sealed = [json.loads(line)["cell"] for line in (run[0] / "cells.jsonl").read_text().splitlines()]
    assert sorted(by_cell) == sorted(map(json.dumps, sealed))
    assert len(by_cell) == sum(window["cell"] is not None for window in windows)
    for line in (run[0] / "requests.jsonl").read_text().splitlines():
        request = json.loads(line)
        window = by_cell[json.dumps(request["cell"])]
        assert window["started_ns"] <= request["sent_ns"]
        assert request["finished_ns"] <= window["finished_ns"]
    for window in by_cell.values():
        assert window["processes"]["reason"] is None
        assert window["processes"]["engine_cpu_s"] > 0
        assert window["processes"]["engine_peak_rss_bytes"] > 1e8


def test_the_report_is_the_same_every_time(run):
    """`report` writes the same bytes from the same records."""
    before = (run[0] / "report.md").read_bytes()
    assert main(["report", str(run[0])]) == 0
    assert (run[0] / "report.md").read_bytes() == before
    manifest = json.loads((run[0] / "manifest.json").read_text())
    assert manifest["finished"]
    assert manifest["engines"]["hass"]["draft_class"] == "LlamaForCausalLMEagle"
