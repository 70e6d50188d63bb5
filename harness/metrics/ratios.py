"""Two arms compared: log ratios of throughput within blocks, intervals by Student's t, and a verdict in words.

Launch > block > prompt: a launch starts every engine anew, and what it draws (memory layout, affinity) stays with it,
so blocks of one launch are no independent repetitions. From three launches on the unit is the launch; with fewer the
interval holds within these launches only, and says so. Where a suite's prompts are a sample, the spread between prompts
adds to the variance, by the delta method for a ratio of sums.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev, variance

from draftbench.harness.records import ENDPOINT

BlockKey = tuple[int, int]
"""Launch and block."""
MIN_LAUNCHES = 3
"""With fewer, launch effects are unknown: the interval holds within the launches that there were."""
CONFIDENCE = 0.95
WIDEST = 4.0
"""Ends of an interval that are further apart than this factor say nothing: half as fast and twice as fast are in it."""
UNTOLD, IF_KNOWN = {"told": "never"}, {"told": "if known"}
"""Of fields that results.json leaves out, always or where they are None."""
AGAINST_BASELINE = {"against": "baseline"}
"""Of fields that say nothing where the baseline does not count."""


@dataclass(frozen=True)
class Ratio:
    """A geometric mean of ratios with its 95% interval, where there is one, and what the interval is over.

    `units` are the log ratios that the interval is made from: one a launch, or one a block.
    """

    value: float
    low: float | None
    high: float | None
    scope: str
    units: tuple[float, ...] = field(default=(), metadata=UNTOLD)

    def over(self, *architectures: str) -> str:
        """What the interval is over, in words; launches do not start an endpoint anew."""
        return self.scope + (", one start of the endpoint" if ENDPOINT in architectures else "")


@dataclass(frozen=True)
class Against:
    """A row held against another one of its point.

    Attributes:
        ratio: of what is larger the faster an arm is, with its interval, where there is one.
        log_ratios: that the interval is made from.
        verdict: in words.
    """

    ratio: float
    low: float | None
    high: float | None
    scope: str
    log_ratios: tuple[float, ...]
    verdict: str

    @property
    def is_clear(self) -> bool:
        """Whether a difference is shown: the interval leaves 1 out."""
        return self.low is not None and self.high is not None and not self.low <= 1 <= self.high


@dataclass(frozen=True)
class Work:
    """What one prompt cost at concurrency 1, summed over blocks: tokens delivered and seconds taken."""

    num_tokens: int
    time_s: float


@dataclass(frozen=True)
class VarianceComponent:
    """A part of a mean's variance, with its degrees of freedom."""

    variance: float
    freedom: int


def compare(
    arm: Mapping[BlockKey, float],
    other: Mapping[BlockKey, float],
    prompts: VarianceComponent | None = None,
    first_stage: int | None = None,
) -> Ratio | None:
    """The ratio of two arms' figures of the same blocks; None without a common block.

    Args:
        prompts: what the choice of prompts adds to the log ratio's variance, where they are a sample.
        first_stage: launches from which the total number was chosen (`launches_needed`); the spread is theirs alone.
    """
    shared = sorted(set(arm) & set(other))
    if not shared:
        return None
    logs = {key: math.log(arm[key] / other[key]) for key in shared}
    launches = sorted({launch for launch, _ in shared})
    if len(launches) >= MIN_LAUNCHES:
        units = [fmean(value for (launch, _), value in logs.items() if launch == wanted) for wanted in launches]
        seen = units[:first_stage]
        scope = f"over {len(launches)} launches"
    else:
        units = seen = list(logs.values())
        scope = "within one launch" if len(launches) == 1 else f"over blocks of {len(launches)} launches"
    centre, half = fmean(units), None
    if len(units) > 1:
        own = VarianceComponent(variance(seen) / len(units), len(seen) - 1)
        half = half_width([own] if prompts is None else [own, prompts])
        scope += "" if prompts is None else ", for prompts like these"
    if half is None:
        return Ratio(math.exp(centre), None, None, scope, tuple(units))
    return Ratio(math.exp(centre), math.exp(centre - half), math.exp(centre + half), scope, tuple(units))


def too_few(low: float | None, high: float | None, scope: str = "") -> str | None:
    """What is said in place of an interval that is too wide to say anything: `too few blocks`; None where it does."""
    if low is None or high is None or (low > 0 and high / low <= WIDEST):
        return None
    return "too few launches" if scope.startswith("over ") and "blocks" not in scope else "too few blocks"


def half_width(parts: Sequence[VarianceComponent]) -> float:
    """Half of the interval around a mean whose variance is the sum of parts (degrees of freedom by Satterthwaite)."""
    from scipy.stats import t

    total = sum(part.variance for part in parts)
    if total == 0:
        return 0.0
    freedom = total**2 / sum(part.variance**2 / part.freedom for part in parts)
    return float(t.ppf((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(total)


def prompt_part(arm: Mapping[str, Work], other: Mapping[str, Work]) -> VarianceComponent | None:
    """Variance of the log ratio of two throughputs from the choice of prompts; None with fewer than two prompts.

    A throughput is a sum of tokens over a sum of seconds; each prompt moves its logarithm by its tokens' excess over
    the mean less its time's, both as a share of the mean.
    """
    shared = sorted(set(arm) & set(other))
    if len(shared) < 2:
        return None
    moves = [ours - theirs for ours, theirs in zip(_moves(arm, shared), _moves(other, shared), strict=True)]
    return VarianceComponent(variance(moves) / len(moves), len(moves) - 1)


def _moves(work: Mapping[str, Work], prompts: Sequence[str]) -> list[float]:
    tokens = fmean(work[prompt].num_tokens for prompt in prompts)
    time_s = fmean(work[prompt].time_s for prompt in prompts)
    return [work[prompt].num_tokens / tokens - work[prompt].time_s / time_s for prompt in prompts]


def verdict(arm: str, other: str, ratio: Ratio) -> str:
    """What an interval says: which is faster and by how much, or how large a difference it leaves room for.

    Args:
        ratio: of figures that are larger the faster an arm is.
    """
    if ratio.low is None or ratio.high is None:
        return f"{arm} against {other}: {percent(ratio.value)}, without an interval"
    lack = too_few(ratio.low, ratio.high, ratio.scope)
    if ratio.low > 1 and lack:
        return f"{arm} is faster than {other}, {lack} to say by how much"
    if ratio.low > 1:
        return f"{arm} is faster than {other} by {percent(ratio.value)} [{percent(ratio.low)}, {percent(ratio.high)}]"
    if ratio.high < 1:
        return verdict(other, arm, Ratio(1 / ratio.value, 1 / ratio.high, 1 / ratio.low, ratio.scope))
    if lack:
        return f"no difference shown between {arm} and {other}: {lack}"
    return f"no difference shown between {arm} and {other}, at most {percent(max(ratio.high, 1 / ratio.low))}"


def percent(ratio: float) -> str:
    """1.063 as 6.3%; whole numbers from 10% on; from ten times on the factor, 12x."""
    if ratio >= 10:
        return f"{ratio:.0f}x"
    change = 100 * (ratio - 1)
    return f"{change:.0f}%" if abs(change) >= 10 else f"{change:.1f}%"


def launches_needed(first: Sequence[Sequence[float]], half_width: float) -> int:
    """Launches after which every interval is as narrow as wanted, from those of a first stage.

    The final interval takes its spread from the first stage too, which makes it exact; taking it from all launches, or
    stopping as soon as an interval looks narrow enough, would not.
    Source: C. Stein, A two-sample test for a linear hypothesis whose power is independent of the variance, 1945.

    Args:
        first: for each comparison the log ratio of every launch of the first stage, two or more.
        half_width: wanted half of the interval of a log ratio.
    """
    from scipy.stats import t

    needed = max(len(found) for found in first)
    for found in first:
        reach = float(t.ppf((1 + CONFIDENCE) / 2, len(found) - 1)) * stdev(found) / half_width
        needed = max(needed, math.ceil(reach**2))
    return needed
