"""Whether sampled continuations are distributed as vanilla's: two tests on continuations of several prompts.

The first looks at what was said: a two-sample χ² test of the first tokens. It finds gross faults, but few tokens of it
are verification's. The second looks at every token that verification decided, whatever the text before it: whether it
is the target's best, or second best, as often as the target's probabilities say, where the target is sure and where it
is not. What is accepted too easily is too often the best token.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from draftbench.harness.metrics.ratios import IF_KNOWN

if TYPE_CHECKING:
    import numpy as np

RARE = 5
"""Outcomes that are expected less often than this on either side are counted as one."""
FIRST_TOKENS, SHARE_OF_FIRST = 3, 0.1
"""Of a continuation, what the first test compares; and of the chance to be wrong, what that test may use."""
SURE = (0.5, 0.8, 0.95)
"""Edges of the target's probability of its best token, between which tokens are counted apart."""
LEAST_P = 0.001
"""Vanilla is farther from the target's probabilities than this only where they are not those that it sampled from."""
Outcome = tuple[int, ...]
Odds = tuple[float, float, float]
"""A token's log-probability, the best one's and the second best one's, as the target scores them."""


@dataclass(frozen=True)
class SameDistribution:
    """Result of the tests; p is the chance of a difference at least this large between equal samplers.

    Attributes:
        num_samples: continuations of the arm.
        num_tokens: of these, those that verification decided and the target scored; None where it scored none.
    """

    p: float
    freedom: int
    num_samples: int
    num_tokens: int | None = field(default=None, metadata=IF_KNOWN)


@dataclass(frozen=True)
class Chi2:
    """A statistic with its degrees of freedom, and how many things it is from."""

    statistic: float
    freedom: int
    count: int

    @property
    def p(self) -> float:
        """The chance of so much or more."""
        from scipy.stats import chi2

        return float(chi2.sf(self.statistic, self.freedom))


def same_distribution(
    ours: Mapping[str, Sequence[Outcome]],
    theirs: Mapping[str, Sequence[Outcome]],
    our_odds: Mapping[str, Sequence[Sequence[Odds]]] | None = None,
    their_odds: Mapping[str, Sequence[Sequence[Odds]]] | None = None,
    exact: bool = False,
) -> SameDistribution | None:
    """Compare an arm's continuations with vanilla's.

    Args:
        ours: continuations by prompt.
        our_odds: what the target makes of each of their tokens, by prompt.
        exact: as `same_odds`.

    Returns:
        None if there is nothing to tell apart: no prompt has two outcomes that are frequent enough, and every token is
        the target's best.
    """
    scored = [p for p in ours if p in theirs and p in (our_odds or {}) and p in (their_odds or {})]
    own, others = ({prompt: (side or {})[prompt] for prompt in scored} for side in (our_odds, their_odds))
    said, verified = same_words(ours, theirs), same_odds(own, others, exact)
    if said is not None and verified is not None:
        p = min(1.0, said.p / SHARE_OF_FIRST, verified.p / (1 - SHARE_OF_FIRST))
    elif (only := said or verified) is not None:
        p = only.p
    else:
        return None
    return SameDistribution(
        p,
        sum(test.freedom for test in (said, verified) if test is not None),
        said.count if said is not None and not scored else sum(len(ours[prompt]) for prompt in scored),
        sum(max(0, len(each) - 1) for prompt in scored for each in own[prompt]) or None,
    )


def same_words(ours: Mapping[str, Sequence[Outcome]], theirs: Mapping[str, Sequence[Outcome]]) -> Chi2 | None:
    """The first tokens compared prompt by prompt, the statistics added up; the count is of our continuations."""
    statistic, freedom, count = 0.0, 0, 0
    for prompt in sorted(set(ours) & set(theirs)):
        left, right = (Counter(each[:FIRST_TOKENS] for each in side[prompt]) for side in (ours, theirs))
        table = _pooled(left, right)
        sizes = [sum(column) for column in zip(*table, strict=True)]
        total = sum(sizes)
        if len(table) < 2 or not all(sizes):
            continue
        for row in table:
            for seen, size in zip(row, sizes, strict=True):
                expected = sum(row) * size / total
                statistic += (seen - expected) ** 2 / expected
        freedom += len(table) - 1
        count += sizes[0]
    return Chi2(statistic, freedom, count) if freedom else None


def same_odds(
    ours: Mapping[str, Sequence[Sequence[Odds]]], theirs: Mapping[str, Sequence[Sequence[Odds]]], exact: bool = False
) -> Chi2 | None:
    """Tokens after a continuation's first, which is the prefill's, held against the target's probabilities.

    For each range of the probability of the best token: by how many of the tokens more are the best one than these
    probabilities add up to; and of all tokens, by how many more are the second best.

    Where the probabilities are those that tokens are drawn from, the variances follow from them, given all tokens
    before; vanilla is held to the same. Elsewhere both sides are off alike, and means over continuations are compared,
    which are independent where their tokens are not (Hotelling's statistic). The count is of our tokens.

    Args:
        exact: the odds are of the distribution that was sampled from.
    """
    import numpy as np

    shared = [p for p in sorted(set(ours) & set(theirs)) if min(len(ours[p]), len(theirs[p])) > 1]
    if not shared:
        return None
    num_tokens = sum(max(0, len(each) - 1) for prompt in shared for each in ours[prompt])
    sides = [[_excess(side[prompt]) for prompt in shared] for side in (ours, theirs)]
    if exact:
        arm, vanilla = (
            _statistic(
                np.sum([excess.sum(0) for excess, _ in side], 0), np.sum([own for _, own in side], 0), num_tokens
            )
            for side in sides
        )
        if vanilla is None or vanilla.p >= LEAST_P:
            return arm
    shift, spread = np.zeros(len(SURE) + 2), np.zeros((len(SURE) + 2, len(SURE) + 2))
    for (left, _), (right, _) in zip(*sides, strict=True):
        shift += left.mean(0) - right.mean(0)
        spread += np.cov(left.T) / len(left) + np.cov(right.T) / len(right)
    return _statistic(shift, spread, num_tokens)


def _statistic(shift: np.ndarray, spread: np.ndarray, count: int) -> Chi2 | None:
    """How far a sum is from 0, given its covariance; None where nothing can vary."""
    import numpy as np

    told = np.diag(spread) > 1e-9
    if not told.any():
        return None
    shift, spread = shift[told], spread[np.ix_(told, told)]
    return Chi2(float(shift @ np.linalg.pinv(spread) @ shift), int(told.sum()), count)


def _excess(continuations: Sequence[Sequence[Odds]]) -> tuple[np.ndarray, np.ndarray]:
    """Of each continuation of a prompt the excess of best tokens by range and of second best ones [continuations, 5],
    and the covariance of their sum by the probabilities [5, 5]."""
    import numpy as np

    size = len(SURE) + 1
    own, best, second = np.array([odds for each in continuations for odds in each[1:]], dtype=float).reshape(-1, 3).T
    which = np.repeat(np.arange(len(continuations)), [max(0, len(each) - 1) for each in continuations])
    p, q = np.exp(best), np.exp(second)
    range_, hit = np.digitize(p, SURE), own >= best
    excess = np.zeros((len(continuations), size + 1))
    np.add.at(excess, (which, range_), hit - p)
    np.add.at(excess, (which, np.full_like(which, size)), (~hit & (own >= second)) - q)
    variances = np.append(np.bincount(range_, p * (1 - p), size), (q * (1 - q)).sum())
    covariance = np.diag(variances)
    covariance[-1, :-1] = covariance[:-1, -1] = -np.bincount(range_, p * q, size)
    return excess, covariance


def _pooled(left: Counter[Outcome], right: Counter[Outcome]) -> list[tuple[int, int]]:
    """Counts of both sides by outcome, the rare ones as one."""
    share = min(left.total(), right.total()) / max(1, left.total() + right.total())
    table: list[tuple[int, int]] = []
    rest = (0, 0)
    for outcome in sorted(left | right):
        pair = (left[outcome], right[outcome])
        if sum(pair) * share >= RARE:
            table.append(pair)
        else:
            rest = (rest[0] + pair[0], rest[1] + pair[1])
    return [*table, rest] if sum(rest) * share >= RARE else table
