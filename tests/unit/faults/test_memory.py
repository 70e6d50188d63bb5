"""Memory of a long run: what was measured lies on the disk, and the harness does not grow with it."""

from __future__ import annotations

import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from draftbench.harness.host.provenance import suite_sha256
from draftbench.harness.load.null_server import null_engine
from draftbench.harness.manifest import Manifest
from draftbench.harness.records import RequestRecord
from draftbench.harness.store import RunStore
from draftbench.reports.rows import rows_of_run
from tests.fakes.known import suite_object

SUITE = """\
version: 1
name: long
target: {{model: tiny, dtype: float32}}
arms:
  - {{name: server, endpoint: "{url}", api: sglang}}
workloads:
  - {{name: arithmetic, source: synthetic, family: arithmetic, num_prompts: {prompts}}}
sampling: {{temperature: 0, max_tokens: 30, seed: 0}}
load: [{{concurrency: 8}}]
blocks: {blocks}
warmup_requests: 0
"""
NUM_REQUESTS, MOST_BYTES = 10_000, 50_000_000


@pytest.mark.slow
def test_ten_thousand_requests_fit_into_fifty_megabytes(tmp_path: Path) -> None:
    """From the first request to the end, report and figures included: the largest memory of bench.py over its start."""
    requests = tmp_path / "run" / "requests.jsonl"
    with null_engine() as engine:
        (tmp_path / "long.yaml").write_text(SUITE.format(url=engine.url, prompts=500, blocks=NUM_REQUESTS // 500))
        run = subprocess.Popen(
            [sys.executable, "bench.py", str(tmp_path / "long.yaml"), "--out", str(tmp_path / "run")],
            stdout=(tmp_path / "out").open("w"), stderr=subprocess.STDOUT,
        )  # fmt: skip
        sizes = []
        while run.poll() is None:
            if requests.exists():
                sizes.append(resident_bytes(run.pid))
            time.sleep(0.05)
    said = (tmp_path / "out").read_text()
    assert (tmp_path / "run" / "report.md").exists(), said
    with requests.open() as file:
        assert sum(1 for _ in file) == NUM_REQUESTS, said
    print(f"{(max(sizes) - sizes[0]) / 1e6:.1f} MB over a start of {sizes[0] / 1e6:.1f} MB")
    assert max(sizes) - sizes[0] < MOST_BYTES


@pytest.fixture
def long_run(tmp_path: Path, request_record: Callable[..., RequestRecord], cell_record: Callable[..., Any]) -> Path:
    """Two arms at eight load points: 160 requests of 100 rounds."""
    arms = [{"name": "vanilla", "architecture": "vanilla"}, {"name": "server", "endpoint": "http://127.0.0.1:1"}]
    suite = suite_object(arms, load=[{"concurrency": point} for point in range(1, 9)], blocks=1)
    manifest = {"version": 1, "suite": suite, "suite_sha256": suite_sha256(suite), "finished": True}
    store = RunStore.create(tmp_path / "run", Manifest.of(manifest))
    chunks = ((10, 1), *((10 + 3 * index, 4) for index in range(1, 101)))
    record = request_record(chunks, (3,) * 100)
    for point in range(1, 9):
        for arm in ("vanilla", "server"):
            cell = record.cell.model_copy(update={"arm": arm, "concurrency": point})
            store.append(cell_record(record, cell=cell, num_requests=10))
            for number in range(10):
                store.append(record.model_copy(update={"cell": cell, "prompt_id": f"p{number}"}))
    return store.folder


def peak_bytes(call: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_rows_are_made_from_two_arms_at_one_point_at_a_time(long_run: Path) -> None:
    """An eighth of this run's requests, and what is worked out from them."""
    whole = peak_bytes(lambda: RunStore(long_run).read(RequestRecord))
    manifest = Manifest.read(long_run)
    rows = rows_of_run(long_run, manifest)
    assert [row.num_requests for row in rows] == [10] * 16
    assert peak_bytes(lambda: rows_of_run(long_run, manifest)) < whole / 3


def test_a_run_is_resumed_without_its_requests_in_memory(long_run: Path) -> None:
    """Also where a damaged line is taken out of their file, and a cell set aside."""
    whole = peak_bytes(lambda: RunStore(long_run).read(RequestRecord))
    lines = (long_run / "requests.jsonl").read_bytes().splitlines(keepends=True)
    (long_run / "requests.jsonl").write_bytes(b"".join([*lines[:50], b"damaged\n", *lines[51:]]))
    sha256 = Manifest.read(long_run).suite_sha256
    assert peak_bytes(lambda: RunStore.reopen(long_run, sha256)) < whole / 10
    assert len(RunStore(long_run).read(RequestRecord)) == 150


def resident_bytes(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/statm").read_text()
    except OSError:
        return 0
    return int(text.split()[1]) * 4096 if text else 0
