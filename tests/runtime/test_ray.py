"""Launches over a Ray cluster of two nodes on the loopback interface, on the real engine."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("ray")
from benchmarks.ray_nodes import Nodes, nodes

pytestmark = pytest.mark.slow
SUITE = """\
version: 1
name: small
target: {model: tiny, dtype: float32}
arms:
  - {name: vanilla, architecture: vanilla}
  - {name: hass, architecture: eagle, checkpoint: tiny/hass, num_steps: 3, topk: 2, num_draft_tokens: 6}
workloads:
  - {name: dialogue, source: synthetic, family: dialogue, num_prompts: 3}
sampling: {temperature: 0, max_tokens: 32, seed: 0}
load: [{concurrency: 1}]
blocks: 2
launches: 4
"""
CELLS = 4 * 2 * 2
LAUNCHES = "draftbench.harness.cluster.device_run"


class Bench:
    """One suite, run on whatever cluster."""

    def __init__(self, folder: Path) -> None:
        self.suite, self.out = folder / "small.yaml", folder / "run"
        self.suite.write_text(SUITE)
        self.begun: list[subprocess.Popen[str]] = []

    def begin(self, on: str, environment: dict[str, str] | None, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "bench.py", str(self.suite), "--on", on, "--cores", "1", "--out", str(self.out)]
        command += words
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.begun.append(process)
        return process

    def on(self, cluster: Nodes, *words: str) -> subprocess.Popen[str]:
        return self.begin(cluster.address, cluster.environment, *words)

    def lines(self, name: str) -> list[dict[str, Any]]:
        path = self.out / name
        return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []

    def wait_for(self, what: Callable[[], object], process: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + 300
        while not what():
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def check_whole(self) -> None:
        """Every cell once, with its requests; each launch on a device; `verify` passes."""
        cells = [json.dumps(each["cell"]) for each in self.lines("cells.jsonl")]
        assert len(cells) == len(set(cells)) == CELLS
        assert [each["error"] for each in self.lines("cells.jsonl")] == [None] * CELLS
        assert len(self.lines("requests.jsonl")) == CELLS * 3
        manifest = json.loads((self.out / "manifest.json").read_text())
        assert manifest["finished"]
        assert {launch: device["cores"] for launch, device in manifest["devices"].items()} == dict.fromkeys("0123", 1)
        assert set(manifest["engines"]) == {"vanilla", "hass"}
        found = subprocess.run([sys.executable, "bench.py", "verify", str(self.out)], capture_output=True, text=True)
        assert found.returncode == 0, found.stdout
        rows = json.loads((self.out / "results.json").read_text())
        assert [(row["arm"], row["valid"], row["lossless_share"]) for row in rows] == [
            ("vanilla", True, 1.0),
            ("hass", True, 1.0),
        ]
        split = [each for row in rows for each in row["detail"]["findings"] if each["gate"] == "split block"]
        assert not split


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    found = Bench(tmp_path)
    yield found
    for process in found.begun:
        if process.poll() is None:
            process.kill()
            process.wait()


def below(pids: list[int]) -> list[psutil.Process]:
    """Processes that these have started, and theirs."""
    return [child for pid in pids for child in psutil.Process(pid).children(recursive=True)]


def serving(cluster: Nodes) -> list[psutil.Process]:
    """The processes of launches on a cluster's nodes."""
    return [
        process
        for process in below([start.pid for start in cluster.starts])
        if any(LAUNCHES in word for word in process.cmdline())
    ]


def test_two_nodes_run_a_suite_and_a_killed_worker_costs_its_launch_alone(bench):
    """SIGKILL of one node's Ray worker in the middle of a launch: its engines end, the launch is made again whole."""
    with nodes(2) as cluster:
        process = bench.on(cluster)
        bench.wait_for(lambda: {each["cell"]["launch"] for each in bench.lines("requests.jsonl")} >= {0, 1}, process)
        working = serving(cluster)
        assert len(working) == 2
        worker = working[0].parent()
        assert worker is not None
        engines = below([worker.pid])
        assert len(engines) > 3
        worker.send_signal(signal.SIGKILL)
        _, alive = psutil.wait_procs(engines, timeout=30)
        assert not alive, "the launch's process and its engines end with the worker"
        told = process.communicate(timeout=400)[0]
        assert process.returncode == 0, told
        assert "is lost" in told
        bench.check_whole()
        assert serving(cluster) == []
        everything = [start.pid for start in cluster.starts]
        started = below(everything)
    _, alive = psutil.wait_procs(started, timeout=30)
    assert not alive, "no process of Ray is left"


def test_a_cluster_that_is_gone_ends_the_run_and_another_one_goes_on(bench):
    """The head's services are killed in the middle: nothing is lost or left, launches that were whole stay."""
    with nodes(2, RAY_gcs_rpc_server_reconnect_timeout_s="5") as cluster:
        process = bench.on(cluster)
        bench.wait_for(lambda: len(bench.lines("cells.jsonl")) >= 5, process)
        started = [psutil.Process(process.pid), *below([start.pid for start in cluster.starts])]
        (gcs,) = [each for each in started if each.name() == "gcs_server"]
        gcs.kill()
        told = process.communicate(timeout=200)[0]
        assert process.returncode not in (0, None), told
    _, alive = psutil.wait_procs(started, timeout=60)
    assert not alive
    before = bench.lines("requests.jsonl")
    assert before
    sealed = [each["cell"]["launch"] for each in bench.lines("cells.jsonl")]
    whole = {launch for launch in sealed if sealed.count(launch) == CELLS // 4}
    with nodes(2) as cluster:
        process = bench.on(cluster, "--resume")
        told = process.communicate(timeout=400)[0]
        assert process.returncode == 0, told
    bench.check_whole()
    after = {each["request_id"]: each["sent_ns"] for each in bench.lines("requests.jsonl")}
    for each in before:
        if each["cell"]["launch"] in whole:
            assert after[each["request_id"]] == each["sent_ns"]


def test_a_command_that_is_killed_leaves_no_process_and_goes_on(bench):
    """SIGKILL of bench.py, whose cluster is its own."""
    process = bench.begin("ray", None)
    bench.wait_for(lambda: bench.lines("cells.jsonl"), process)
    started = below([process.pid])
    assert len(started) > 5
    ours = [each for each in started if not each.name().endswith("Agent")]
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(ours, timeout=30)
    assert not alive
    _, alive = psutil.wait_procs(started, timeout=150)
    assert not alive, "a node's two agents look for its head for a minute"
    process = bench.begin("ray", None, "--resume")
    told = process.communicate(timeout=400)[0]
    assert process.returncode == 0, told
    bench.check_whole()
