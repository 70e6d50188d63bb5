"""Estimates of `plan`: from this host's own runs where there are some, and else with the target's name."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from draftbench.harness.manifest import Manifest
from draftbench.harness.run.history import seen_here
from draftbench.harness.run.plan import estimate
from draftbench.harness.suite import load_suite

PUBLISHED = Path("reports/published/quickstart-cpu")
HOST = Manifest.read(PUBLISHED).host
QUICKSTART, REAL = load_suite(Path("suites/quickstart.yaml")), load_suite(Path("suites/gsm8k.yaml"))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder of runs: the published one, and things that are none."""
    for name in ("manifest.json", "results.csv"):
        (tmp_path / "quickstart-1").mkdir(exist_ok=True)
        shutil.copyfile(PUBLISHED / name, tmp_path / "quickstart-1" / name)
    for name, content in (("broken", "{"), ("other", "[]")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(content)
    return tmp_path


def test_the_same_target_on_the_same_host_tells_its_speed(runs: Path) -> None:
    """The median of vanilla's rows at concurrency 1, 90.5 and 85.4 tokens a second, and where they are."""
    seen = seen_here(QUICKSTART, runs, HOST)
    assert seen is not None
    assert seen.tokens_per_s == pytest.approx(87.97, abs=0.1)
    assert f"(88 tokens/s, as vanilla had here in {runs / 'quickstart-1'})" in str(estimate(QUICKSTART, seen))
    assert (estimate(QUICKSTART, seen).time_s or 0) > (estimate(QUICKSTART).time_s or 0), "which takes 90 tokens/s"


def test_other_hosts_targets_and_unfinished_runs_tell_nothing(runs: Path) -> None:
    """Nor do folders that hold no run."""
    assert seen_here(QUICKSTART, runs, HOST.model_copy(update={"gpu": "NVIDIA H200"})) is None
    assert seen_here(REAL, runs, HOST) is None
    (runs / "quickstart-1" / "results.csv").write_text("arm\nvanilla\n")
    assert seen_here(QUICKSTART, runs, HOST) is None
    assert seen_here(QUICKSTART, runs / "none", HOST) is None


def test_the_newest_run_counts(runs: Path) -> None:
    """It is as the machine is now."""
    later = runs / "tune" / "last"
    shutil.copytree(runs / "quickstart-1", later)
    text = (later / "results.csv").read_text().replace("vanilla,vanilla,dialogue", "vanilla,vanilla,later")
    (later / "results.csv").write_text(text)
    os.utime(runs / "quickstart-1" / "manifest.json", (1, 1))
    seen = seen_here(QUICKSTART, runs, HOST)
    assert seen is not None
    assert seen.folder == later


def test_a_target_that_has_not_run_here_is_named() -> None:
    """The tiny target's speed is not taken for its own."""
    said = str(estimate(REAL))
    assert f"if {REAL.target.model} made 90 tokens/s, as the tiny target has on two CPU cores" in said
    assert "it has not run here yet" in said
    assert "(90 tokens/s, as the tiny target has on two CPU cores)" in str(estimate(QUICKSTART))
