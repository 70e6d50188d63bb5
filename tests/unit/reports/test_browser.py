"""report.html in a real browser (Chromium, through Qt WebEngine): sorting, a phone's width, nothing fetched.

`make browser-test` installs the browser and runs this; without one it is left out.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from draftbench.reports.files import write_results

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("QTWEBENGINE_CHROMIUM_FLAGS", "--no-sandbox --disable-gpu")
core = pytest.importorskip("PyQt6.QtCore")
engine = pytest.importorskip("PyQt6.QtWebEngineWidgets")
widgets = pytest.importorskip("PyQt6.QtWidgets")

Ask = Callable[[str], Any]
"""Runs JavaScript in an open page and returns its value."""


@pytest.fixture(scope="session")
def application() -> Any:
    """One for all pages."""
    return widgets.QApplication(["draftbench"])  # Chromium needs a name


@pytest.fixture
def open_page(application: Any, run: Path) -> Callable[[int], Ask]:
    """Opens the page of the small run at a width."""
    page = write_results(run).with_name("report.html")
    views = []

    def opened(width: int) -> Ask:
        view = engine.QWebEngineView()
        views.append(view)
        view.resize(width, 900)
        loaded = core.QEventLoop()
        view.loadFinished.connect(lambda _: loaded.quit())
        view.load(core.QUrl.fromLocalFile(str(page)))
        view.show()
        loaded.exec()

        def ask(script: str) -> Any:
            found: list[Any] = []
            answered = core.QEventLoop()
            view.page().runJavaScript(script, lambda value: (found.append(value), answered.quit()))
            answered.exec()
            return found[0]

        return ask

    return opened


def test_a_click_on_a_columns_name_sorts(open_page: Callable[[int], Ask]) -> None:
    """Numbers as numbers, one way and then the other; the page's own policy lets its script run."""
    ask = open_page(1100)
    column = "[...document.querySelector('table').rows].slice(1).map(row => row.cells[4].textContent)"
    click = "document.querySelectorAll('table th button')[4].click()"
    before = sorted(map(float, ask(column)))
    ask(click)
    once = list(map(float, ask(column)))
    ask(click)
    twice = list(map(float, ask(column)))
    assert len(before) == 3
    assert sorted((once, twice)) == [before, before[::-1]]


def test_a_phone_need_not_scroll_sideways(open_page: Callable[[int], Ask]) -> None:
    """At 375 points only tables scroll, in frames of their own."""
    ask = open_page(375)
    assert ask("document.documentElement.scrollWidth") <= ask("window.innerWidth") == 375


def test_drawings_are_there_and_nothing_is_fetched(open_page: Callable[[int], Ask]) -> None:
    """Every drawing has a size; the page loads nothing."""
    ask = open_page(1100)
    heights = ask("[...document.querySelectorAll('figure svg')].map(svg => svg.getBoundingClientRect().height)")
    assert len(heights) == 3
    assert min(heights) > 50
    assert ask("performance.getEntriesByType('resource').length") == 0
