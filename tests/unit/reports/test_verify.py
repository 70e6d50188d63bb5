"""Verify: a changed digit is named with its place, wherever it is; what was not changed passes."""

from __future__ import annotations

import pytest

from draftbench.harness.errors import RecordError
from draftbench.harness.places import PUBLISHED
from draftbench.harness.store import REQUESTS
from draftbench.reports.files import write_results
from draftbench.reports.verify import verify


def change(path, before, after):
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))


def test_a_report_as_it_was_written_passes(run):
    """Every file is compared."""
    verdict = verify(write_results(run))
    assert verdict.mismatches == ()
    assert verdict.files == ("report.md", "results.csv", "results.json", "results.tex", "report.html")
    assert verdict.num_numbers > 100


def test_a_changed_digit_in_the_table_is_named(run):
    """Line, column, row, what is there and what the records give."""
    report = write_results(run)
    change(report, "66.7", "86.7")
    line = next(number for number, text in enumerate(report.read_text().splitlines(), 1) if "86.7" in text)
    assert verify(report).mismatches == (
        f"report.md:{line}, column tokens/s, row vanilla: found 86.7, recomputed 66.7",
    )


@pytest.mark.parametrize("name", ["results.csv", "results.json", "results.tex", "report.html"])
def test_a_changed_digit_in_another_file_is_named(run, name):
    """Rows of CSV by their column; the others by line and column of the text."""
    write_results(run)
    change(run / name, "eagle", "eagIe")
    assert [m for m in verify(run).mismatches if m.startswith(f"{name}:") and "eagIe" in m]


def test_changed_records_are_found(run):
    """Their hash stands in the report, whether or not a number of it moves."""
    report = write_results(run)
    change(run / REQUESTS, '"prompt_id":"p"', '"prompt_id":"q"')
    assert "row records SHA-256" in " ".join(verify(report).mismatches)


def test_lines_that_were_added_or_removed_are_named(run):
    """A row of one's own, a row left out."""
    report = write_results(run)
    lines = report.read_text().splitlines(keepends=True)
    report.write_text("".join([*lines, "| made up | 9.99x |\n"]))
    assert "which the records do not give" in verify(report).mismatches[0]
    report.write_text("".join(lines[:-1]))
    assert "missing" in verify(report).mismatches[0]


def test_a_folder_without_a_report_is_told(run):
    """There is nothing to verify before there is a report."""
    with pytest.raises(RecordError, match=r"holds no report\.md"):
        verify(run)


@pytest.mark.parametrize("report", sorted(PUBLISHED.glob("*/report.md")), ids=lambda path: path.parent.name)
def test_published_runs_are_what_their_records_give(report):
    """Whoever changes how a number comes about, or how it is shown, writes these reports again and says so."""
    assert verify(report).mismatches == ()
