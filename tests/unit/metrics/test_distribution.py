"""The two-sample test of sampled continuations."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from draftbench.harness.metrics.distribution import SHARE_OF_FIRST, same_distribution, same_odds
from draftbench.harness.metrics.gates.target_outputs import (
    LEAST_P,
    LOSSY_SETTING,
    UNTESTED_DISTRIBUTION,
    lossy_setting,
    other_distribution,
)
from tests.fakes.healthy import Shape, healthy
from tests.fakes.known import known, receipt


def drawn(draw: np.random.Generator, weights: list[float], count: int = 40) -> list[tuple[int, ...]]:
    return [(int(token),) for token in draw.choice(len(weights), count, p=weights)]


def test_it_is_the_textbook_statistic() -> None:
    """On one prompt with frequent outcomes the result is scipy's."""
    ours, theirs = [(1,)] * 30 + [(2,)] * 10, [(1,)] * 18 + [(2,)] * 22
    found = same_distribution({"p": ours}, {"p": theirs})
    wanted = chi2_contingency([[30, 18], [10, 22]], correction=False)
    assert found is not None
    assert found.p == pytest.approx(wanted.pvalue)
    assert (found.freedom, found.num_samples) == (1, 40)
    assert same_distribution({"p": [(1,)] * 40}, {"p": [(1,)] * 40}) is None
    assert same_distribution({}, {}) is None


def test_equal_samplers_pass_and_others_do_not() -> None:
    """Of 400 equal pairs about 5% have p under 0.05; a sampler that prefers one token by 20 points is found."""
    draw = np.random.default_rng(1)
    weights = [0.5, 0.3, 0.1, 0.05, 0.03, 0.02]
    values = []
    for _ in range(400):
        ours, theirs = ({str(prompt): drawn(draw, weights) for prompt in range(6)} for _ in range(2))
        found = same_distribution(ours, theirs)
        assert found is not None
        values.append(found.p)
    assert 0.02 <= float(np.mean(np.array(values) < 0.05)) <= 0.09
    greedy = {str(prompt): drawn(draw, [0.7, 0.15, 0.07, 0.04, 0.02, 0.02]) for prompt in range(6)}
    found = same_distribution(greedy, theirs)
    assert found is not None
    assert found.p < LEAST_P
    assert list(other_distribution(found)) == [f"{found.num_samples} continuations: p = {found.p:.2g}"]


@pytest.mark.parametrize(
    ("engine", "resolved", "evidence"),
    [
        ({"speculative_accept_threshold_single": 0.3}, {}, "speculative_accept_threshold_single: 0.3"),
        ({}, {"speculative_accept_threshold_single": 0.99}, "speculative_accept_threshold_single: 0.99"),
        ({"speculative_accept_threshold_acc": 0.5}, {}, "speculative_accept_threshold_acc: 0.5"),
        ({"speculative_accept_threshold_acc": 1.5}, {}, "speculative_accept_threshold_acc: 1.5"),
        ({"kv_cache_dtype": "fp8_e5m2"}, {}, "kv_cache_dtype: fp8_e5m2 (vanilla: None)"),
        ({"quantization": "fp8"}, {"quantization": "fp8"}, "quantization: fp8 (vanilla: None)"),
        ({"speculative_accept_threshold_single": 1.0}, {"speculative_accept_threshold_acc": 1.0}, None),
        ({"mem_fraction_static": 0.5, "speculative_token_map": "map.pt"}, {}, None),
        ({}, {"kv_cache_dtype": "auto"}, None),
    ],
)
def test_settings_that_are_known_to_be_lossy_are_struck_out_by_name(
    engine: dict[str, Any], resolved: dict[str, Any], evidence: str | None
) -> None:
    """By the suite or by the receipt, whatever the sampling test says; greedy rows are held token by token."""
    vanilla = known("vanilla", "vanilla")
    arm = known("eagle", "eagle", receipt(**resolved), engine=engine)
    found = list(lossy_setting(arm, vanilla, greedy=False))
    assert found == ([] if evidence is None else [evidence])
    assert LOSSY_SETTING.severity == "invalid"
    assert list(lossy_setting(arm, vanilla, greedy=True)) == []
    assert list(lossy_setting(arm, arm, greedy=False)) == [each for each in found if "threshold" in each]


def test_thresholds_mean_nothing_without_a_draft_and_vanillas_own_precision_counts() -> None:
    """Vanilla verifies nothing. If it alone is quantized, every other arm has another target."""
    engine = {"speculative_accept_threshold_single": 0.3, "quantization": "fp8"}
    vanilla = known("vanilla", "vanilla", engine=engine)
    assert list(lossy_setting(vanilla, vanilla, greedy=False)) == []
    arm = known("eagle", "eagle")
    assert list(lossy_setting(arm, vanilla, greedy=False)) == ["quantization: None (vanilla: fp8)"]
    assert list(lossy_setting(arm, None, greedy=False)) == []


def test_continuations_that_could_not_be_compared_are_told() -> None:
    """No samples, or only one outcome, show nothing; greedy rows and vanilla need none."""
    study = healthy(Shape(temperature=1.0), random.Random(0))
    study.samples.clear()
    assert UNTESTED_DISTRIBUTION.name in study.findings("eagle")
    assert UNTESTED_DISTRIBUTION.name not in study.findings("vanilla")
    assert UNTESTED_DISTRIBUTION.name not in healthy(Shape(), random.Random(0)).findings("eagle")
    assert list(other_distribution(None)) == []


QUESTIONS, SAMPLES, WORDS = 4, 60, 8
"""As every arm is asked (harness/run/samples.py); words that can follow."""


def continuations(
    draw: np.random.Generator, sharpness: float, threshold: float
) -> tuple[dict[str, list[tuple[int, ...]]], dict[str, list[tuple[int, ...]]]]:
    """Three tokens of each question from a target, and from a lossy arm: its draft always proposes the best token, and
    verification takes that wherever the target gives it the threshold or more. The first token is the prefill's."""
    honest, lossy = {}, {}
    for question in range(QUESTIONS):
        true, taken = np.ones(1), np.ones(1)
        for place in range(3):
            best_C = np.maximum(draw.beta(sharpness, 1, true.size), 1 / WORDS)[:, None]
            rest_CV = draw.dirichlet([0.5] * (WORDS - 1), true.size) * (1 - best_C)
            next_CV = np.hstack([best_C, rest_CV])
            sure_CV = np.where((best_C >= threshold) & (place > 0), np.eye(WORDS)[0], next_CV)
            true, taken = (true[:, None] * next_CV).ravel(), (taken[:, None] * sure_CV).ravel()
        for samples, chances in ((honest, true), (lossy, taken)):
            chosen = draw.choice(chances.size, SAMPLES, p=chances / chances.sum())
            samples[str(question)] = [(int(outcome),) for outcome in chosen]
    return honest, lossy


def found_share(sharpness: float, threshold: float, level: float = LEAST_P, runs: int = 300) -> float:
    """Of so many runs with new targets, the share in which the test finds a difference."""
    draw, count = np.random.default_rng(7), 0
    for _ in range(runs):
        found = same_distribution(*continuations(draw, sharpness, threshold))
        count += found is not None and found.p < level
    return count / runs


def test_what_the_first_tokens_alone_can_find() -> None:
    """With targets that give their best token two thirds, or five sixths, on average, a threshold of 0.3 is found
    nearly always, one of 0.8 hardly ever; vanilla against itself is as often called different as the level says.
    """
    for sharpness, threshold, least, most in (
        (2, 0.3, 0.98, 1.00), (2, 0.5, 0.65, 0.85), (2, 0.8, 0.00, 0.03), (5, 0.3, 0.98, 1.00),
        (5, 0.5, 0.90, 1.00), (5, 0.8, 0.15, 0.32),
    ):  # fmt: skip
        assert least <= found_share(sharpness, threshold) <= most, (sharpness, threshold)
    assert 0.02 <= found_share(2, 2.0, level=0.05) <= 0.08
    assert found_share(2, 2.0) <= 0.01


POSITIONS = [
    [np.array(continuation).reshape(-1, 2) for continuation in question]
    for question in json.loads((Path(__file__).parent / "tiny_target_odds.json").read_text())["positions"]
]
"""By question and continuation: the probabilities that the tiny target gave its best two tokens [tokens, 2]."""
DRAFTED = 0.6
"""Share of places at which the draft proposes the best token: EAGLE's chains with one wrong token in five, or fewer."""
Scored = dict[str, list[list[tuple[float, float, float]]]]


def scored_continuations(draw: np.random.Generator, threshold: float) -> Scored:
    """As the target scores the samples of an arm whose verification takes a drafted token from a threshold on."""
    found: Scored = {}
    for question, recorded in enumerate(POSITIONS):
        found[str(question)] = []
        for chosen in draw.integers(len(recorded), size=SAMPLES):
            best, second = recorded[chosen].T
            forced = (draw.random(best.size) < DRAFTED) & (best >= threshold)
            hit = forced | (draw.random(best.size) < best)
            next_best = draw.random(best.size) < second / np.maximum(1 - best, np.maximum(second, 1e-9))
            own = np.where(hit, best, np.where(next_best, second, second / 3))
            first = (0.0, 0.0, -1.0)  # the prefill's
            odds = np.log(np.maximum([own, best, second], 1e-6)).T
            found[str(question)].append([first, *map(tuple, odds.tolist())])
    return found


def p_values(threshold: float, runs: int, exact: bool) -> np.ndarray:
    draw, found = np.random.default_rng(3), []
    for _ in range(runs):
        test = same_odds(scored_continuations(draw, threshold), scored_continuations(draw, 2.0), exact=exact)
        assert test is not None
        found.append(test.p)
    return np.array(found)


@pytest.mark.parametrize("exact", [True, False])
def test_a_threshold_of_four_fifths_is_found_and_vanilla_is_its_own_equal(exact: bool) -> None:
    """At the gate's level in 99 of 100 runs, and so is a lower threshold; vanilla is called different as often as the
    level says."""
    level = LEAST_P * (1 - SHARE_OF_FIRST)
    assert np.mean(p_values(0.8, 100, exact) < level) >= 0.99
    assert np.mean(p_values(0.5, 40, exact) < level) == 1
    equal = p_values(2.0, 250, exact)
    assert 0.02 <= np.mean(equal < 0.05) <= 0.08
    assert np.mean(equal < LEAST_P) <= 0.01


def test_where_vanilla_is_off_too_the_two_are_compared() -> None:
    """Probabilities that are not those of the samples, as with top_p, make no arm different."""
    draw = np.random.default_rng(5)
    lossy, arm, vanilla = (scored_continuations(draw, threshold) for threshold in (0.5, 0.8, 0.8))
    equal, other = same_odds(arm, vanilla, exact=True), same_odds(lossy, vanilla, exact=True)
    assert equal == same_odds(arm, vanilla)
    assert equal is not None
    assert other is not None
    assert other.p < LEAST_P < 0.01 < equal.p


def test_both_tests_count_and_what_they_need_is_told() -> None:
    """Equal words cannot hide odds that differ; without the target's scores the first test stands alone, as before."""
    draw = np.random.default_rng(0)
    words = {str(question): drawn(draw, [0.5, 0.3, 0.2], SAMPLES) for question in range(QUESTIONS)}
    lossy, honest = scored_continuations(draw, 0.8), scored_continuations(draw, 2.0)
    alone, both = same_distribution(words, words), same_distribution(words, words, lossy, honest)
    assert alone is not None
    assert both is not None
    assert (alone.p, alone.num_tokens) == (1.0, None)
    assert both.p < LEAST_P
    assert both.num_tokens == sum(len(each) - 1 for odds in lossy.values() for each in odds)
    assert same_distribution(words, words, lossy, {}) == alone
    sure = {"0": [[(0.0, 0.0, -9.0)] * 4] * 3}
    assert same_odds(sure, sure) is None
    assert same_odds({"0": [[(0.0, 0.0, -9.0)]]}, sure) is None
