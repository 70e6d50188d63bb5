"""The two-sample test of sampled continuations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from harness.metrics import gates
from harness.metrics.distribution import same_distribution
from harness.metrics.evidence import ArmInfo


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
    vanilla = ArmInfo(name="vanilla", architecture="vanilla")
    arm = ArmInfo(name="eagle", architecture="eagle", engine=engine, server_args=resolved)
    found = list(gates.lossy_setting(arm, vanilla, greedy=False))
    assert [each.evidence for each in found] == ([] if evidence is None else [evidence])
    assert all(each.severity == "invalid" for each in found)
    assert list(gates.lossy_setting(arm, vanilla, greedy=True)) == []
    assert list(gates.lossy_setting(arm, arm, greedy=False)) == [each for each in found if "threshold" in each.evidence]


def test_thresholds_mean_nothing_without_a_draft_and_vanillas_own_precision_counts() -> None:
    """Vanilla verifies nothing. If it alone is quantized, every other arm has another target."""
    engine = {"speculative_accept_threshold_single": 0.3, "quantization": "fp8"}
    vanilla = ArmInfo(name="vanilla", architecture="vanilla", engine=engine)
    assert list(gates.lossy_setting(vanilla, vanilla, greedy=False)) == []
    arm = ArmInfo(name="eagle", architecture="eagle")
    (found,) = gates.lossy_setting(arm, vanilla, greedy=False)
    assert found.evidence == "quantization: None (vanilla: fp8)"
    assert list(gates.lossy_setting(arm, None, greedy=False)) == []


def test_continuations_that_could_not_be_compared_are_told() -> None:
    """No samples, or only one outcome, show nothing; greedy rows and vanilla need none."""
    assert [found.gate for found in gates.other_distribution(None, expected=True)] == ["untested distribution"]
    assert list(gates.other_distribution(None)) == []
