"""Intervals and verdicts hold what they promise: simulated studies with known effects of launch, block and prompt."""

from __future__ import annotations

import math

import numpy as np
import pytest

from draftbench.harness.metrics.ratios import Ratio, Work, compare, launches_needed, percent, prompt_part, verdict

NUM_STUDIES = 2000
TRUTH = math.log(1.1)
BLOCK_SD, NOISE_SD = 0.01, 0.02


def study(
    draw: np.random.Generator, launch_sd: float, num_launches: int, num_blocks: int = 3, truth: float = TRUTH
) -> tuple[dict[tuple[int, int], float], dict[tuple[int, int], float]]:
    """Two arms' throughputs. What a launch and a block draw is each arm's own; drift within a block both share."""
    arms: list[dict[tuple[int, int], float]] = [{}, {}]
    for launch in range(num_launches):
        own = draw.normal(0, launch_sd, 2)
        for block in range(num_blocks):
            shared = draw.normal(0, 0.05)
            for index, figures in enumerate(arms):
                log = (truth if index == 0 else 0.0) + own[index] + shared + draw.normal(0, BLOCK_SD)
                figures[(launch, block)] = 100 * math.exp(log)
    return arms[0], arms[1]


def coverage(launch_sd: float, num_launches: int, num_blocks: int = 3) -> float:
    """Share of studies whose interval holds the truth."""
    draw = np.random.default_rng(7)
    hits = 0
    for _ in range(NUM_STUDIES):
        found = compare(*study(draw, launch_sd, num_launches, num_blocks))
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= math.exp(TRUTH) <= found.high
    return hits / NUM_STUDIES


@pytest.mark.parametrize("launch_sd", [0.0, 0.01, 0.02])
@pytest.mark.parametrize("num_launches", [3, 5])
def test_intervals_over_launches_hold_the_truth(launch_sd: float, num_launches: int) -> None:
    """92 to 98% of the 95% intervals do, however strong the launches' own effects are."""
    assert 0.92 <= coverage(launch_sd, num_launches) <= 0.98


def test_within_one_launch_is_said_for_a_reason() -> None:
    """With a launch effect of 1% the blocks of one launch give intervals that miss the truth, more blocks the more."""
    assert coverage(0.01, 1, 5) < 0.85
    assert coverage(0.01, 1, 20) < coverage(0.01, 1, 5) - 0.1
    found = compare(*study(np.random.default_rng(0), 0.01, 1))
    assert found is not None
    assert found.scope == "within one launch"


@pytest.mark.parametrize("launch_sd", [0.0, 0.01, 0.02])
def test_equal_arms_are_seldom_called_different(launch_sd: float) -> None:
    """At most 6.5% of the verdicts on two equal arms name a faster one."""
    draw = np.random.default_rng(3)
    wrong = 0
    for _ in range(NUM_STUDIES):
        found = compare(*study(draw, launch_sd, 3, truth=0.0))
        assert found is not None
        wrong += "no difference shown" not in verdict("a", "b", found)
    assert wrong / NUM_STUDIES <= 0.065


@pytest.mark.parametrize("launch_sd", [0.0, 0.01, 0.02])
def test_prompts_that_are_a_sample_widen_the_interval(launch_sd: float) -> None:
    """The interval holds the ratio of the population that the prompts were drawn from, 92 to 98 times of 100."""
    draw = np.random.default_rng(11)
    num_prompts, num_launches, num_blocks = 20, 4, 2
    hits = narrow = 0
    for _ in range(NUM_STUDIES):
        base = draw.gamma(4, 1.0, num_prompts)
        # Each prompt has a speedup of its own; the truth is the ratio of the expected times.
        gain = np.exp(draw.normal(0, 0.15, num_prompts) - 0.15**2 / 2) / math.exp(TRUTH)
        arms: list[dict[tuple[int, int], float]] = [{}, {}]
        work: list[dict[str, Work]] = [{}, {}]
        times = [np.zeros(num_prompts), np.zeros(num_prompts)]
        for launch in range(num_launches):
            own = draw.normal(0, launch_sd, 2)
            for block in range(num_blocks):
                for index in range(2):
                    spent = (
                        base
                        * (gain if index == 0 else 1.0)
                        * np.exp(own[index] + draw.normal(0, NOISE_SD, num_prompts))
                    )
                    arms[index][(launch, block)] = 100 * num_prompts / spent.sum()
                    times[index] += spent
        for index in range(2):
            work[index] = {str(p): Work(100, float(times[index][p])) for p in range(num_prompts)}
        found = compare(arms[0], arms[1], prompt_part(work[0], work[1]))
        fixed = compare(arms[0], arms[1])
        assert found is not None
        assert fixed is not None
        hits += (found.low or 0) <= math.exp(TRUTH) <= (found.high or 0)
        narrow += (fixed.low or 0) <= math.exp(TRUTH) <= (fixed.high or 0)
    assert 0.92 <= hits / NUM_STUDIES <= 0.98
    assert narrow / NUM_STUDIES < hits / NUM_STUDIES


@pytest.mark.parametrize("launch_sd", [0.005, 0.01, 0.02])
def test_choosing_the_number_of_launches_keeps_the_error_rate(launch_sd: float) -> None:
    """`blocks: auto` looks once, after five launches; its intervals are as narrow as asked and still hold the truth."""
    draw, wanted = np.random.default_rng(5), 0.015
    hits, widths, wrong = 0, [], 0
    for _ in range(NUM_STUDIES):
        truth = TRUTH if draw.random() < 0.5 else 0.0
        own = draw.normal(truth, math.hypot(launch_sd * math.sqrt(2), BLOCK_SD), 400)
        count = launches_needed([own[:5].tolist()], wanted)
        ratios = {(launch, 0): math.exp(value) for launch, value in enumerate(own[:count])}
        found = compare(ratios, dict.fromkeys(ratios, 1.0), first_stage=5)
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= math.exp(truth) <= found.high
        wrong += truth == 0 and "no difference shown" not in verdict("a", "b", found)
        widths.append(math.log(found.high / found.low) / 2)
    assert 0.92 <= hits / NUM_STUDIES <= 0.98
    assert wrong / NUM_STUDIES <= 0.065 / 2
    assert max(widths) <= wanted + 1e-9


def test_prompts_work_by_hand() -> None:
    """Times 1 and 3 against 2 and 2 at equal tokens: the prompts move the log ratio by +0.5 and -0.5."""
    ours = {"a": Work(10, 1.0), "b": Work(10, 3.0)}
    theirs = {"a": Work(10, 2.0), "b": Work(10, 2.0)}
    part = prompt_part(ours, theirs)
    assert part is not None
    assert part.variance == pytest.approx(0.25)
    assert part.freedom == 1
    assert prompt_part({"a": Work(1, 1.0)}, theirs) is None


def test_verdicts_read_as_sentences() -> None:
    """The faster one is named first; an interval around 1 says how much room it leaves."""
    assert verdict("prism", "eagle", Ratio(1.06, 1.03, 1.09, "")) == "prism is faster than eagle by 6.0% [3.0%, 9.0%]"
    slower = verdict("prism", "eagle", Ratio(0.8, 0.75, 0.85, ""))
    assert slower == "eagle is faster than prism by 25% [18%, 33%]"
    level = verdict("a", "b", Ratio(1.0, 0.97, 1.02, ""))
    assert level == "no difference shown between a and b, at most 3.1%"
    assert verdict("a", "b", Ratio(1.1, None, None, "")) == "a against b: 10%, without an interval"


@pytest.mark.parametrize("logs", [(7.1, -7.0), (0.9, -0.9)])
def test_two_blocks_that_say_nothing_are_too_few(logs: tuple[float, float]) -> None:
    """Their interval reaches from a thousandth to a thousand times: nobody is told `at most 25413%`."""
    found = compare({(0, at): math.exp(log) for at, log in enumerate(logs)}, {(0, 0): 1.0, (0, 1): 1.0})
    assert found is not None
    assert found.high is not None
    assert found.high > 100
    assert verdict("a", "b", found) == "no difference shown between a and b: too few blocks"


def test_a_wide_interval_that_leaves_1_out_shows_a_difference_but_not_its_size() -> None:
    """Over launches it is launches that are too few."""
    found = Ratio(9.0, 1.5, 54.0, "over 3 launches")
    assert verdict("a", "b", found) == "a is faster than b, too few launches to say by how much"
    slower = Ratio(1 / 9, 1 / 54, 1 / 1.5, "over blocks of 2 launches")
    assert verdict("a", "b", slower) == "b is faster than a, too few blocks to say by how much"


def test_a_large_ratio_is_told_as_a_factor() -> None:
    """Thousands of percent are no figure to read."""
    assert percent(12.4) == "12x"
    assert percent(1.12) == "12%"
