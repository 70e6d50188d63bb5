"""The two-sample test of sampled continuations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from harness.metrics import gates
from harness.metrics.distribution import same_distribution


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
    assert found.p < gates.LEAST_P
    assert next(iter(gates.other_distribution(found))).gate == "other distribution"


def test_continuations_that_could_not_be_compared_are_told() -> None:
    """No samples, or only one outcome, show nothing; greedy rows and vanilla need none."""
    assert [found.gate for found in gates.other_distribution(None, expected=True)] == ["untested distribution"]
    assert list(gates.other_distribution(None)) == []
