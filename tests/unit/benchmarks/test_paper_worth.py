"""What the paper's acceptance is worth: curves scaled to its lengths, the paper's own figures, suite and table."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
import yaml

from benchmarks.paper_worth import (
    MARK,
    METHODS,
    PROMPT_TOKENS,
    TREE,
    Paper,
    Trial,
    acceptance_length,
    over_steps,
    scaled,
    tables,
    tree_of,
)
from benchmarks.shapes import SHAPES
from draftbench.harness.models.find import num_parameters
from draftbench.harness.runtime.simulated import Chances, draw_lengths
from draftbench.harness.suite import load_suite

SETS = tuple(PROMPT_TOKENS)


def test_the_acceptance_length_counts_the_bonus_token_and_every_step_that_is_reached():
    """1 + 0.5 + 0.5·0.5 + 0.5·0.5·1."""
    assert acceptance_length([0.5, 0.5, 1.0]) == 2.0
    assert acceptance_length([]) == 1.0


@pytest.mark.parametrize("wanted", [1.0, 1.3, 3.14, 5.43, 6.9, 7.0])
def test_a_curve_is_scaled_to_any_length_that_its_steps_can_have(wanted: float):
    """Exactly, with every share at most 1, and in proportion as long as none is at 1."""
    curve = [0.95, 0.86, 0.79, 0.75, 0.73, 0.71]
    found = scaled(curve, wanted)
    assert acceptance_length(found) == pytest.approx(wanted, abs=1e-9)
    assert all(0 <= alpha <= 1 for alpha in found)
    ratios = [alpha / old for alpha, old in zip(found, curve, strict=True) if alpha < 1]
    assert all(one == pytest.approx(other) for one, other in pairwise(ratios))


@pytest.mark.parametrize(("curve", "wanted"), [([0.5, 0.5], 3.1), ([0.5, 0.5], 0.9), ([0.5, 0.0], 2.0)])
def test_what_no_scale_gives_is_refused(curve: list[float], wanted: float):
    """More than all steps, less than the bonus token, a step that is never accepted."""
    with pytest.raises(ValueError, match="no scale of"):
        scaled(curve, wanted)


def test_a_curve_is_cut_or_held_for_another_number_of_steps():
    """Shorter and longer than the artifact's."""
    assert over_steps([0.9, 0.8, 0.7], 2) == [0.9, 0.8]
    assert over_steps([0.9, 0.8], 4) == [0.9, 0.8, 0.8, 0.8]


@pytest.mark.parametrize(
    ("target", "means", "rounds_ms"),
    [("llama2-7b", (2.56, 2.75, 2.88), (16.7, 17.8)), ("llama3-8b", (2.07, 2.24, 2.43), (21.2, 22.2))],
)
def test_the_data_file_gives_the_papers_own_means(target: str, means: tuple[float, ...], rounds_ms: tuple[float, ...]):
    """Speedups over vanilla as the paper sums them up, and rounds that are alike for all methods."""
    paper = Paper.of(target)
    found = [fmean(paper.speedup(method, name) for name in SETS) for method in METHODS]
    assert [round(mean, 2) for mean in found] == list(means)
    times = [paper.round_ms(method, name) for method in METHODS for name in SETS]
    assert rounds_ms[0] <= min(times)
    assert max(times) <= rounds_ms[1]


@pytest.mark.parametrize("target", ["llama2-7b", "llama3-8b"])
def test_every_set_and_method_is_drawn_with_table_4s_length(target: str):
    """120 rounds, as a run of four blocks has, have the length wanted within 3%."""
    paper = Paper.of(target)
    for method in METHODS:
        for name in SETS:
            alphas = paper.alphas(method, name, 6)
            assert max(alphas) < 1
            chances = Chances(0, "cpu")
            ids = [f"request {block}" for block in range(4) for _ in range(30)]
            lengths = torch.cat([draw_lengths(torch.tensor(alphas), chances.next([name])) for name in ids]).double() + 1
            assert lengths.mean().item() == pytest.approx(paper.tau(method, name), rel=0.03)


def test_llama_2s_shape_has_its_parameters():
    """As published: 6,738,415,616."""
    assert num_parameters(SHAPES["llama2-7b"]) == 6_738_415_616


@pytest.mark.parametrize("tree", [TREE, (3, 4, 8), (7, 2, 10)])
def test_the_suite_is_one_that_bench_takes(tmp_path: Path, tree: tuple[int, int, int]):
    """One engine for each method, with acceptance by set."""
    trial = Trial("small", ("gsm8k", "cnn_dm"), tree, 2, 1, 16)
    if tree[0] == 3:
        with pytest.raises(ValueError, match="no scale of"):
            trial.suite()
        return
    trial.write_models(tmp_path)
    (tmp_path / "paper.yaml").write_text(yaml.safe_dump(trial.suite()))
    suite = load_suite(tmp_path / "paper.yaml")
    assert [arm.name for arm in suite.arms] == ["vanilla", *METHODS]
    alphas = suite.arms[3].simulated_acceptance
    assert isinstance(alphas, dict)
    assert acceptance_length(alphas["cnn_dm"]) == pytest.approx(4.17)
    modules = json.loads((tmp_path / "prism" / "config.json").read_text())["step_to_module"]
    assert modules == [0] + [1] * (tree[0] - 1)


def row(arm: str, workload: str, step_ms: float, **more: Any) -> dict[str, Any]:
    """As in results.json."""
    empty = {"acceptance_length": None, "speedup": None, "speedup_low": None, "speedup_high": None}
    empty |= {"step_cost_ratio": None, "valid": True, "reason": ""}
    return {"arm": arm, "workload": workload, **empty, "detail": {"decode_step_s": step_ms / 1000}, **more}


def test_the_table_has_our_figures_beside_the_papers():
    """Two sets of which the second is not done; invalid rows are struck through and in no mean, ours or the paper's."""
    trial = Trial("llama3-8b", ("mt_bench", "gsm8k"), TREE, 2, 1, 128)
    fast = {"acceptance_length": 4.2, "speedup": 2.5, "speedup_low": 2.4, "speedup_high": 2.6, "step_cost_ratio": 1.5}
    text = tables(
        trial,
        [
            row("vanilla", "mt_bench", 5.5),
            row("prism" + MARK, "mt_bench", 8.4, **fast),
            row("hass" + MARK, "mt_bench", 8.4, valid=False, reason="it failed"),
            row("eagle-2" + MARK, "mt_bench", 8.4, **fast),
            row("eagle-2" + MARK, "gsm8k", 8.4, **{**fast, "speedup": 9.0}, valid=False, reason="no"),
            row("prism" + MARK, "gsm8k", 8.4, speedup=3.5),
        ],
    )
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "| " in line][1:]
    shown = ["mt_bench", "PRISM" + MARK, "4.29", "4.20", "2.50 [2.40, 2.60]", "2.86", "2.35", "8.40", "1.50", "21.29"]
    assert [*shown, "1.82"] in cells
    struck = [
        "mt_bench",
        "HASS" + MARK,
        "3.93",
        "~~–~~",
        "~~–~~",
        "~~–~~",
        "2.11",
        "~~8.40~~",
        "~~–~~",
        "21.77",
        "1.86",
    ]
    assert struck in cells
    means = {line[1]: line for line in cells if line[0].startswith("mean")}
    assert set(means) == {"EAGLE-2" + MARK, "PRISM" + MARK}
    prism, eagle = means["PRISM" + MARK], means["EAGLE-2" + MARK]
    assert (prism[0], prism[4]) == ("mean of 2", "3.00")
    assert (eagle[0], eagle[4], eagle[6]) == ("mean of 1", "2.50", "1.96")
    assert "Not valid: hass (simulated acceptance), mt_bench: it failed." in text
    assert "Vanilla's step: 5.50 to 5.50 ms" in text
    assert all("simulated acceptance" in line[1] for line in cells if line[0] in ("mt_bench", "gsm8k"))


def test_a_tree_is_read_as_three_numbers():
    """Steps, branches, tokens."""
    assert tree_of("6,10,60") == (6, 10, 60)
    with pytest.raises(ValueError, match="unpack"):
        tree_of("6,10")
