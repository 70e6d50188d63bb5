"""Multi-draft acceptance rules that need the draft's probabilities. Plain torch; no SGLang.

Both are exact: whatever the draft's distribution q is, what is emitted follows the target's p, as long as the
candidates were drawn from q as the rule says.

Shapes: B requests, K candidates, V vocabulary, n nodes of a round's tree with its root.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

HALVINGS = 50
"""Of the interval in which SpecTr's factor lies."""


class Rule(Protocol):
    """How candidates for one token are drawn, and accepted one after the other."""

    def draw(self, probs_BV: Tensor, count: int) -> Tensor:
        """Candidates [B, K] from the draft's distributions."""

    def judge(self, p_V: Tensor, q_V: Tensor, tokens: Sequence[int]) -> tuple[list[float], Tensor]:
        """The chance of each candidate to be accepted when those before it were not, and the distribution [V] of the
        token that is emitted where none is."""


class RecursiveRejection:
    """Recursive rejection sampling without replacement. Source: RSD (arXiv 2402.14160, algorithm 1)."""

    def draw(self, probs_BV: Tensor, count: int) -> Tensor:
        """Without replacement: the largest of probabilities over exponential draws are such a sample, in its order."""
        noise_BV = torch.empty_like(probs_BV).exponential_().clamp_min_(torch.finfo(probs_BV.dtype).tiny)
        return (probs_BV / noise_BV).topk(count).indices

    def judge(self, p_V: Tensor, q_V: Tensor, tokens: Sequence[int]) -> tuple[list[float], Tensor]:
        """Each candidate by min(1, p / q); a rejected one takes q off p, and itself out of q."""
        chances = []
        for token in tokens:
            chances.append(min(1.0, float(p_V[token] / q_V[token])))
            p_V = _normed((p_V - q_V).clamp_min(0), p_V)
            q_V = q_V.clone()
            q_V[token] = 0
            q_V = _normed(q_V, q_V)
        return chances, p_V


class KSeq:
    """k-SEQ with the smallest factor. Source: SpecTr (arXiv 2310.15141, algorithm 2 and theorem 2)."""

    def draw(self, probs_BV: Tensor, count: int) -> Tensor:
        """Independent draws, which may be the same token."""
        return probs_BV.multinomial(count, replacement=True)

    def judge(self, p_V: Tensor, q_V: Tensor, tokens: Sequence[int]) -> tuple[list[float], Tensor]:
        """Each candidate by min(1, p / (ρ q)); where none is accepted, what they leave of p."""
        count = len(tokens)
        factor = smallest_factor(p_V, q_V, count)
        shared_V = torch.minimum(q_V, p_V / factor)
        share = float(shared_V.sum())
        taken = (1 - (1 - share) ** count) / share if share > 0 else 0.0
        rest_V = _normed((p_V - shared_V * taken).clamp_min(0), p_V)
        return [min(1.0, float(p_V[token] / (factor * q_V[token]))) for token in tokens], rest_V


def smallest_factor(p_V: Tensor, q_V: Tensor, count: int) -> float:
    """SpecTr's ρ*: the smallest ρ for which the accepted tokens never exceed p: 1 − (1 − β)^k ≤ ρ β, with
    β = Σ min(q, p / ρ). It lies between 1 and k."""
    low, high = 1.0, float(count)
    for _ in range(HALVINGS if count > 1 else 0):
        middle = (low + high) / 2
        share = float(torch.minimum(q_V, p_V / middle).sum())
        if 1 - (1 - share) ** count <= middle * share:
            high = middle
        else:
            low = middle
    return high


def _normed(weights_V: Tensor, otherwise_V: Tensor) -> Tensor:
    """Weights as a distribution; another one where nothing is left of them, which rounding alone makes happen."""
    total = weights_V.sum()
    return weights_V / total if total > 0 else otherwise_V


RULES: dict[str, Rule] = {"rsd": RecursiveRejection(), "spectr": KSeq()}


def node_of(step: int, path: int, num_paths: int) -> int:
    """A tree of whole paths: number of the node of a path at a step from 1; the root is 0."""
    return 1 + (step - 1) * num_paths + path


def walk(
    rule: Rule, p_nV: Tensor, q_mV: Tensor, tokens_n: Sequence[int], coins_n: Sequence[float], num_paths: int
) -> tuple[list[int], list[int], Tensor]:
    """Accept along K paths from the root.

    Those that share the accepted tokens so far are the candidates for the next one.

    Args:
        p_nV: the target's distribution after every node; `q_mV` the draft's, after the nodes that have children.
        tokens_n: of the nodes, the root first, then step by step one of each path.
        coins_n: numbers between 0 and 1, one for every candidate that may be looked at.

    Returns:
        Accepted nodes with the root, their tokens without it, and the distribution [V] of the bonus token.
    """
    path: list[int] = [0]
    emitted: list[int] = []
    alive = list(range(num_paths))
    for step in range(1, (len(tokens_n) - 1) // num_paths + 1):
        candidates = [tokens_n[node_of(step, branch, num_paths)] for branch in alive]
        chances, rest_V = rule.judge(p_nV[path[-1]], q_mV[path[-1]], candidates)
        coins = coins_n[(step - 1) * num_paths :]
        taken = next((at for at, chance in enumerate(chances) if coins[at] < chance), None)
        if taken is None:
            return path, emitted, rest_V
        alive = [branch for branch, token in zip(alive, candidates, strict=True) if token == candidates[taken]]
        path.append(node_of(step, alive[0], num_paths))
        emitted.append(candidates[taken])
    return path, emitted, p_nV[path[-1]]
