"""Suites that are made to hang or to fill memory: each is told with its line, soon, and in little memory."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from draftbench.harness.errors import SuiteError
from draftbench.harness.run.plan import estimate, plan_cells
from draftbench.harness.suite import load_suite

GOOD = """\
version: 1
name: good
target: {model: tiny, dtype: float32}
arms:
  - {name: vanilla, architecture: vanilla}
workloads:
  - {name: arithmetic, source: synthetic, family: arithmetic, num_prompts: 4}
sampling: {temperature: 0, max_tokens: 64, seed: 0}
load: [{concurrency: 1}]
blocks: 2
"""
WITHIN_S, WITHIN_BYTES = 2.0, 100_000_000
ALIASES = "".join(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]\n" for n in range(1, 12))
DEEP = "options: " + "[" * 3000 + "]" * 3000 + "\n"
BLOCKS_DEEP = "x:\n" + "".join("  " * depth + "- \n" for depth in range(1, 400))


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("blocks: 2\n", "blocks: 2\na1: &a1 [x, x]\n" + ALIASES, 11, "more than 20,000 values"),
        ("blocks: 2\n", "blocks: 2\n" + DEEP, 11, "40 lists and mappings in each other"),
        ("blocks: 2\n", "blocks: 2\n" + BLOCKS_DEEP, 51, "40 lists and mappings"),
        ("blocks: 2\n", "blocks: 2\nx: &x {y: *x}\n", 11, "40 lists and mappings"),
        ("blocks: 2\n", "blocks: 2\nx: [" + "1, " * 60_000 + "]\n", 11, "more than 20,000 values"),
        ("blocks: 2\n", "blocks: 2\n" + "".join(f"{'k' * 400}{n}: 1\n" for n in range(2000)), 11, "is not known here"),
        ("num_prompts: 4", "num_prompts: 1000000000", 7, "num_prompts is 1000000000"),
        ("blocks: 2", "blocks: 1000000000", 10, "blocks is 1000000000; a number from 1 to 1000, or auto"),
        ("blocks: 2", "blocks: 2\nlaunches: 1000000000", 11, "launches is 1000000000"),
        ("blocks: 2", "blocks: 1000\nlaunches: 1000", 1, "1,000,000 cells; allowed: 10,000"),
        ("num_prompts: 4}", "num_prompts: 100000}", 1, None),
        ("num_prompts: 4}", "num_prompts: 100000}\nlaunches: 100", 1, "20,000,000 requests; allowed: 2,000,000"),
        ("seed: 0", "seed: " + "9" * 5000, 8, "a number of 5,000 characters"),
        ("seed: 0", "seed: " + "9" * 30, 8, "sampling.seed is 9999"),
        ("temperature: 0", "temperature: .inf", 8, "'.inf' is no finite number"),
        ("temperature: 0", "temperature: .nan", 8, "'.nan' is no finite number"),
        ("temperature: 0", "temperature: 1e400", 8, "temperature is '1e400'"),
        ("temperature: 0", "temperature: 1.0e+400", 8, "is no finite number"),
        ("{concurrency: 1}", "{rate: .inf}", 9, "is no finite number"),
        ("{concurrency: 1}", "{rate: 1.0e+30}", 9, "load[0].rate is 1e+30"),
        ("{concurrency: 1}", "{concurrency: 1000000000}", 9, "concurrency is 1000000000"),
        ("blocks: 2", "blocks: 2\nwarmup_requests: 1000000000", 11, "warmup_requests is 1000000000"),
        ("model: tiny", "model: " + "a/" * 3000, 3, "a path has at most 1000 characters"),
        ("model: tiny", "model: ./" + "a" * 300, 3, "each name in it 255 bytes"),
        ("model: tiny", 'model: "a\\0b"', 3, "no control characters"),
        ("blocks: 2", "blocks: 2\nrendering: {template: " + "t" * 6000 + "}", 11, "a path has at most 1000"),
        ("blocks: 2", "blocks: 2\nfairness: {corpus: " + "c" * 6000 + "}", 11, "a path has at most 1000"),
        ("source: synthetic, family: arithmetic", "source: gsm8k, path: " + "p" * 6000, 7, "a path has at most 1000"),
        ("{concurrency: 1}", "{trace: " + "t" * 6000 + "}", 9, "a path has at most 1000"),
    ],
)  # fmt: skip
def test_a_suite_out_of_bounds_is_told_soon(tmp_path: Path, old: str, new: str, line: int, said: str | None) -> None:
    """With its line and what is allowed."""
    path = tmp_path / "suite.yaml"
    path.write_text(GOOD.replace(old, new, 1))
    began_s, began_bytes = time.process_time(), peak_bytes()
    if said is None:
        load_suite(path)
    else:
        with pytest.raises(SuiteError) as caught:
            load_suite(path)
        text = str(caught.value)
        assert said in text
        assert f"{path}:{line}: " in text
        assert len(text) < 20_000
    assert time.process_time() - began_s < WITHIN_S
    assert peak_bytes() - began_bytes < WITHIN_BYTES


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    """50 MB of comments."""
    path = tmp_path / "suite.yaml"
    path.write_text(GOOD + "# comment\n" * 5_000_000)
    began_s, began_bytes = time.process_time(), peak_bytes()
    with pytest.raises(SuiteError, match=r"suite\.yaml has \d+ bytes; at most 1000000 are read"):
        load_suite(path)
    assert time.process_time() - began_s < WITHIN_S
    assert peak_bytes() - began_bytes < WITHIN_BYTES


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_only_files_are_suites(tmp_path: Path, kind: str) -> None:
    """A pipe that nobody writes to, a device without end, a folder."""
    path = tmp_path / "suite.yaml"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(SuiteError, match="is not a regular file"):
        load_suite(path)


def test_anchors_of_ordinary_use_stay(tmp_path: Path) -> None:
    """An arm's tree, named once and used again."""
    path = tmp_path / "suite.yaml"
    path.write_text(
        GOOD.replace("[{concurrency: 1}]", "[{concurrency: &four 4}, {concurrency: 8, num_prompts: *four}]")
    )
    assert load_suite(path).load[1].num_prompts == 4


def test_the_largest_plan_is_made_soon(tmp_path: Path) -> None:
    """Of as many cells and requests as a suite may have."""
    path = tmp_path / "suite.yaml"
    text = GOOD.replace("blocks: 2", "blocks: 1000\nlaunches: 10").replace("num_prompts: 4", "num_prompts: 200")
    path.write_text(text.replace("{concurrency: 1}", "{rate: 2.0, burst: 3}"))
    began_s = time.process_time()
    suite = load_suite(path)
    assert len(plan_cells(suite)) == estimate(suite).num_cells == 10_000
    assert time.process_time() - began_s < WITHIN_S


def test_the_command_answers_soon(tmp_path: Path) -> None:
    """`plan` of 10,000 cells, imports and all: what only a run or a download needs is not imported."""
    path = tmp_path / "suite.yaml"
    arm = "  - {name: hass, architecture: eagle, checkpoint: tiny/hass, num_steps: 2, topk: 1, num_draft_tokens: 3}\n"
    path.write_text(GOOD.replace("workloads:", f"{arm}workloads:").replace("blocks: 2", "blocks: 500\nlaunches: 10"))
    code = (
        "import sys, time; from draftbench import bench; code = bench.main(['plan', sys.argv[1]]);"
        "print(code, time.process_time(), {'aiohttp', 'huggingface_hub', 'numpy', 'scipy'} & set(sys.modules))"
    )
    told = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True).stdout.splitlines()
    exit_code, taken_s, imported = told[-1].split(maxsplit=2)
    assert (exit_code, imported) == ("0", "set()")
    assert sum(line.startswith("launch ") for line in told) == 10_000
    assert float(taken_s) < WITHIN_S
