"""ADED's rounds once more, as its source describes them: linked nodes, dictionaries, every score computed anew. For
tests alone; only the order of equal things and the random numbers are agreed upon."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate
from random import Random

from draftbench.drafts.api import Tree

Pair = tuple[int, int]
Shares = dict[Pair, dict[int, float]]


def shares_of(sequences: Iterable[Sequence[int]], successors: int) -> Shares:
    """Of every pair the likeliest successors with their shares of all."""
    counts: defaultdict[Pair, Counter[int]] = defaultdict(Counter)
    for ids in sequences:
        for at in range(2, len(ids)):
            counts[ids[at - 2], ids[at - 1]][ids[at]] += 1
    return {
        pair: {
            token: count / sum(found.values())
            for token, count in sorted(found.items(), key=lambda entry: (-entry[1], entry[0]))[:successors]
        }
        for pair, found in counts.items()
    }


class Node:
    def __init__(self, pair: Pair, parent: Node | None, share: float) -> None:
        self.pair, self.parent, self.share = pair, parent, share
        self.children: list[Node] = []
        self.visits, self.score = 0, 0.0

    @property
    def path(self) -> tuple[int, ...]:
        """Tokens from the root on."""
        return () if self.parent is None else (*self.parent.path, self.pair[1])

    def value(self) -> float:
        """PUCT; infinite where it was never visited."""
        assert self.parent is not None
        if self.visits == 0:
            return math.inf
        weight = 32.0 + math.log((self.parent.visits + 8.0 + 1) / 8.0)
        return self.score / self.visits + weight * math.sqrt(self.parent.visits) * self.share / (1 + self.visits)


class Simulation:
    """All requests of an engine, one after the other."""

    def __init__(self, shares: Shares, tree: Tree, rollouts: int = 150, seed: int = 0) -> None:
        self.shares = {pair: dict(found) for pair, found in shares.items()}
        self.tree, self.rollouts, self.seed = tree, rollouts, seed

    def rounds(self, prompt: Sequence[int], output: Sequence[int], beyond: Sequence[int]) -> list[int]:
        """Accepted drafts of every round; `beyond` is how the target would go on after the output."""
        known, at, found = (*prompt, *output, *beyond), len(prompt) + 1, []
        while at < len(prompt) + len(output):
            paths = self.paths(known[:at])
            found.append(max((len(path) for path in paths if known[at : at + len(path)] == path), default=0))
            at += found[-1] + 1
        return found

    def paths(self, text: Sequence[int]) -> list[tuple[int, ...]]:
        """The tree's nodes, in their order, as the tokens that lead to them."""
        for at in range(max(0, len(text) - 16), len(text) - 2):
            shares = self.shares.setdefault((text[at], text[at + 1]), {})
            shares[text[at + 2]] = min(3.0, shares.get(text[at + 2], 0.0) + 0.04)
        pair = (text[-2], text[-1])
        paths: list[tuple[int, ...]] = []
        for node in sorted(self.searched(pair, Random(f"{self.seed} {len(text)} {pair}")), key=lambda n: -n.visits):
            below = self.likeliest(node.pair)
            longer = [(*node.path, below[0][0])] if below and len(node.path) < self.tree.num_steps else []
            for number, path in enumerate([node.path, *longer]):
                if path not in paths and len(paths) == self.tree.num_draft_tokens - 1:
                    if number == 0:
                        return paths
                elif path not in paths:
                    paths.append(path)
        return paths

    def likeliest(self, pair: Pair) -> list[tuple[int, float]]:
        """A pair's successors as far as the tree is wide."""
        found = self.shares.get(pair, {}).items()
        return sorted(found, key=lambda entry: (-entry[1], entry[0]))[: self.tree.topk]

    def searched(self, pair: Pair, random: Random) -> list[Node]:
        """All nodes below the root after all rollouts, in the order of their making."""
        root, made = Node(pair, None, 0.0), []
        depth = max(1, self.tree.num_steps - 1)
        for _ in range(self.rollouts):
            node = root
            while node.children and len(node.path) < depth:
                node = max(node.children, key=Node.value)
            if not node.children and len(node.path) < depth:
                node.children = [Node((node.pair[1], token), node, share) for token, share in self.likeliest(node.pair)]
                made += node.children
                node = node.children[0] if node.children else node
            score, above = 1.0, []
            each: Node | None = node
            while each is not None:
                above.append(each)
                each = each.parent
            for step in reversed(above):
                score += step.share
            at = node.pair
            for _ in range(depth - len(node.path)):
                below = self.likeliest(at)
                if not below:
                    break
                drawn = random.random() * sum(share for _, share in below)
                ends = list(accumulate(share for _, share in below))
                token, share = below[min(bisect_left(ends, drawn), len(below) - 1)]
                score, at = score + share, (at[1], token)
            for step in above:
                step.visits += 1
                step.score += score
        return made
