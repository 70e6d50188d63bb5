"""Cells as people read them: no interval that says nothing, numbers flush right."""

from __future__ import annotations

import io
import re
from pathlib import Path

import lxml.html
import pytest

from draftbench.harness.store import RunStore
from draftbench.harness.terminal import Terminal
from draftbench.reports.files import read_run, write_results
from draftbench.reports.table import interval_text, numeric_columns
from draftbench.reports.terminal_tables import print_rows


@pytest.fixture
def restless(run: Path, request_record, cell_record) -> Path:
    """A run of two blocks, of which one arm's second took a hundred times as long: its interval spans 10⁻⁹ to 10⁷."""
    text = (run / "requests.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in text if not ('"arm":"eagle"' in line and '"block":1' in line)]
    (run / "requests.jsonl").write_text("".join(kept))
    RunStore(run).append(request_record(((10, 1), (9000, 3)), (2,), arm="eagle", block=1))
    return run


def test_an_interval_that_says_nothing_is_printed_nowhere(restless: Path) -> None:
    """Page, markdown, LaTeX, figures and terminal say what is lacking; the machine-readable files keep the ends."""
    write_results(restless)
    run = read_run(restless)
    console = Terminal(width=200, record=True, file=io.StringIO())
    print_rows(run, console)
    texts = {"terminal": console.export_text()} | {
        name: (restless / name).read_text()
        for name in ("report.md", "report.html", "results.tex", "figures/speedup-w-c1.svg")
    }
    wide = next(row for row in run.rows if row.arm == "eagle")
    assert wide.speedup_high is not None
    assert wide.speedup_high > 1000
    for name, text in texts.items():
        assert "too few blocks" in text, name
        assert f"{wide.speedup_high:.2f}" not in text, name
        assert not re.search(r"\d{4,}%", text), name
    assert str(wide.speedup_high) in (restless / "results.csv").read_text()


def test_an_interval_that_says_something_is_printed() -> None:
    """Ends within a factor of four; nothing where there is none."""
    assert interval_text(1.5, 1.75) == " [1.50, 1.75]"
    assert interval_text(0.9, 3.5) == " [0.90, 3.50]"
    assert interval_text(None, None) == ""
    assert interval_text(0.0, 2.0) == ", too few blocks"
    assert interval_text(0.5, 2.5, "over 3 launches") == ", too few launches"
    assert interval_text(0.5, 2.5, "over blocks of 2 launches") == ", too few blocks"


@pytest.mark.parametrize(
    ("cells", "numeric"),
    [
        (["1.24", "–", "12.5"], True),
        (["100%", "~~12%~~"], True),
        (["baseline", "1.62x [1.55, 1.70]", "1.2x, too few blocks"], True),
        (["12.3, 45.6", "1,234,567"], True),
        (["4/s by 8", "3.91 of 4.00"], True),
        (["–", "–"], False),
        (["vanilla", "3"], False),
        (["2026-11-27"], False),
        (["5 × 4, 16"], False),
        (["p 0.19", "100%"], False),
    ],
)
def test_columns_of_numbers_are_known(cells: list[str], numeric: bool) -> None:
    """By their cells, whatever their heading is; words anywhere make a column of words."""
    assert numeric_columns(["name"], [[cell] for cell in cells]) == [numeric]


def test_numbers_stand_flush_right_on_the_page(run: Path) -> None:
    """Heading and cells alike; names and verdicts stay at the left."""
    write_results(run)
    page = lxml.html.document_fromstring((run / "report.html").read_text())
    table = page.xpath("//table")[0]
    right = {head.text_content(): head.get("class") == "n" for head in table.xpath(".//th")}
    assert right["τ"]
    assert right["tokens/s"]
    assert right["speedup [95%]"]
    assert not right["arm"]
    assert not right["workload"]
    for line in table.xpath(".//tbody/tr"):
        assert [cell.get("class") == "n" for cell in line.xpath("td")] == list(right.values())
