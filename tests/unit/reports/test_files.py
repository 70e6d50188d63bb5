"""Reports: the answer claims no more than the intervals show, invalid rows are struck through, bytes are stable."""

from __future__ import annotations

import csv
import json
import re

import pytest

from draftbench.harness.errors import RecordError
from draftbench.harness.store import REFERENCES, REQUESTS, RunStore
from draftbench.harness.terminal import Terminal
from draftbench.reports.files import CSV_FIELDS, read_run, write_files, write_results
from draftbench.reports.terminal_tables import print_rows
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


@pytest.mark.drawn_anew
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


STEERING = "\x1b[31m\x07\x9b2J\u202egnorw\u2066\u200b\r"
"""Colours, rings, clears, turns the direction round, hides."""


def test_no_text_of_others_steers_what_shows_it(run, request_record, cell_record, capsys):
    """Escapes, bells and marks of direction in errors are shown as text: in every file, and on a terminal."""
    store = RunStore(run)
    error = f"server said {STEERING} :smile: [bold]"
    record = request_record(block=7, arm="eagle", error=error)
    for each in (record, cell_record(record, num_failed=1)):
        store.append(each)
    store.note(host={"cpu": f"cpu {STEERING}"})
    found = read_run(run)
    write_files(found)
    Terminal(force_terminal=False).print(f"error: {error}", markup=False)
    print_rows(found, Terminal(force_terminal=False, width=200))
    shown = {path.name: path.read_text() for path in run.iterdir() if path.name.startswith(("report.", "results."))}
    shown["terminal"] = capsys.readouterr().out
    assert len(shown) == 6
    for name, text in shown.items():
        assert not [char for char in STEERING if not char.isprintable() and char in text], name
    assert "\\x1b[31m\\x07\\x9b2J\\u202egnorw\\u2066\\u200b\\r :smile: [bold]" in shown["terminal"]


@pytest.mark.parametrize("name", ["../../outside", "w/../../x", "/etc/x", "w\x00", "x" * 300])
@pytest.mark.parametrize("field", ["workload", "arm"])
def test_a_name_of_the_records_is_one_of_the_suites(run, request_record, cell_record, field, name):
    """Others are left out, and told; nothing is written for them, here or elsewhere."""
    store = RunStore(run)
    cell = request_record().cell.model_copy(update={field: name, "block": 9})
    record = request_record(cell=cell)
    for each in (record, cell_record(record)):
        store.append(each)
    before = {path for path in run.parent.rglob("*")}
    found = read_run(run)
    assert [text for text in found.broken if f"{field} " in text and "is not of the run's suite" in text]
    assert {row.workload for row in found.rows} == {"w"}
    write_files(found)
    written = {path for path in run.parent.rglob("*")} - before
    assert all(path.is_relative_to(run) for path in written)


@pytest.mark.parametrize("name", ["report.md", "report.html", "results.csv", "results.json", "results.tex", "figures"])
def test_result_files_are_made_and_no_link_is_followed(run, tmp_path_factory, name):
    """What a link leads to stays as it was."""
    outside = tmp_path_factory.mktemp("outside") / "file"
    if name == "figures":
        outside.mkdir()
        (outside / "kept.svg").write_text("kept")
        (run / name).symlink_to(outside)
        with pytest.raises(RecordError, match="figures is a link; remove it"):
            write_results(run)
        assert [path.name for path in outside.iterdir()] == ["kept.svg"]
        return
    outside.write_text("kept")
    (run / name).symlink_to(outside)
    write_results(run)
    assert outside.read_text() == "kept"
    assert not (run / name).is_symlink()


def test_a_deleted_reference_makes_rows_invalid(run):
    """They were greedy outputs; nobody can say any more whether they are vanilla's."""
    assert all(row.valid for row in read_run(run).rows)
    (run / REFERENCES).unlink()
    rows = read_run(run).rows
    assert not any(row.valid for row in rows)
    assert rows[0].reason == "missing records: 1 of 1 prompts without vanilla's reference"


def test_a_record_of_another_version_is_left_out(run):
    """Its row lacks a request."""
    path = run / REQUESTS
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0].replace('"version":1', '"version":7'), *lines[1:]]))
    found = read_run(run)
    assert found.broken == ("requests.jsonl:1: version is 7; this draftbench reads version 1",)
    assert not found.rows[0].valid


def test_records_of_another_suite_are_refused(run):
    """Their first line carries its hash."""
    path = run / REQUESTS
    path.write_text(path.read_text().replace(RunStore(run).manifest().suite_sha256, "0" * 64, 1))
    with pytest.raises(RecordError, match=r"requests\.jsonl:1: it was measured with another suite"):
        read_run(run)


def test_what_was_permitted_stands_in_the_report(run):
    """By arm, with its value."""
    path = run / "manifest.json"
    content = json.loads(path.read_text())
    assert "permitted by --allow" not in write_results(run).read_text()
    content["suite"]["arms"][1]["engine"] = {"trust_remote_code": True, "page_size": 1}
    path.write_text(json.dumps(content))
    line = next(line for line in write_results(run).read_text().splitlines() if "permitted by" in line)
    assert line.split("|")[2].strip() == "eagle: trust_remote_code True"


def test_answers_that_nothing_is_held_against_are_told(run):
    """Among the conditions, with their workload; nothing is said where there are none."""
    assert "not scored" not in write_results(run).read_text()
    with rewritten(run) as manifest:
        manifest["workloads"] = {"w": {"source": "mt_bench", "num_unscored": 39}}
    lines = [" ".join(line.replace("|", " ").split()) for line in write_results(run).read_text().splitlines()]
    assert "not scored w: 39 prompts with an answer that nothing is held against" in lines
