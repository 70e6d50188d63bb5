"""The search of ADED: rollouts through tri-grams that prefer likely and rarely tried tokens (PUCT), as in MCTS.

A node's visits say in the end how much it is worth verifying. A rollout goes down from the root: of a node's children
first each that was never visited, the likeliest first, then the one with the highest

    score / visits + (c1 + ln((N + c2 + 1) / c2)) · share · √N / (1 + visits)

where N are the parent's visits. At a leaf the children are added, the first is taken, and tokens are drawn by their
shares down to the search's depth. 1 plus the shares on the whole path is scored at every node that was passed.
Source: ADED (arXiv 2407.12021, draft maker); liuxukun2000/Adaptix at 241dad8, DraftRetriever/src/mcts_sub.rs.

A hundred and fifty rollouts a round have to be quick: nodes are rows of plain lists, children stand side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log, sqrt
from random import Random

Pair = tuple[int, int]


@dataclass(frozen=True)
class Successors:
    """Tokens that may follow a pair and their shares, the likeliest first."""

    tokens: Sequence[int]
    shares: Sequence[float]


@dataclass(frozen=True)
class Search:
    """How it is done.

    Attributes:
        depth: tokens of a path.
        exploration, growth: c1 and c2.
    """

    rollouts: int
    depth: int
    exploration: float
    growth: float


@dataclass(frozen=True)
class FoundPaths:
    """The nodes that were reached, node 0 being the root; a parent comes before its children."""

    pairs: Sequence[Pair]
    parents: Sequence[int]
    depths: Sequence[int]
    visits: Sequence[int]


def search(followers: Callable[[Pair], Successors], root: Pair, how: Search, random: Random) -> FoundPaths:
    """Try paths from two tokens on."""
    pairs, parents, depths, shares = [root], [-1], [0], [0.0]
    visits, scores = [0], [0.0]
    first, counts, tried = [-1], [0], [0]
    """Of a node's children: where they stand, how many there are, how many were visited."""
    draw = random.random
    for _ in range(how.rollouts):
        node, total = 0, 1.0
        while counts[node] and depths[node] < how.depth:
            begin = first[node]
            if tried[node] < counts[node]:
                best = begin + tried[node]
                tried[node] += 1
            else:
                seen = visits[node]
                factor = (how.exploration + log((seen + how.growth + 1) / how.growth)) * sqrt(seen)
                best, highest = begin, -1.0
                for child in range(begin, begin + counts[node]):
                    count = visits[child]
                    value = scores[child] / count + factor * shares[child] / (1 + count)
                    if value > highest:
                        best, highest = child, value
            node = best
            total += shares[node]
        if first[node] < 0 and depths[node] < how.depth:
            pair = pairs[node]
            below = followers(pair)
            first[node], counts[node] = len(pairs), len(below.tokens)
            for token, share in zip(below.tokens, below.shares, strict=True):
                pairs.append((pair[1], token))
                parents.append(node)
                depths.append(depths[node] + 1)
                shares.append(share)
                visits.append(0)
                scores.append(0.0)
                first.append(-1)
                counts.append(0)
                tried.append(0)
            if counts[node]:
                tried[node] = 1
                node = first[node]
                total += shares[node]
        pair = pairs[node]
        for _ in range(how.depth - depths[node]):
            below = followers(pair)
            if not below.tokens:
                break
            rest, place = draw() * sum(below.shares), 0
            while place < len(below.shares) - 1 and rest > below.shares[place]:
                rest -= below.shares[place]
                place += 1
            total += below.shares[place]
            pair = (pair[1], below.tokens[place])
        while node >= 0:
            visits[node] += 1
            scores[node] += total
            node = parents[node]
    return FoundPaths(pairs, parents, depths, visits)
