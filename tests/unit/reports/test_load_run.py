"""Runs in notebooks: loaded with types, and as tables of pandas."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas
import pytest

from draftbench import load_run
from draftbench.harness.errors import RecordError
from draftbench.harness.metrics.overall import overall
from draftbench.harness.metrics.row import FIGURES

PUBLISHED = Path("reports/published/zoo-cpu")


def test_a_run_is_loaded_by_its_folder_or_its_report() -> None:
    """Rows with their details as attributes, and the manifest's suite."""
    run = load_run(str(PUBLISHED))
    assert load_run(PUBLISHED / "report.md").rows == run.rows
    row = next(row for row in run.rows if row.arm == "prism" and row.workload == "code")
    assert row.speedup is not None
    assert row.speedup > 1
    assert len(row.acceptance.survival) == row.num_steps == 5
    assert row.rounds.round_split is not None
    assert run.manifest.suite.launches == 3
    assert {each.arm for each in overall(run.rows)} == {row.arm for row in run.rows}
    with pytest.raises(RecordError, match="holds no run"):
        load_run("suites")


def test_results_are_tables_of_pandas() -> None:
    """As docs/python.md says: columns of results.csv, then the details."""
    path = PUBLISHED / "results.json"
    table = pandas.read_json(path)
    assert list(table.columns) == [*FIGURES, "detail"]
    assert len(table) == len(load_run(PUBLISHED).rows)
    assert list(pandas.read_csv(PUBLISHED / "results.csv").columns) == list(FIGURES)
    wide = pandas.json_normalize(json.loads(path.read_text()))
    assert {"detail.round_split.draft", "detail.survival", "detail.against.vanilla.low"} <= set(wide.columns)
    speedups = table[table.valid].pivot(index="arm", columns="workload", values="speedup")
    assert speedups.loc["vanilla"].eq(1).all()


def test_the_package_itself_imports_nothing() -> None:
    """`import draftbench` is instant; what load_run needs is imported when it is called."""
    code = "import sys, draftbench; print({'pydantic', 'numpy', 'yaml'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
