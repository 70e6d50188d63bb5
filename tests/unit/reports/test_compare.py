"""Comparing runs: moves with their intervals, refusals with their reasons."""

from __future__ import annotations

import dataclasses
import shutil

import pytest

from draftbench.harness.errors import RecordError
from draftbench.harness.manifest import Manifest
from draftbench.harness.metrics.moves import Interval, move
from draftbench.harness.store import RunStore
from draftbench.reports.compare import compare, manifest_differences
from draftbench.reports.files import read_run
from tests.fakes.known import receipt, rewritten


@pytest.fixture
def runs(run, tmp_path_factory):
    """A run and a copy of it."""
    copy = tmp_path_factory.mktemp("copy") / "run"
    shutil.copytree(run, copy)
    return read_run(run), read_run(copy)


def changed(run, arm, **values):
    """The run with another row for an arm."""
    rows = tuple(dataclasses.replace(row, **values) if row.arm == arm else row for row in run.rows)
    return dataclasses.replace(run, rows=rows)


def test_a_move_combines_both_intervals():
    """In logarithms the distances add as squares: 1/0.8 either way from both runs gives 0.8 to the power of √2."""
    same = Interval(2.0, 1.6, 2.5)
    moved = move(same, same)
    assert moved.value == 1
    assert moved.low == pytest.approx(0.8**2**0.5)
    assert moved.high == pytest.approx(1.25**2**0.5)


def test_a_move_without_an_interval_has_none():
    """One block has no spread."""
    assert move(Interval(2.0, None, None), Interval(3.0, 2.9, 3.1)) == Interval(pytest.approx(1.5), None, None)


def test_runs_that_are_alike_show_no_difference(runs):
    """The baseline is never compared; one launch is said."""
    words = [row.verdict() for row in compare(*runs)]
    assert words == ["baseline", "no difference shown (1 launch)", "no difference shown (1 launch)"]


def test_a_fall_is_a_regression_where_it_is_shown(runs):
    """A wide interval is no alarm; fewer accepted drafts always are."""
    before, after = runs
    before = changed(before, "hass", speedup=2.0, speedup_low=1.98, speedup_high=2.02)
    fallen = changed(after, "hass", speedup=1.8, speedup_low=1.78, speedup_high=1.82)
    unsure = changed(after, "hass", speedup=1.8, speedup_low=0.9, speedup_high=3.6)
    weaker = changed(before, "hass", acceptance_length=2.0)
    assert [row.change for row in compare(before, fallen)][2] == "slower"
    assert [row.regressed(0.05) for row in compare(before, fallen)] == [False, False, True]
    assert [row.regressed(0.2) for row in compare(before, fallen)] == [False, False, False]
    assert [row.regressed(0.05) for row in compare(before, unsure)] == [False, False, False]
    assert [row.regressed(0.05) for row in compare(before, weaker)] == [False, False, True]


def test_a_run_is_reproduced_within_intervals_that_say_something(runs):
    """Speedups whose ratio may be 1, and the same greedy acceptance."""
    before = changed(runs[0], "hass", speedup=2.0, speedup_low=1.9, speedup_high=2.1)
    same, wide = changed(before, "eagle", speedup_low=0.9, speedup_high=3.9), changed(before, "hass", speedup_low=0.5)
    fallen = changed(before, "hass", speedup=1.5, speedup_low=1.4, speedup_high=1.6)
    alone = changed(before, "hass", speedup_low=None, speedup_high=None)
    other = changed(before, "hass", acceptance_length=2.5)
    words = [compare(before, run)[2].reproduction() for run in (same, wide, fallen, alone, other)]
    assert words == [
        "reproduced",
        "cannot be said: the interval is too wide",
        "not reproduced",
        "cannot be said: no interval",
        "not reproduced: τ differs",
    ]
    assert compare(before, same)[0].reproduction() == "baseline"


def test_rows_that_cannot_be_compared_say_why(runs):
    """Invalid in one of the runs, missing from one."""
    before, after = runs
    after = changed(after, "eagle", valid=False)
    after = dataclasses.replace(after, rows=after.rows[:2])
    assert [row.why for row in compare(before, after)][1:] == ["invalid in run B", "only in run A"]


def test_runs_of_other_targets_or_sampling_are_refused(runs):
    """With every reason."""
    before, after = runs
    suite = after.manifest.recorded["suite"]
    target, sampling = {"model": "other", "dtype": "float16"}, {**suite["sampling"], "temperature": 0.7}
    other = Manifest.of({"suite": {**suite, "target": target, "sampling": sampling}})
    after = dataclasses.replace(after, manifest=other)
    with pytest.raises(RecordError, match=r"target\.dtype is float32 and float16; target\.model .*; sampling\.temp"):
        compare(before, after)


def test_differences_of_manifests_are_listed_by_setting(run):
    """Arms by their names; what differs in every launch is left out."""
    store = RunStore(run)
    store.note(engines={"e": receipt(port=1, page_size=1)})
    before = store.manifest().recorded
    store.note(engines={"e": receipt(port=2, page_size=4)})
    with rewritten(run) as manifest:
        manifest["suite"]["arms"][1]["num_steps"] = 5
    assert manifest_differences(before, store.manifest().recorded) == [
        "engines.e.server_args.page_size: 1 → 4",
        "suite.arms[eagle].num_steps: 3 → 5",
    ]


def test_a_row_that_broke_is_a_regression_and_not_reproduced(runs):
    """Invalid in the second run, or not there at all; a row that was invalid before is neither."""
    before, after = runs
    for broken in (changed(after, "hass", valid=False), dataclasses.replace(after, rows=after.rows[:2])):
        row = compare(before, broken)[2]
        assert row.regressed(0.05)
        assert row.reproduction().startswith("not reproduced")
    mended = compare(changed(before, "hass", valid=False), after)[2]
    assert not mended.regressed(0.05)


def test_open_loops_of_two_runs_are_not_compared(runs):
    """Their rows have latencies, and times of two runs are not compared."""
    before, after = (changed(run, "eagle", load="4/s", concurrency=None, speedup=None) for run in runs)
    row = next(row for row in compare(before, after) if row.name == ("eagle", "w", "4/s"))
    assert row.verdict() == "not comparable (open loop: latencies of two runs are not compared)"
