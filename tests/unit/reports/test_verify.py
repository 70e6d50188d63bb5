"""Verify: a changed digit is named with its place, wherever it is; what was not changed passes."""

from __future__ import annotations

import json

import pytest

from draftbench.harness.errors import RecordError
from draftbench.harness.places import PUBLISHED
from draftbench.harness.store import REQUESTS, RunStore
from draftbench.reports import verify as verify_module
from draftbench.reports.files import write_results
from draftbench.reports.verify import verify
from tests.fakes.known import receipt


def change(path, before, after):
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))


@pytest.mark.drawn_anew
def test_a_report_as_it_was_written_passes(run):
    """Every file is compared."""
    verdict = verify(write_results(run))
    assert verdict.mismatches == ()
    assert verdict.files == ("report.md", "results.csv", "results.json", "results.tex", "report.html", "figures")
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


def test_a_changed_figure_is_found(run):
    """As a drawing, as a picture, and within the page; one that is missing, and one too many."""
    write_results(run)
    figures = run / "figures"
    svg, png = next(figures.glob("speedup-*.svg")), next(figures.glob("speedup-*.png"))
    page = (run / "report.html").read_text()
    change(svg, "speedup over vanilla", "slowdown over vanilla")
    assert verify(run).mismatches == (f"figures/{svg.name}: not the figure that the records give",)
    write_results(run)
    png.write_bytes(png.read_bytes()[:-1] + b"x")
    assert verify(run).mismatches == (f"figures/{png.name}: not the figure that the records give",)
    write_results(run)
    assert (run / "report.html").read_text() == page
    change(run / "report.html", "<figcaption>Speedup", "<figcaption>Slowdown")
    assert [text for text in verify(run).mismatches if text.startswith("report.html:")]
    write_results(run)
    png.unlink()
    (figures / "extra.svg").write_text("<svg/>")
    assert verify(run).mismatches == (
        f"figures/{png.name}: missing; write it with bench.py report",
        "figures/extra.svg: the records do not give it",
    )


def test_figures_of_another_matplotlib_are_not_compared_and_that_is_told(run):
    """Its lines lie elsewhere; the rest is compared."""
    write_results(run)
    for path in (run / "figures").glob("*.svg"):
        path.write_text(path.read_text().replace("Matplotlib v", "Matplotlib v0."))
    verdict = verify(run)
    assert verdict.mismatches == ()
    assert verdict.notes[0].startswith("figures were drawn by Matplotlib 0.")


@pytest.mark.parametrize("name", ["results.csv", "results.json", "results.tex", "report.html"])
def test_a_missing_file_is_found(run, name):
    """A report is all of its files."""
    write_results(run)
    (run / name).unlink()
    assert f"{name}: missing; write it with bench.py report" in verify(run).mismatches


@pytest.mark.parametrize(
    "change_of",
    [{"suite_text": "version: 1\nname: other"}, {"engines": {"hass": receipt("EAGLE", context_length=9).model_dump()}}],
)
def test_a_changed_manifest_is_found(run, change_of):
    """The suite as its user wrote it, and whatever stands in no table."""
    store = RunStore(run)
    store.note(suite_text="version: 1\nname: try")
    write_results(run)
    path = run / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change_of}))
    assert any("row manifest SHA-256" in mismatch for mismatch in verify(run).mismatches)


def test_a_folder_without_a_report_is_told(run):
    """There is nothing to verify before there is a report."""
    with pytest.raises(RecordError, match=r"holds no report\.md"):
        verify(run)


PUBLISHED_REPORTS = sorted(PUBLISHED.glob("*/report.md"))


@pytest.mark.parametrize("report", PUBLISHED_REPORTS, ids=lambda path: path.parent.name)
def test_published_runs_are_what_their_records_give(report, monkeypatch):
    """Whoever changes how a number comes about, or how it is shown, writes these reports again and says so.

    Figures, which take seconds, are drawn for one of them here, and for all with the slow tests.
    """
    if report.parent.name != "prism-round-h200":
        monkeypatch.setattr(verify_module, "figures_of", lambda run: ())
        monkeypatch.setattr(verify_module, "_other_version", lambda folder: ["not drawn"])
        monkeypatch.setattr(verify_module, "_figure_differences", lambda *_, **__: ())
    assert verify(report).mismatches == ()


@pytest.mark.slow
@pytest.mark.parametrize("report", PUBLISHED_REPORTS, ids=lambda path: path.parent.name)
def test_published_figures_are_what_their_records_give(report):
    """With the Matplotlib that the lock has."""
    assert verify(report).mismatches == ()
