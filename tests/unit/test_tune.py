"""Tuning trees: what is tried, on which prompts, what is chosen, and the suite that comes of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from draftbench import bench
from draftbench.drafts.api import Tree, discover, stepwise_tree
from draftbench.harness.commands import tune as tune_command
from draftbench.harness.errors import EngineError, SuiteError, WorkloadError
from draftbench.harness.metrics.row import Row
from draftbench.harness.models.fairness import unfair
from draftbench.harness.records import CellKey
from draftbench.harness.runtime.fleet import find_fleet
from draftbench.harness.suite import Suite, Tuning, load_suite
from draftbench.harness.tune.search import Tried, candidates, finalists, prompts_sha256, stage_suite, tune, tuned_suite
from draftbench.harness.tune.trees import spread_trees
from draftbench.harness.workloads.conversations import load_workload
from tests.fakes.study import FakeArm, FakeRun

SUITE = """\
version: 1
name: try
target: {model: tiny, dtype: float32}
arms:
  - {name: vanilla, architecture: vanilla}
  - {name: hass, architecture: eagle, checkpoint: tiny/hass, num_steps: 3, topk: 2, num_draft_tokens: 6}
  - {name: heads, architecture: medusa, checkpoint: tiny/medusa, num_steps: 4, topk: 4, num_draft_tokens: 16}
workloads:
  - {name: sums, source: synthetic, family: arithmetic, num_prompts: 6}
  - {name: own, source: prompts, path: own.txt, num_prompts: 5}
sampling: {temperature: 0, max_tokens: 32, seed: 0}
load: [{concurrency: 1}]
blocks: 2
launches: 3
tune: {configurations: 4, prompts: 4, blocks: 2}
"""
MARK = Tuning(configurations=4, prompts_sha256="ab", run="tune-try-1")


@pytest.fixture
def no_runs(monkeypatch):
    """A test that would start an engine fails instead."""

    def run_suite(*_: object) -> None:
        raise AssertionError("a run was started")

    monkeypatch.setattr(tune_command, "run_suite", run_suite)


def suite(folder: Path, text: str = SUITE, num_prompts: int = 12) -> Suite:
    (folder / "own.txt").write_text("".join(f"Question {n}?\n" for n in range(num_prompts)))
    (folder / "try.yaml").write_text(text)
    return load_suite(folder / "try.yaml")


def fits(tree: Tree) -> bool:
    return tree.num_draft_tokens <= stepwise_tree(tree.num_steps, tree.topk)


@pytest.mark.parametrize("count", [2, 6, 12, 24])
def test_trees_are_spread_and_begin_with_the_drafts_own(count):
    """All different, all allowed; more of them begin with the fewer, so a larger budget loses nothing."""
    own = Tree(5, 4, 16)
    trees = spread_trees(own, count, fits, stepwise_tree)
    assert trees[0] == own
    assert len(set(trees)) == count
    assert all(map(fits, trees))
    assert spread_trees(own, count + 1, fits, stepwise_tree)[:count] == trees


def test_nine_trees_hold_shallow_deep_narrow_wide_small_and_large_ones():
    """The space is covered, not a corner of it."""
    trees = spread_trees(Tree(5, 4, 16), 9, fits, stepwise_tree)
    assert {tree.topk for tree in trees} == {1, 2, 4, 8}
    assert min(tree.num_steps for tree in trees) == 1
    assert max(tree.num_steps for tree in trees) == 8
    assert max(tree.num_draft_tokens for tree in trees) > 40


def test_a_draft_with_too_few_trees_is_refused():
    """Every draft has to get the same number of them."""
    with pytest.raises(SuiteError, match=r"allow 1 of the trees tried, tune.configurations is 4"):
        spread_trees(Tree(3, 2, 6), 4, lambda tree: tree == Tree(3, 2, 6), stepwise_tree)


def test_every_draft_gets_as_many_trees_as_its_checkpoint_allows_them(tmp_path):
    """Four heads draft four steps, a map of steps bounds PRISM; a suite may have every tree that is tried."""
    more = """\
  - {name: prism, architecture: prism, checkpoint: tiny/prism, num_steps: 2, topk: 2, num_draft_tokens: 6,
     options: {step_to_module: [0, 1, 1]}}
  - {name: trie, architecture: ngram, num_steps: 4, topk: 2, num_draft_tokens: 8}
workloads:
"""
    found = suite(tmp_path, SUITE.replace("workloads:\n", more))
    tried = candidates(found, find_fleet(found, discover(), tmp_path, tmp_path, False))
    depths = {arm: max(each.tree.num_steps for each in tried if each.arm == arm) for arm in ("hass", "heads", "prism")}
    assert depths["heads"] <= 4
    assert depths["prism"] <= 3
    assert depths["hass"] > 4
    assert [sum(each.arm == arm for each in tried) for arm in ("hass", "heads", "prism", "trie")] == [4] * 4
    stage = stage_suite(found, tried, "first", 1)
    assert len(stage.arms) == 1 + 16
    (tmp_path / "stage.json").write_text(stage.model_dump_json(exclude_unset=True))
    assert load_suite(tmp_path / "stage.json").arms == stage.arms


def tried_trees() -> tuple[Tried, ...]:
    trees = [Tree(3, 2, 6), Tree(1, 1, 2), Tree(2, 1, 3), Tree(4, 1, 5)]
    return tuple(Tried(arm, f"{arm}.{n}", tree, n == 0) for arm in ("hass", "heads") for n, tree in enumerate(trees))


CELL = CellKey(launch=0, block=0, arm="a", workload="w", concurrency=1)
BLANK = FakeRun([FakeArm("a", 10.0)], [CELL]).rows()["a"]


class Engines:
    """Gives every tree of a stage the same rows, with the speedups of the stage; None is an invalid row."""

    def __init__(self, *stages: dict[str, float | None]) -> None:
        self.stages, self.suites = list(stages), []

    def __call__(self, stage: Suite, folder: str) -> Sequence[Row]:
        self.suites.append(stage)
        known = self.stages[len(self.suites) - 1]
        assert stage.name == f"try-tune-{folder}"
        return [
            replace(
                BLANK, arm=arm.name, workload=workload.name, concurrency=1, speedup=known.get(arm.name, 1.0),
                valid=known.get(arm.name, 1.0) is not None,
            )
            for arm in stage.arms
            for workload in stage.workloads
        ]  # fmt: skip


def test_the_second_stage_decides_and_each_draft_gets_as_many_cells(tmp_path):
    """One block for all, then each own tree and its best other in more blocks; one launch, other prompts."""
    first = {"hass.0": 1.1, "hass.1": 1.2, "hass.2": 1.9, "heads.0": 1.0, "heads.3": 1.3, "heads.1": None}
    second = {"hass.0": 1.1, "hass.2": 1.5, "heads.0": 1.4, "heads.3": 1.2}
    engines = Engines(first, second)
    trees, tried = tune(suite(tmp_path), tried_trees(), engines)
    assert [arm.name for arm in engines.suites[1].arms] == ["vanilla", "hass.0", "hass.2", "heads.0", "heads.3"]
    assert [(stage.blocks, stage.launches) for stage in engines.suites] == [(1, 1), (2, 1)]
    assert all(workload.tune_prompts == 4 for stage in engines.suites for workload in stage.workloads)
    assert trees == {"hass": Tree(2, 1, 3), "heads": Tree(3, 2, 6)}
    assert [(each.first, each.last) for each in tried if each.name in ("hass.2", "heads.1")] == [
        (pytest.approx(1.9), pytest.approx(1.5)),
        (None, None),
    ]


def test_an_equal_tree_does_not_take_the_own_ones_place(tmp_path):
    """And a draft without a valid row is not tuned."""
    nothing = dict.fromkeys((f"heads.{n}" for n in range(4)), None)
    trees, _ = tune(suite(tmp_path), tried_trees(), Engines(nothing, nothing))
    assert trees == {"hass": Tree(3, 2, 6)}


def test_a_stage_without_a_valid_speedup_ends_there(tmp_path):
    """As where vanilla's own rows are invalid: nothing is written, and the report is named."""
    nothing = {each.name: None for each in tried_trees()}
    with pytest.raises(EngineError, match="no tree has a valid speedup in the first stage; its report"):
        tune(suite(tmp_path), tried_trees(), Engines(nothing))


def test_a_third_of_the_trees_goes_on():
    """Nine trees: the own one and two others."""
    nine = [Tried("a", f"a.{n}", Tree(1, 1, 2), n == 4, 1 + n / 10) for n in range(9)]
    assert [each.name for each in finalists(nine, 3)] == ["a.4", "a.8", "a.7"]


def test_two_trees_need_no_first_stage(tmp_path):
    """Nothing would be left out after it."""
    engines = Engines({"hass.0": 1.1, "hass.1": 1.2})
    two = suite(tmp_path, SUITE.replace("configurations: 4", "configurations: 2"))
    trees, _ = tune(two, [each for each in tried_trees() if each.name in ("hass.0", "hass.1")], engines)
    assert [stage.name for stage in engines.suites] == ["try-tune-last"]
    assert trees == {"hass": Tree(1, 1, 2)}


def test_prompts_to_tune_on_are_none_of_the_tests(tmp_path):
    """Neither of a file nor of a generator; the test's stay what they are."""
    found = suite(tmp_path)
    for workload in found.workloads:
        tested = load_workload(workload, 0)
        other = load_workload(workload.model_copy(update={"tune_prompts": 4}), 0)
        assert len(other) == 4
        assert not {c.turns for c in tested} & {c.turns for c in other}
        assert not {c.prompt_id for c in tested} & {c.prompt_id for c in other}
    assert len(prompts_sha256(found)) == 64


def test_a_source_without_further_prompts_is_refused(tmp_path):
    """With what it has and what would help; a text that comes twice is not a further prompt."""
    with pytest.raises(WorkloadError, match=r"workload own: it has 7 prompts and 5 are the test's; 2 are left"):
        prompts_sha256(suite(tmp_path, num_prompts=7))
    found = suite(tmp_path, SUITE.replace(", num_prompts: 5", ""))
    (tmp_path / "own.txt").write_text("Question?\n" * 9)
    with pytest.raises(WorkloadError, match="9 are the test's; 0 are left to tune on, 4 are asked for"):
        prompts_sha256(found)


def test_a_prompt_that_another_workload_tests_is_refused(tmp_path):
    """Two workloads of one source that choose differently share prompts."""
    more = "  - {name: few, source: synthetic, family: arithmetic, num_prompts: 2}\nsampling"
    with pytest.raises(SuiteError, match="workload few: arithmetic-2, a prompt to tune on, is one that workload sums"):
        prompts_sha256(suite(tmp_path, SUITE.replace("sampling", more)))


def test_the_tuned_suite_has_default_and_tuned_rows(tmp_path):
    """A draft whose own tree was the fastest is only marked; all of them are tuned alike."""
    suite(tmp_path)
    out = tmp_path / "try-tuned.yaml"
    out.write_text(
        tuned_suite(SUITE, {"hass": Tree(5, 1, 6), "heads": Tree(4, 4, 16)}, MARK, tmp_path / "try.yaml", out)
    )
    found = load_suite(out)
    assert found.name == "try-tuned"
    assert [(arm.name, arm.tuning) for arm in found.arms] == [
        ("vanilla", None), ("hass", None), ("hass-tuned", MARK), ("heads", MARK)
    ]  # fmt: skip
    assert found.arms[2].tree == Tree(5, 1, 6)
    assert found.arms[2].checkpoint == "tiny/hass"
    assert (found.launches, found.blocks) == (3, 2)
    required = found.model_copy(update={"fairness": found.fairness.model_copy(update={"require": ("tuning",)})})
    assert unfair(required, {}) == []


def test_a_tuned_suite_elsewhere_finds_the_same_files(tmp_path):
    """Paths are written relative to where it lies."""
    suite(tmp_path)
    (tmp_path / "below").mkdir()
    out = tmp_path / "below" / "t.yaml"
    out.write_text(tuned_suite(SUITE, {}, MARK, tmp_path / "try.yaml", out))
    assert yaml.safe_load(out.read_text())["workloads"][1]["path"] == "../own.txt"
    assert yaml.safe_load(out.read_text())["arms"][1]["checkpoint"] == "tiny/hass"
    assert load_suite(out)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  - {name: vanilla, architecture: vanilla}\n", "", "add an arm with architecture vanilla"),
        ("{concurrency: 1}", "{rate: 2.0}", "in an open loop the arrivals set the throughput"),
        ("name: heads", "name: hass-tuned", "it has an arm hass-tuned"),
        ("num_draft_tokens: 6}", f"num_draft_tokens: 6, tuning: {json.dumps(MARK.model_dump())}}}", "is tuned already"),
        ("topk: 4, num_draft_tokens: 16", "topk: 4, num_draft_tokens: 5, options: {choices: [[0], [0, 0], [0, 0, 0], "
         "[0, 0, 0, 0]]}", "arm heads: its options and checkpoint allow 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_tuned_is_told_before_anything_starts(tmp_path, capsys, no_runs, old, new, said):
    """Exit code 2, and no run."""
    suite(tmp_path, SUITE.replace(old, new))
    assert bench.main(["tune", str(tmp_path / "try.yaml"), "--runs", str(tmp_path / "runs")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_file_in_the_tuned_suites_place_is_kept(tmp_path, capsys, no_runs):
    """It may be a suite that was worked on."""
    suite(tmp_path)
    (tmp_path / "try-tuned.yaml").write_text("mine")
    assert bench.main(["tune", str(tmp_path / "try.yaml"), "--runs", str(tmp_path / "runs")]) == 2
    assert "give another --out" in capsys.readouterr().err
    assert (tmp_path / "try-tuned.yaml").read_text() == "mine"
