"""report.html and the figures: one file, nothing from a network, the same bytes, readable without sight or script."""

from __future__ import annotations

import math
import re

import lxml.html
import pytest

from draftbench.harness.metrics.throughput import crossovers
from draftbench.reports.files import read_run, write_results
from draftbench.reports.plots import draw_figures


@pytest.fixture
def page(run):
    """The page of the small run."""
    write_results(run)
    return lxml.html.document_fromstring((run / "report.html").read_text())


def test_the_page_needs_no_network(page):
    """No address is loaded, and its policy allows only its own script."""
    loaded = page.xpath("//@src | //link/@href | //script/@href")
    assert loaded == []
    policy = page.xpath("//meta[@http-equiv='Content-Security-Policy']/@content")[0]
    assert policy.startswith("default-src 'none'")
    assert "script-src 'sha256-" in policy
    assert not re.search(r"url\((?!#)|@import", lxml.html.tostring(page, encoding="unicode"))


def test_drawings_and_tables_are_named_for_those_who_do_not_see_them(page):
    """Every drawing has its words; every table a caption, and buttons in its heads."""
    drawings = page.xpath("//figure/*[local-name()='svg']")
    assert len(drawings) == 3
    assert all(drawing.get("role") == "img" and drawing.get("aria-label") for drawing in drawings)
    for table in page.xpath("//table"):
        assert table.xpath("caption")
        assert len(table.xpath(".//th[@scope='col']/button")) == len(table.xpath(".//th"))
    ids = page.xpath("//*[not(ancestor-or-self::*[local-name()='defs'])]/@id")
    assert not [name for name in ids if re.search(r"_\d+$", name)]


def test_figures_are_drawn_for_what_there_is(run):
    """Rounds without phase times, and throughput at one load point, have none."""
    assert [plot.kind for plot in draw_figures(read_run(run).rows)] == ["speedup", "acceptance", "survival"]
    assert draw_figures(()) == ()


def test_a_crossover_lies_between_the_points_where_the_order_turns():
    """From +10 to −10 over two doublings the lines cross after one."""
    assert crossovers({1: 20, 4: 30}, {1: 10, 4: 40}) == [(pytest.approx(2), pytest.approx(25))]
    assert crossovers({1: 20, 4: 50}, {1: 10, 4: 40}) == []
    assert crossovers({1: 20}, {}) == []
    assert crossovers({2: 200, 4: 100, 8: 50}, {2: 100, 4: 100, 8: 100}) == [(pytest.approx(4), pytest.approx(100))]
    assert math.isclose(crossovers({2: 3, 8: 1}, {2: 1, 8: 3})[0][0], 4)
