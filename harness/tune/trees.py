"""Trees to try for a draft: its own, and others that are spread evenly over what it allows."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from draftbench.drafts.api import Tree
from draftbench.harness.errors import SuiteError

MAX_STEPS, WIDTHS, MAX_NODES = 8, (8, 4, 2, 1), 64
"""The space: depth 1 to 8, these widths, and nodes from one beyond the depth to 64 or all that depth and width give."""
_DRAWS = 500
"""Points of the sequence that are looked at; a draft that allows fewer trees than asked for ends there."""


def spread_trees(
    own: Tree, count: int, allowed: Callable[[Tree], bool], largest: Callable[[int, int], int]
) -> tuple[Tree, ...]:
    """`count` different trees that a draft allows, its own first.

    The points of a Halton sequence are laid over the logarithm of the nodes, depth and width, as far as the draft
    allows them. The sequence is the same for every draft; it fills the space evenly whatever the count.
    Source: J. H. Halton, On the efficiency of certain quasi-random sequences of points, 1960.

    Args:
        allowed: whether the draft's options and checkpoint go with a tree.
        largest: most nodes, the root included, of a depth and width.

    Raises:
        SuiteError: it allows fewer; the arm's name is for the caller to add.
    """
    from scipy.stats import qmc

    deepest = max((depth for depth in range(1, MAX_STEPS + 1) if allowed(Tree(depth, 1, depth + 1))), default=MAX_STEPS)
    found = [own]
    # The first point is the origin.
    for nodes, depth, width in islice(qmc.Halton(d=3, scramble=False).random(_DRAWS), 1, None):
        tree = _tree_at(float(nodes), float(depth), float(width), deepest, largest)
        if len(found) < count and tree not in found and allowed(tree):
            found.append(tree)
    if len(found) < count:
        raise SuiteError(
            f"its options and checkpoint allow {len(found)} of the trees tried, tune.configurations is {count}. "
            "Lower that, take away options that fix the tree, or leave the arm out (--only)."
        )
    return tuple(found)


def _tree_at(nodes: float, depth: float, width: float, deepest: int, largest: Callable[[int, int], int]) -> Tree:
    """The tree at a point of the unit cube; one of width 1 is a chain, whatever its nodes."""
    steps, topk = 1 + int(depth * deepest), WIDTHS[int(width * len(WIDTHS))]
    wanted = round((steps + 1) * (MAX_NODES / (steps + 1)) ** nodes)
    return Tree(steps, topk, min(wanted, largest(steps, topk)))
