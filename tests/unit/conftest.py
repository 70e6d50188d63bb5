"""What unit tests leave out, since each has tests of its own: a process for each report, and drawing equal figures twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from draftbench.bench import main
from draftbench.harness.run import apart
from draftbench.reports import files
from draftbench.reports.plots import Plot, draw_figures

_FIGURES: dict[str, tuple[Plot, ...]] = {}
_PNG: dict[int, bytes] = {}


@pytest.fixture(autouse=True)
def reports_in_this_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that imports everything for each report takes longer than most tests; test_apart.py shows them."""
    if request.module.__name__ != "tests.unit.test_apart":
        monkeypatch.setattr(apart, "report", lambda folder: main(["report", "--", str(folder)]))


@pytest.fixture(autouse=True)
def equal_figures_are_drawn_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Most of a report's time goes into its figures, and most tests' runs are equal. Marked `drawn_anew` where their
    bytes are what is shown."""
    if request.node.get_closest_marker("drawn_anew"):
        return
    png = Plot.png

    def drawn_once(rows: Any, first_stage: int | None = None) -> tuple[Plot, ...]:
        key = repr((tuple(rows), first_stage))
        if key not in _FIGURES:
            _FIGURES[key] = draw_figures(rows, first_stage)
        return _FIGURES[key]

    def kept(plot: Plot) -> bytes:
        if id(plot) not in _PNG:
            _PNG[id(plot)] = png(plot)
        return _PNG[id(plot)]

    monkeypatch.setattr(files, "draw_figures", drawn_once)
    monkeypatch.setattr(Plot, "png", kept)
