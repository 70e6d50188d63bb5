"""`make gpu-dry-run`: every step of the GPU script on the CPU, in one go; the longest test of all."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import psutil
import pytest

from benchmarks.gpu import WEIGHTS
from benchmarks.gpu_steps import STEPS
from draftbench.harness.records import CellRecord

pytestmark = pytest.mark.slow


def test_every_step_runs_on_the_cpu_and_leaves_its_results(tmp_path: Path):
    """All steps are done; times of rounds, marked what-if rows and a trained draft are there; no process is left."""
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    problems = [{"question": f"What is {n} + 1?", "answer": f"It is {n + 1}.\n#### {n + 1}"} for n in range(120)]
    (data / "gsm8k_train.jsonl").write_text("".join(json.dumps(problem) + "\n" for problem in problems))
    command = [sys.executable, "-m", "benchmarks.gpu", "--dry-run", "--out", str(out), "--data", str(data)]
    command += ["--minutes", "60"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3700)
    assert done.returncode == 0, done.stdout + done.stderr
    states = {name: found["state"] for name, found in json.loads((out / "state.json").read_text()).items()}
    assert states == {step.name: "done" for step in STEPS}
    rounds = (out / "rounds" / "rounds.md").read_text()
    assert rounds.count("| prism-2") == 6  # a ratio, a split and a cost at each batch size
    paper = (out / "paper" / "paper.md").read_text()
    assert paper.count("| mt_bench") == 3  # methods
    what_if = (out / "what-if" / "run" / "report.md").read_text()
    assert "eagle (simulated acceptance)" in what_if
    assert "not checked (simulated)" in what_if
    assert "random weights" in what_if
    assert (out / "trained" / "drafts" / "prism-s0" / "training.json").exists()
    assert (out / "trained" / "quickstart" / "report.md").exists()
    with tarfile.open(out / "kept.tgz") as kept:
        names = kept.getnames()
    assert {"state.json", "rounds/rounds.md", "trained/quickstart/report.md"} <= set(names)
    assert not [name for name in names if name.endswith(WEIGHTS)]
    # Equal draws for all arms: the same blocks accept the same.
    accepted: dict[tuple[int, int], set[int]] = {}
    for line in (out / "rounds" / "run" / "cells.jsonl").read_text().splitlines():
        sealed = CellRecord.model_validate_json(line)
        if sealed.cell.arm == "vanilla":
            continue
        assert sealed.phases is not None
        accepted.setdefault((sealed.cell.block, sealed.cell.concurrency), set()).add(sealed.phases.num_rounds)
    assert all(len(counts) == 1 for (_, batch), counts in accepted.items() if batch == 1)
    left = [each for each in psutil.process_iter(["cmdline"]) if str(out) in " ".join(each.info["cmdline"] or [])]
    assert not left
