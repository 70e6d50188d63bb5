"""The papers' acceptance rules: over all candidates, what is emitted is distributed exactly as the target."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import permutations, product

import pytest
import torch
from torch import Tensor

from draftbench.harness.runtime.drafts.rules import RULES, node_of, smallest_factor, walk

V = 3
Outcome = tuple[int, ...]


def distributions(seed: int) -> dict[Outcome, Tensor]:
    """A distribution [V] after every sequence of up to two tokens."""
    generator = torch.Generator().manual_seed(seed)
    sequences = [sequence for length in range(3) for sequence in product(range(V), repeat=length)]
    found = {each: torch.rand(V, generator=generator, dtype=torch.float64) ** 2 + 1e-3 for each in sequences}
    return {each: weights / weights.sum() for each, weights in found.items()}


def drawn(rule: str, q_V: Tensor, count: int) -> Iterator[tuple[tuple[int, ...], float]]:
    """All candidates that may be drawn from q, and how likely they are: without replacement for rsd, else with it."""
    for tokens in permutations(range(V), count) if rule == "rsd" else product(range(V), repeat=count):
        chance, left = 1.0, 1.0
        for token in tokens:
            chance *= float(q_V[token]) / (left if rule == "rsd" else 1.0)
            left -= float(q_V[token])
        yield tokens, chance


def trees(rule: str, q: dict[Outcome, Tensor], num_paths: int) -> Iterator[tuple[list[int], float]]:
    """All trees of paths of two tokens, the root's token first (any), and how likely they are."""
    for first, chance in drawn(rule, q[()], num_paths):
        seconds = [list(drawn("spectr", q[(token,)], 1)) for token in first]
        for chosen in product(*seconds):
            whole = chance
            for _, own in chosen:
                whole *= own
            yield [0, *first, *(tokens[0] for tokens, _ in chosen)], whole


def emitted(rule: str, p: dict[Outcome, Tensor], q: dict[Outcome, Tensor], num_paths: int) -> dict[Outcome, float]:
    """The distribution of the first two tokens, a round of one draft token less being gone on with by the target.

    A round is walked with every combination of coins: candidates are accepted or not with their own chances.
    """
    found: dict[Outcome, float] = defaultdict(float)
    for tokens, chance in trees(rule, q, num_paths):
        prefixes = [(), *((token,) for token in tokens[1 : num_paths + 1])]
        prefixes += [(tokens[1 + path], tokens[node_of(2, path, num_paths)]) for path in range(num_paths)]
        p_nV, q_mV = (torch.stack([source[each] for each in prefixes]) for source in (p, q))
        for coins, weight in coins_of(rule, p_nV, q_mV, tokens, num_paths):
            _, accepted, rest_V = walk(RULES[rule], p_nV, q_mV, tokens, coins, num_paths)
            for bonus in range(V):
                sequence, mass = (*accepted, bonus), chance * weight * float(rest_V[bonus])
                if len(sequence) >= 2:
                    found[sequence[:2]] += mass
                else:
                    for after in range(V):
                        found[(bonus, after)] += mass * float(p[(bonus,)][after])
    return found


def coins_of(
    rule: str, p_nV: Tensor, q_mV: Tensor, tokens: list[int], num_paths: int
) -> Iterator[tuple[list[float], float]]:
    """Coins just below and just above every chance that the walk compares them with, and how likely each side is."""

    def go_on(coins: list[float], weight: float) -> Iterator[tuple[list[float], float]]:
        asked: list[list[float]] = []

        class Watched:
            def draw(self, probs_BV: Tensor, count: int) -> Tensor:
                raise NotImplementedError

            def judge(self, p_V: Tensor, q_V: Tensor, candidates: Sequence[int]) -> tuple[list[float], Tensor]:
                chances, rest_V = RULES[rule].judge(p_V, q_V, candidates)
                asked.append(chances)
                return chances, rest_V

        walk(Watched(), p_nV, q_mV, tokens, coins, num_paths)

        for step, chances in enumerate(asked):
            for at, chance in enumerate(chances):
                place = step * num_paths + at
                if coins[place] < 0:
                    for coin, share in ((0.0, chance), (1.0, 1 - chance)):
                        if share > 0:
                            yield from go_on([*coins[:place], coin, *coins[place + 1 :]], weight * share)
                    return
                if coins[place] < chance:
                    break
        yield coins, weight

    yield from go_on([-1.0] * (2 * num_paths), 1.0)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("rule", "num_paths"),
    [
        ("rsd", 1),
        ("rsd", 2),
        ("rsd", 3),
        ("spectr", 1),
        ("spectr", 2),
        pytest.param("spectr", 3, marks=pytest.mark.slow),
    ],
)
def test_what_is_emitted_follows_the_target_exactly(rule: str, num_paths: int, seed: int) -> None:
    """Every tree of two steps and every coin, three tokens: the first two tokens have the target's joint chances."""
    p, q = distributions(seed), distributions(seed + 100)
    found = emitted(rule, p, q, num_paths)
    wanted = {(a, b): float(p[()][a] * p[(a,)][b]) for a, b in product(range(V), repeat=2)}
    assert found.keys() == wanted.keys()
    assert found == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_that_takes_too_much_would_be_found(rule: str) -> None:
    """The same sum with candidates that are not drawn from the q that is told is off: the check can fail."""
    p_V, q_V = distributions(0)[()], distributions(100)[()]
    wrong: dict[int, float] = defaultdict(float)
    for tokens, chance in drawn(rule, q_V, 2):
        chances, rest_V = RULES[rule].judge(p_V, q_V.flip(0), tokens)
        first, second = chances
        wrong[tokens[0]] += chance * first
        wrong[tokens[1]] += chance * (1 - first) * second
        for bonus in range(V):
            wrong[bonus] += chance * (1 - first) * (1 - second) * float(rest_V[bonus])
    assert max(abs(wrong[token] - float(p_V[token])) for token in range(V)) > 0.01


@pytest.mark.parametrize("rule", RULES)
def test_draws_are_the_drafts_distribution(rule: str) -> None:
    """In 20,000 draws of two candidates each ordered pair comes as often as the rule says."""
    torch.manual_seed(0)
    q_V = distributions(5)[()]
    pairs = RULES[rule].draw(q_V.expand(20_000, -1), 2).tolist()
    for tokens, chance in drawn(rule, q_V, 2):
        assert pairs.count(list(tokens)) / 20_000 == pytest.approx(chance, abs=0.015)


def test_more_candidates_are_accepted_more_often() -> None:
    """SpecTr's factor is 1 for one candidate, and between 1 and k for more; three find more of p than one."""
    p_V, q_V = distributions(1)[()], distributions(2)[()]
    assert smallest_factor(p_V, q_V, 1) == 1
    assert 1 <= smallest_factor(p_V, q_V, 3) <= 3
    shares = [1 - float(torch.minimum(q_V, p_V / smallest_factor(p_V, q_V, k)).sum()) for k in (1, 3)]
    assert shares[1] ** 3 < shares[0]
