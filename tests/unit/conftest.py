"""What unit tests leave out, as it has tests of its own: a process for each report, drawing equal figures twice."""

from __future__ import annotations

from typing import Any

import pytest

from draftbench.bench import main
from draftbench.harness.run import apart
from draftbench.reports import files
from draftbench.reports.plots import Plot, draw_figures

MOST_KEPT = 8
"""Runs whose figures are kept."""
_FIGURES: dict[str, tuple[Plot, ...]] = {}


@pytest.fixture(autouse=True)
def reports_in_this_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that imports everything for each report takes longer than most tests; test_apart.py shows them."""
    if request.module.__name__ != "tests.unit.test_apart":
        monkeypatch.setattr(apart, "report", lambda folder: main(["report", "--", str(folder)]))


@pytest.fixture(autouse=True)
def equal_figures_are_drawn_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of a report's time goes into its figures, and most tests' runs are equal. Tests whose subject is that the
    same rows give the same bytes are marked `drawn_anew`."""
    if request.node.get_closest_marker("drawn_anew"):
        return
    png = Plot.png

    def drawn_once(rows: Any, first_stage: int | None = None) -> tuple[Plot, ...]:
        key = repr((tuple(rows), first_stage))
        if key not in _FIGURES:
            _FIGURES[key] = draw_figures(rows, first_stage)
        while len(_FIGURES) > MOST_KEPT:
            _FIGURES.pop(next(iter(_FIGURES)))
        return _FIGURES[key]

    def kept(plot: Plot) -> bytes:
        if "kept" not in vars(plot):
            vars(plot)["kept"] = png(plot)
        found: bytes = vars(plot)["kept"]
        return found

    monkeypatch.setattr(files, "draw_figures", drawn_once)
    monkeypatch.setattr(Plot, "png", kept)
