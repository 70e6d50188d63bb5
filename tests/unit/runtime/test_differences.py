"""Unequal values are told by the parts that differ, at a length that one reads."""

from __future__ import annotations

import json
from pathlib import Path

from draftbench.harness.runtime.differences import differences

RECORDED = json.loads((Path(__file__).parent / "recorded_h200.json").read_text())


def test_plain_values_are_shown_whole_with_the_arms_that_have_them() -> None:
    """Arms of one mind are named together."""
    assert list(differences("page_size", {"a": 1, "b": 1})) == []
    assert list(differences("page_size", {"a": 1, "b": 64, "c": 1})) == ["page_size differs: 1 (a, c), 64 (b)"]
    assert list(differences("backend", {"a": "fa3", "b": None})) == ["backend differs: 'fa3' (a), None (b)"]


def test_what_an_h200_recorded_is_told_in_a_line() -> None:
    """Two configurations of some 2,000 characters, alike but for one list in one of them."""
    values = {arm: found["cuda_graph_config"] for arm, found in RECORDED["resolved"].items()}
    assert all(len(value) > 500 for value in values.values())
    assert list(differences("cuda_graph_config", values)) == [
        "cuda_graph_config.decode.bs differs: [1, 2, 4, 8, 12, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96,… (vanilla), "
        "[1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26,… (eagle, ngram)"
    ]


def test_every_part_that_differs_is_told() -> None:
    """Keywords, dictionaries and what only one of them has."""
    values = {"a": "C(x=P(n=1, m=[1]), y=2)", "b": "C(x=P(n=2, m=[1]), y={'k': 3, 'l': 4})"}
    assert list(differences("config", values)) == [
        "config.x.n differs: 1 (a), 2 (b)",
        "config.y differs: 2 (a), nothing (b)",
        "config.y['k'] differs: nothing (a), 3 (b)",
        "config.y['l'] differs: nothing (a), 4 (b)",
    ]


def test_long_values_are_shown_from_shortly_before_they_part() -> None:
    """Beginning and end are cut, and so is text that is no Python."""
    ones = ", ".join("1" * 40)
    found = list(differences("sizes", {"a": f"[{ones}, 2]", "b": f"[{ones}, 3, 4]"}))
    assert found == ["sizes differs: … 1, 1, 1, 1, 1, 2] (a), … 1, 1, 1, 1, 1, 3, 4] (b)"]
    path = "/models/" + "x" * 100
    [text] = differences("path", {"a": f"{path}/one/" + "y" * 100, "b": f"{path}/two"})
    assert text == f"path differs: …{'x' * 15}/one/{'y' * 40}… (a), …{'x' * 15}/two' (b)"
