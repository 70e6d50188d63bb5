"""Pages in a real browser (Chromium, through Qt WebEngine): sorting, a phone's width, nothing fetched.

`make browser-test` installs the browser and runs this; without one it is left out.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from draftbench.reports.files import write_results
from draftbench.reports.site_page import write_site

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("QTWEBENGINE_CHROMIUM_FLAGS", "--no-sandbox --disable-gpu")
core = pytest.importorskip("PyQt6.QtCore")
engine = pytest.importorskip("PyQt6.QtWebEngineWidgets")
widgets = pytest.importorskip("PyQt6.QtWidgets")

Ask = Callable[[str], Any]
"""Runs JavaScript in an open page and returns its value."""
Opened = Callable[[int], Ask]


@pytest.fixture(scope="session")
def application() -> Any:
    """One for all pages."""
    return widgets.QApplication(["draftbench"])  # Chromium needs a name


@pytest.fixture
def open_page(open_file: Callable[[Path, int], Ask], run: Path) -> Callable[[int], Ask]:
    """Opens the page of the small run at a width."""
    page = write_results(run).with_name("report.html")
    return lambda width: open_file(page, width)


@pytest.fixture
def open_site(open_file: Callable[[Path, int], Ask], run: Path, tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """Opens the page over two runs at a width, of which the second does not verify."""
    write_results(run)
    runs = tmp_path_factory.mktemp("runs")
    for name in ("one", "two"):
        shutil.copytree(run, runs / name)
    report = runs / "two" / "report.md"
    report.write_text(report.read_text().replace("66.7", "86.7", 1))
    page, _ = write_site(runs, runs, "runs")
    return lambda width: open_file(page, width)


@pytest.fixture
def open_file(application: Any) -> Callable[[Path, int], Ask]:
    """Opens a page at a width."""
    views = []

    def opened(page: Path, width: int) -> Ask:
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


SHOWN = "[...document.querySelectorAll('#rows tbody tr')].filter(row => !row.hidden)"
ARMS = SHOWN + ".map(row => row.dataset.run + ' ' + row.cells[0].textContent)"
CHOOSE = """(() => {{ const one = document.querySelector('#filters [name={0}]'); one.value = '{1}';
one.dispatchEvent(new Event('input', {{bubbles: true}})); }})()"""


def test_the_page_over_runs_filters(open_site: Opened) -> None:
    """Rows and points by what is chosen, and back; the count says how many."""
    ask = open_site(1280)
    assert len(ask(ARMS)) == 4
    ask(CHOOSE.format("run", "=one"))
    assert sorted(ask(ARMS)) == ["one eagle", "one hass"]
    assert ask("document.getElementById('count').textContent") == "2 of 4 rows"
    ask(CHOOSE.format("run", "=two"))
    dots = "[...document.querySelectorAll('[id^=speedup-by-length-dot]')].filter(dot => dot.style.display !== 'none')"
    assert ask(dots + ".length") == 0
    ask(CHOOSE.format("kind", "placed"))
    assert ask(ARMS) == []
    ask(CHOOSE.format("run", ""))
    assert sorted(ask(ARMS)) == ["one eagle", "one hass"]
    assert ask(dots + ".length") == 2
    assert ask(dots + "[0].querySelector('title').textContent").startswith("eagle, w, one, ")


def test_rows_that_take_no_place_stay_last_however_it_is_sorted(open_site: Opened) -> None:
    """By a number and by a word, either way; the first order comes back."""
    ask = open_site(1280)
    before = ask(ARMS)
    for column in (2, 0):
        for _ in range(2):
            ask(f"document.querySelectorAll('#rows th button')[{column}].click()")
            assert [name.split()[0] for name in ask(ARMS)] == ["one", "one", "two", "two"]
    ask(CHOOSE.format("sort", "speedup"))
    speedups = list(map(float, ask(SHOWN + ".map(row => row.cells[2].dataset.value)")))
    assert speedups[:2] == sorted(speedups[:2], reverse=True)
    ask(CHOOSE.format("sort", ""))
    assert ask(ARMS) == before


def test_the_page_over_runs_fits_a_phone(open_site: Opened) -> None:
    """No row is wider than the screen, and nothing scrolls sideways."""
    ask = open_site(390)
    assert ask("document.documentElement.scrollWidth") <= ask("window.innerWidth") == 390
    assert max(ask(SHOWN + ".map(row => row.getBoundingClientRect().right)")) <= 390
    assert ask("document.querySelector('#rows').parentElement.scrollWidth") <= 390
