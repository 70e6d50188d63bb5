"""Memory of a long run: what was measured lies on the disk, and the harness does not grow with it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from draftbench.harness.load.null_server import null_engine

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
    """From the first request to the last one's score: the largest memory of bench.py's process over its start.

    The report then reads all records and draws: some 130 MB more for these requests.
    """
    requests, manifest = tmp_path / "run" / "requests.jsonl", tmp_path / "run" / "manifest.json"
    with null_engine() as engine:
        (tmp_path / "long.yaml").write_text(SUITE.format(url=engine.url, prompts=500, blocks=NUM_REQUESTS // 500))
        run = subprocess.Popen(
            [sys.executable, "bench.py", str(tmp_path / "long.yaml"), "--out", str(tmp_path / "run")],
            stdout=(tmp_path / "out").open("w"), stderr=subprocess.STDOUT,
        )  # fmt: skip
        sizes = []
        while run.poll() is None:
            if requests.exists() and '"finished": true' not in manifest.read_text():
                sizes.append(resident_bytes(run.pid))
            time.sleep(0.05)
    said = (tmp_path / "out").read_text()
    assert (tmp_path / "run" / "report.md").exists(), said
    with requests.open() as file:
        assert sum(1 for _ in file) == NUM_REQUESTS, said
    print(f"{(max(sizes) - sizes[0]) / 1e6:.1f} MB over a start of {sizes[0] / 1e6:.1f} MB")
    assert max(sizes) - sizes[0] < MOST_BYTES


def resident_bytes(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/statm").read_text()
    except OSError:
        return 0
    return int(text.split()[1]) * 4096 if text else 0
