"""Matrices: every point is a suite of its own, mistakes stand where they were made, reports keep the points apart."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from draftbench import bench
from draftbench.harness.commands import run as run_command
from draftbench.harness.errors import RecordError, SuiteError
from draftbench.harness.suite import load_points, load_suite
from draftbench.harness.suite.read import point_text
from draftbench.reports.files import read_run, write_results
from draftbench.reports.matrix_table import matrix_table, write_matrix
from tests.fakes.known import rewritten

SUITE = """\
version: 1
name: trees
target: {model: tiny, dtype: float32}
arms:
  - {name: vanilla, architecture: vanilla}
  - {name: hass, architecture: eagle, checkpoint: tiny/hass, num_steps: 5, topk: 4, num_draft_tokens: 16}
workloads:
  - {name: arithmetic, source: synthetic, family: arithmetic, num_prompts: 2}
sampling: {temperature: 0, max_tokens: 16, seed: 0}
load: [{concurrency: 1}]
blocks: 1
"""
MATRIX = """\
matrix:
  - plain: {}
    half: {target: {dtype: bfloat16}, arms: {hass: {checkpoint: tiny/eagle}}}
  - chain:
      tree: {num_steps: 4, topk: 1, num_draft_tokens: 5}
    wide: {blocks: 2, load: [{concurrency: 4}], workloads: {arithmetic: {num_prompts: 3}}}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "suite.yaml").write_text(SUITE + MATRIX)
    return tmp_path / "suite.yaml"


def test_every_combination_is_a_suite(path: Path) -> None:
    """The first axis is the slowest; a point changes what it names, and leaves the rest."""
    points = dict(load_points(path))
    assert list(points) == ["plain-chain", "plain-wide", "half-chain", "half-wide"]
    assert [suite.name for suite in points.values()] == [f"trees-{point}" for point in points]
    hass = [suite.arms[1] for suite in points.values()]
    assert [(arm.num_steps, arm.topk, arm.num_draft_tokens) for arm in hass] == [(4, 1, 5), (5, 4, 16)] * 2
    assert [arm.checkpoint for arm in hass] == ["tiny/hass"] * 2 + ["tiny/eagle"] * 2
    assert [suite.target.dtype for suite in points.values()] == ["float32"] * 2 + ["bfloat16"] * 2
    assert {suite.target.model for suite in points.values()} == {"tiny"}
    assert [suite.load[0].concurrency for suite in points.values()] == [1, 4] * 2
    assert [suite.workloads[0].num_prompts for suite in points.values()] == [2, 3] * 2
    assert all(suite.arms[0].tree is None for suite in points.values())


def test_a_suite_without_a_matrix_is_its_only_point(path: Path) -> None:
    """As it was, whichever way it is read."""
    path.write_text(SUITE)
    assert load_points(path) == [("", load_suite(path))]
    assert load_suite(path).name == "trees"


def test_a_command_that_takes_one_suite_takes_a_point(path: Path, capsys) -> None:
    """By its name behind the file's; without one it says what there is."""
    assert load_suite(path.with_name("suite.yaml#half-chain")).target.dtype == "bfloat16"
    assert bench.main(["tune", str(path)]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "it has a matrix of 4 suites; name one of them, as " in told
    assert "suite.yaml#plain-chain: plain-chain, plain-wide, half-chain, half-wide." in told
    with pytest.raises(SuiteError, match="there is no point wider in its matrix; allowed: plain-chain"):
        load_suite(path.with_name("suite.yaml#wider"))
    path.write_text(SUITE)
    with pytest.raises(SuiteError, match="it has no matrix"):
        load_suite(path.with_name("suite.yaml#wide"))


def test_a_point_can_be_written_as_a_suite_of_its_own(path: Path, tmp_path: Path) -> None:
    """What `tune` writes its trees into."""
    point = path.with_name("suite.yaml#half-wide")
    (tmp_path / "own.yaml").write_text(point_text(point))
    assert load_suite(tmp_path / "own.yaml") == load_suite(point)
    assert point_text(path) == SUITE + MATRIX


@pytest.mark.parametrize(
    ("before", "after", "line", "said"),
    [
        ("topk: 1, num_draft_tokens: 5}", "topk: 1, num_draft_tokens: 6}", 16, "num_draft_tokens is 6; with topk 1"),
        ("dtype: bfloat16", "dtype: bfloat17", 14, "target.dtype is 'bfloat17'"),
        ("dtype: bfloat16", "dtyp: bfloat16", 14, "target.dtyp is not known here"),
        ("{target: {dtype", "{targt: {dtype", 14, "half.targt is not known here; allowed: "),
        ("arms: {hass", "arms: {has", 14, "arms has none of that name; allowed: vanilla, hass. Did you mean hass?"),
        ("checkpoint: tiny/eagle}", "checkpoint: tiny/eagle, topc: 3}", 14, "arms[1].topc is not known here"),
        ("workloads: {arithmetic", "workloads: {arithmetics", 17, "workloads has none of that name"),
        ("tree: {num_steps", "tree: {depth", 16, "holds num_steps, topk, num_draft_tokens"),
        ("plain: {}", "plain: 3", 13, "matrix[0].plain is 3; give what it changes"),
        ("plain: {}", '"a/b": {}', 13, "a point's name has letters"),
        ("plain: {}", "..: {}", 13, "a point's name has letters"),
        ("blocks: 2", "name: other", 17, "wide.name is not known here"),
        ("concurrency: 4", "concurrency: none", 17, "load[0].concurrency"),
    ],
)
def test_a_mistake_is_told_with_its_line(path: Path, before: str, after: str, line: int, said: str) -> None:
    """In the matrix, not where the suite has what it takes the place of."""
    text = SUITE + MATRIX
    assert before in text
    path.write_text(text.replace(before, after, 1))
    with pytest.raises(SuiteError) as error:
        load_points(path)
    assert f"suite.yaml:{line}: " in str(error.value)
    assert said in str(error.value)


@pytest.mark.parametrize("matrix", ["matrix: []", "matrix: {a: {}}", "matrix: [[a]]", "matrix: [{}]", "matrix: 3"])
def test_what_is_no_matrix_is_told(path: Path, matrix: str) -> None:
    """With its line and an example."""
    path.write_text(SUITE + matrix + "\n")
    with pytest.raises(SuiteError, match=r"suite\.yaml:12: matrix is a list of axes"):
        load_points(path)


def test_a_matrix_has_bounds(path: Path) -> None:
    """A slip of the pen is told and not run."""
    axis = "  - {" + ", ".join(f"p{number}: {{}}" for number in range(11)) + "}\n"
    path.write_text(SUITE + "matrix:\n" + 2 * axis)
    with pytest.raises(SuiteError, match="matrix has 121 points; allowed: 100"):
        load_points(path)


def test_points_that_would_have_one_name_are_told(path: Path) -> None:
    """Their folders would be one."""
    path.write_text(SUITE + "matrix:\n  - {a: {}, a-b: {}}\n  - {b-c: {}, c: {}}\n")
    with pytest.raises(SuiteError, match=r"suite\.yaml:12: two points of matrix are called a-b-c"):
        load_points(path)


def test_plan_shows_every_point_and_what_all_cost(path: Path, capsys) -> None:
    """Cells by point; time of all of them."""
    assert bench.main(["plan", str(path)]) == 0
    told = capsys.readouterr().out
    assert [line for line in told.splitlines() if line.startswith("matrix: ")][:4] == [
        "matrix: plain-chain", "matrix: plain-wide", "matrix: half-chain", "matrix: half-wide",
    ]  # fmt: skip
    assert "matrix: 4 points, 12 cells; at most about " in told
    assert bench.main(["plan", f"{path}#half-wide"]) == 0
    assert "launch 0 block 1 arithmetic c=4 hass" in capsys.readouterr().out


def test_a_matrix_is_run_point_by_point_and_what_fails_leaves_the_rest(path, run, tmp_path, monkeypatch, capsys):
    """Each in a folder of its own; the table over all of them, and the exit code of the one that failed."""
    seen = []

    def measured(suite, folder, *_, resume, **settings):
        seen.append((suite.name, folder.name, resume))
        if folder.name == "half-chain":
            raise RecordError("no space")
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("manifest.json", "requests.jsonl", "cells.jsonl", "references.jsonl"):
            shutil.copy(run / name, folder / name)

    monkeypatch.setattr(run_command, "measure_suite", measured)
    monkeypatch.setattr("draftbench.harness.run.apart.report", lambda folder: bench.main(["report", str(folder)]))
    out = tmp_path / "out"
    assert bench.main(["run", str(path), "--out", str(out)]) == 1
    told = capsys.readouterr().out
    assert "half-chain: no space" in told
    assert [name for name, _, _ in seen] == [
        f"trees-{p}" for p in ("plain-chain", "plain-wide", "half-chain", "half-wide")
    ]
    text = (out / "matrix.md").read_text()
    assert text.count("| plain-wide ") == 2
    assert "half-chain" not in text
    assert "(half-wide/report.md)" in text
    seen.clear()
    bench.main(["run", str(path), "--out", str(out), "--resume"])
    assert [resume for _, _, resume in seen] == [True, True, False, True]
    (out / "matrix.md").unlink()
    assert bench.main(["report", str(out)]) == 0
    assert (out / "matrix.md").read_text() == text


def test_the_table_keeps_points_apart(run: Path, tmp_path_factory) -> None:
    """Each over its own baseline; invalid rows say so, and a folder without runs is a sentence."""
    write_results(run)
    other = tmp_path_factory.mktemp("points") / "other"
    shutil.copytree(run, other)
    with rewritten(other) as manifest:
        manifest["suite"]["target"]["dtype"] = "bfloat16"
    _, lines = matrix_table({"a": read_run(run), "b": read_run(other)})
    assert [(line[0], line[2]) for line in lines] == [("a", "eagle"), ("a", "hass"), ("b", "eagle"), ("b", "hass")]
    assert [line[1] for line in lines[::2]] == ["tiny, float32", "tiny, bfloat16"]
    assert all(line[-1] == "valid" for line in lines)
    with pytest.raises(RecordError, match="nor a folder that does"):
        write_matrix(other)
