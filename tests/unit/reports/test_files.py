"""Reports: the answer claims no more than the intervals show, invalid rows are struck through, bytes are stable."""

from __future__ import annotations

import csv
import json
import re

import pytest

from draftbench.harness.errors import RecordError
from draftbench.harness.store import REQUESTS, RunStore
from draftbench.reports.files import CSV_FIELDS, write_results
from tests.fakes.known import rewritten

RESULTS = ("report.md", "report.html", "results.csv", "results.json", "results.tex", "figures/speedup-w-c1.svg")


def test_the_answer_names_rivals_that_are_too_close(run):
    """Overlapping intervals are no victory."""
    text = write_results(run).read_text()
    assert "eagle is faster than vanilla" in text
    assert "has the highest throughput" not in text
    assert "no difference shown to hass" in text
    assert "| vanilla" in text


def test_arms_are_shown_with_their_trees_and_options(run):
    """Depth, width, nodes, and what an arm sets for itself: state that is kept, for one."""
    with rewritten(run) as manifest:
        manifest["suite"]["arms"][2] |= {"options": {"state": "keep"}, "engine": {"page_size": 1}}
    lines = [" ".join(line.replace("|", " ").split()) for line in write_results(run).read_text().splitlines()]
    assert "hass eagle – 3 1 4 state: keep, page_size: 1" in lines
    assert "vanilla vanilla – – – – –" in lines


def test_invalid_rows_are_struck_through_with_the_reason(run, request_record, cell_record):
    """They leave the answer to the others."""
    store = RunStore(run)
    failed = request_record(arm="eagle", block=2, error="lost")
    store.append(failed)
    store.append(cell_record(failed, num_failed=1))
    text = write_results(run).read_text()
    assert "~~eagle~~" in text
    assert "- **Invalid**: eagle on w, concurrency 1: failures: 1 of 3 requests failed, the first: lost." in text
    assert "**hass** has the highest throughput" in text


def test_files_are_stable(run):
    """The same records give the same bytes; the CSV has the documented columns."""
    write_results(run)
    before = {name: (run / name).read_bytes() for name in RESULTS}
    write_results(run)
    assert before == {name: (run / name).read_bytes() for name in before}
    with (run / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == CSV_FIELDS
    assert rows[0]["acceptance_length"] == ""
    assert json.loads(before["results.json"])[1]["detail"]["survival"] == [1.0, 1.0]


def test_a_folder_without_a_run_is_told(tmp_path):
    """The message says what is missing."""
    with pytest.raises(RecordError, match="holds no run"):
        write_results(tmp_path)


def test_a_broken_line_is_named_and_its_row_does_not_count(run):
    """The other rows are reported; the cell that lost a request has no full answer."""
    path = run / REQUESTS
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:1], "{broken\n", *lines[2:]]))
    text = write_results(run).read_text()
    assert "- Left out: requests.jsonl:2: not a RequestRecord: Invalid JSON" in text
    assert (
        "- **Invalid**: eagle on w, concurrency 1: failed cell: 1 of 2 cells: requests.jsonl holds 0 of its 1" in text
    )
    assert "**hass** has the highest throughput" in text


def test_another_schema_version_is_refused(run):
    """With the version that was found, the one that is read, and what to do."""
    with rewritten(run) as manifest:
        manifest["version"] = 7
    with pytest.raises(RecordError, match=r"version is 7; this draftbench reads version 1\. Report the run with"):
        write_results(run)


def test_runs_without_anything_to_compare_are_reported(run):
    """No baseline, no valid row, no record at all: there is a report, and it says so."""
    with rewritten(run) as manifest:
        manifest["suite"]["arms"] = manifest["suite"]["arms"][1:]
    assert "there is no valid vanilla row to compare with" in write_results(run).read_text()
    (run / REQUESTS).write_text("")
    assert "2 of 2 rows are invalid" in write_results(run).read_text()
    (run / "cells.jsonl").write_text("")
    assert "Nothing was measured." in write_results(run).read_text()


def test_foreign_strings_break_no_table_and_run_nothing(run, request_record, cell_record):
    """Pipes, newlines, HTML and markup in errors and settings are shown as they are."""
    evil = "a | b\n<script>alert(1)</script> [x](http://e) `c` **d** $e$ \\end{table}"
    with rewritten(run) as manifest:
        manifest["suite"]["arms"][1]["options"] = {evil: evil}
        manifest["host"] = {"cpu": evil}
    failed = request_record(arm="hass", block=2, error=evil)
    RunStore(run).append(failed)
    RunStore(run).append(cell_record(failed, num_failed=1))
    text = write_results(run).read_text()
    for table in tables(text):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
    assert "<script>" not in text
    assert "\\<script\\>" in text
    page = (run / "report.html").read_text()
    assert page.count("<script>") == 1
    assert "&lt;script&gt;alert(1)" in page


def tables(text: str) -> list[list[str]]:
    """Every table's lines."""
    return [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]


@pytest.mark.parametrize("text", ["[]", "{}"])
def test_a_manifest_that_is_none_is_told(run, text):
    """JSON alone does not make a manifest."""
    (run / "manifest.json").write_text(text)
    with pytest.raises(RecordError, match=r"manifest\.json: no manifest of a run"):
        write_results(run)
