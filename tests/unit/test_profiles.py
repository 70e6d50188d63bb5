"""Acceptance profiles: curves from a file, cut to what an arm drafts; and the file of PRISM's authors."""

from __future__ import annotations

import json
from itertools import accumulate
from operator import mul
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from draftbench import bench
from draftbench.harness.errors import SuiteError
from draftbench.harness.suite import Suite, load_suite
from draftbench.harness.suite.profiles import profile_text, read_profile

PAPER = Path("suites/profiles/prism-llama3-8b.json")
SUITE = """version: 1
name: what-if
target: {model: tiny, dtype: float32}
arms:
  - {name: vanilla, architecture: vanilla}
  - name: prism
    architecture: prism
    checkpoint: tiny/prism
    num_steps: 3
    topk: 2
    num_draft_tokens: 8
    simulated_acceptance: curves.json
workloads:
  - {name: sums, source: synthetic, family: arithmetic, num_prompts: 4}
  - {name: talk, source: synthetic, family: dialogue, num_prompts: 4}
sampling: {temperature: 0, max_tokens: 8, seed: 0}
load: [{concurrency: 1}]
blocks: 1
"""
CURVES: dict[str, dict[str, list[float]]] = {
    "prism": {"sums": [0.9, 0.8, 0.7, 0.6], "talk": [0.5, 0.4, 0.3], "other": [0.1]},
    "hass": {"sums": [0.8, 0.7, 0.6], "talk": [0.4, 0.3, 0.2]},
}


def write(folder: Path, curves: Any = CURVES, text: str = SUITE, **changes: Any) -> Path:
    profile = {"version": 1, "source": "a paper, table 9", "what": "a target", "curves": curves, **changes}
    (folder / "curves.json").write_text(json.dumps(profile))
    path = folder / "suite.yaml"
    path.write_text(text)
    return path


def test_an_arm_gets_its_own_curves_cut_to_its_steps(tmp_path: Path) -> None:
    """By its own name, or behind the #; sets that the suite does not run are left out; the source is recorded."""
    arm = load_suite(write(tmp_path)).arms[1]
    assert arm.simulated_acceptance == {"sums": (0.9, 0.8, 0.7), "talk": (0.5, 0.4, 0.3)}
    assert arm.simulated_from == "curves.json: a paper, table 9"
    suite = load_suite(write(tmp_path, text=SUITE.replace("curves.json", "curves.json#hass")))
    assert suite.arms[1].simulated_acceptance == {"sums": (0.8, 0.7, 0.6), "talk": (0.4, 0.3, 0.2)}
    assert Suite.model_validate_json(suite.model_dump_json()) == suite
    only = load_suite(write(tmp_path, {"theirs": CURVES["hass"]}))
    assert only.arms[1].simulated_acceptance == suite.arms[1].simulated_acceptance


@pytest.mark.parametrize(
    ("curves", "text", "said"),
    [
        (CURVES, SUITE.replace("curves.json", "gone.json"), "gone.json: cannot be read"),
        (CURVES, SUITE.replace("curves.json", "curves.json#pris"), "has no curves of pris; allowed: prism, hass. Did"),
        (CURVES, SUITE.replace("num_steps: 3", "num_steps: 4"), "talk has 3 shares, but num_steps is 4"),
        ({"prism": {"sums": [0.5] * 3}}, SUITE, "has no curve for talk; allowed: sums."),
        ({"prism": {"sums": [1.5] * 3}}, SUITE, "curves.prism.sums.0: Input should be less than or equal to 1"),
        ({"a": CURVES["prism"], "b": CURVES["hass"]}, SUITE, "has no curves of prism; allowed: a, b."),
        ([], SUITE, "curves: Input should be a valid dictionary"),
    ],
)
def test_a_profile_that_does_not_fit_is_told(tmp_path: Path, curves: Any, text: str, said: str) -> None:
    """With the suite's line and the file's place."""
    with pytest.raises(SuiteError) as error:
        load_suite(write(tmp_path, curves, text))
    assert said in str(error.value)
    assert "suite.yaml:12: arms[1].simulated_acceptance" in str(error.value)


def test_a_profile_is_read_as_it_was_written(tmp_path: Path) -> None:
    """What `bench.py profile` writes, a suite reads."""
    path = tmp_path / "profile.json"
    path.write_text(profile_text("a run", "a tree", CURVES))
    found = read_profile(path)
    assert {draft: {name: list(c) for name, c in sets.items()} for draft, sets in found.curves.items()} == CURVES
    assert (found.source, found.what) == ("a run", "a tree")


@pytest.mark.parametrize(
    ("draft", "printed"), [("eagle-3-t0", 5.45325), ("prism-t0", 5.68), ("eagle-3-t1", 5.11659), ("prism-t1", 5.28)]
)
def test_the_artifacts_curves_give_the_acceptance_lengths_that_it_plots(draft: str, printed: float) -> None:
    """Means over the six sets, prep_figure1456; rounds cut short by an output's end make the small difference."""
    curves = read_profile(PAPER).curves[draft]
    assert len(curves) == 6
    assert {len(curve) for curve in curves.values()} == {6}
    lengths = [1 + sum(accumulate(curve, mul)) for curve in curves.values()]
    assert fmean(lengths) == pytest.approx(printed, rel=0.02)


def test_a_run_is_written_as_a_profile_that_a_suite_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`bench.py profile RUN`: every draft's curves by workload, with the run's name and hash as their source."""
    out = tmp_path / "curves.json"
    assert bench.main(["profile", "reports/published/quickstart-cpu", "--out", str(out)]) == 0
    assert f"profile: {out}" in capsys.readouterr().out.replace("\n", "")
    found = read_profile(out)
    assert found.source.startswith("run quickstart, records ")
    assert "target tiny, float32, T=0" in found.what
    rows = json.loads(Path("reports/published/quickstart-cpu/results.json").read_text())
    row = next(row for row in rows if row["arm"] == "prism" and row["workload"] == "dialogue")
    assert list(found.curves["prism"]["dialogue"]) == pytest.approx(row["detail"]["conditional_acceptance"], abs=1e-5)
    (tmp_path / "suite.yaml").write_text(
        SUITE.replace("curves.json", "curves.json#prism")
        .replace("name: sums", "name: arithmetic")
        .replace("name: talk", "name: dialogue")
    )
    assert load_suite(tmp_path / "suite.yaml").arms[1].simulated_from == f"curves.json#prism: {found.source}"


def test_a_run_without_measured_drafts_gives_no_profile(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Drawn acceptance is none."""
    out = tmp_path / "curves.json"
    assert bench.main(["profile", "reports/published/prism-round-h200", "--out", str(out)]) == 2
    assert "measured no draft's acceptance" in capsys.readouterr().err.replace("\n", " ")
    assert not out.exists()
