"""Suffix decoding's trees against an enumeration of all continuations, and what it remembers."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from draftbench.drafts.api import Tree
from draftbench.drafts.proposer import Context, TokenTree, Verified
from draftbench.drafts.suffix.proposer import Suffix
from draftbench.drafts.suffix.spec import SuffixOptions

BUDGET = Tree(num_steps=4, topk=3, num_draft_tokens=10)
VOCAB = 50
Path = tuple[int, ...]
texts = st.lists(st.integers(0, 3), min_size=1, max_size=30)


def paths_of(tree: TokenTree) -> list[Path]:
    """Each node as the tokens that lead to it."""
    found: list[Path] = []
    for token, parent in zip(tree.tokens, tree.parents, strict=True):
        found.append((*found[parent], token) if parent >= 0 else (token,))
    return found


def expected_most(sources: list[list[list[int]]], end: list[int], options: SuffixOptions) -> tuple[float, list[Path]]:
    """The best tree by brute force: every match length, every continuation counted, nodes taken one by one."""
    best: tuple[float, list[Path]] = (0.0, [])
    for source in sources:
        for size in range(min(options.longest_match, len(end)), 0, -1):
            starts = [
                (text, place)
                for text in source
                for place in range(size, len(text) + (text is not end))
                if text[place - size : place] == end[-size:]
            ]
            counts = Counter(
                tuple(text[place : place + depth])
                for text, place in starts
                for depth in range(BUDGET.num_steps + 1)
                if place + depth <= len(text)
            )
            share = {(): 1.0}
            for path in sorted(counts, key=len):
                if path:
                    share[path] = share[path[:-1]] * counts[path] / counts[path[:-1]]
            taken: list[Path] = []
            while len(taken) < min(BUDGET.num_draft_tokens - 1, int(options.nodes_per_match * size)):
                ready = [
                    path
                    for path in share
                    if path and path not in taken and (len(path) == 1 or path[:-1] in taken)
                    and share[path] >= options.min_probability
                    and rank(path, counts) < BUDGET.topk
                ]  # fmt: skip
                if not ready:
                    break
                parent = {path: taken.index(path[:-1]) if len(path) > 1 else -1 for path in ready}
                taken.append(min(ready, key=lambda path: (-share[path], len(path), parent[path], path[-1])))
            total = sum(share[path] for path in taken)
            if total > best[0] + 1e-12:
                best = (total, taken)
    return best


def rank(path: Path, counts: Counter[Path]) -> int:
    """How many siblings come before it."""
    siblings = [other for other in counts if len(other) == len(path) and other[:-1] == path[:-1]]
    return sorted(siblings, key=lambda other: (-counts[other], other[-1])).index(path)


@settings(max_examples=300, deadline=None)
@given(st.lists(texts, max_size=3), texts, st.sampled_from([0.0, 0.1, 0.6]), st.sampled_from([1.0, 2.5]))
def test_trees_are_those_of_all_continuations(outputs, end, min_probability, nodes_per_match):
    """The likeliest nodes of the match and source that expect most, from this request and finished ones."""
    options = SuffixOptions(longest_match=5, min_probability=min_probability, nodes_per_match=nodes_per_match)
    proposer = Suffix(options, BUDGET, VOCAB)
    for number, output in enumerate(outputs):
        proposer.on_prefill(f"o{number}", [9, output[0]])
        for token in output[1:]:
            proposer.on_verify(f"o{number}", Verified(0, TokenTree((), ()), [], token))
        proposer.on_finish(f"o{number}")
    proposer.on_prefill("r", end)
    (tree,) = proposer.propose([Context("r", end)])
    assert tree.problem(BUDGET, VOCAB) is None
    expected, paths = expected_most([[end], outputs], end, options)
    assert tree.scores is not None
    assert abs(sum(tree.scores) - expected) < 1e-9
    assert paths_of(tree) == paths


def drafted(proposer: Suffix, end: list[int]) -> list[int]:
    proposer.on_prefill("r", end)
    (tree,) = proposer.propose([Context("r", end)])
    proposer._running.pop("r")
    return list(tree.tokens)


def finished(proposer: Suffix, prompt: list[int], output: list[int]) -> None:
    proposer.on_prefill("f", [*prompt, output[0]])
    tree = TokenTree(output[1:-1], range(-1, len(output) - 3))
    proposer.on_verify("f", Verified(output[0], tree, range(len(output) - 2), output[-1]))
    proposer.on_finish("f")


def test_outputs_are_remembered_and_prompts_are_not():
    """Of other requests; what two outputs have at their ends and beginnings is not taken for a continuation."""
    proposer = Suffix(SuffixOptions(), BUDGET, VOCAB)
    finished(proposer, [1, 2, 3], [11, 12, 13])
    finished(proposer, [4], [14, 15])
    assert drafted(proposer, [20, 11, 12]) == [13]
    assert drafted(proposer, [20, 1, 2]) == []
    assert drafted(proposer, [20, 13]) == []


def test_a_flush_forgets_outputs_unless_they_are_to_be_kept():
    """Before each cell: later ones must not profit from earlier ones, but where the suite says so."""
    for state, wanted in (("reset", []), ("keep", [13])):
        proposer = Suffix(SuffixOptions(state=state), BUDGET, VOCAB)
        finished(proposer, [1], [11, 12, 13])
        proposer.reset()
        assert drafted(proposer, [20, 11, 12]) == wanted


def test_the_oldest_outputs_are_forgotten_first():
    """Memory is bounded."""
    proposer = Suffix(SuffixOptions(remembered_tokens=8), BUDGET, VOCAB)
    for number in range(10):
        finished(proposer, [1], [10 + number, 30, 31])
        assert len(proposer._outputs.tokens) <= 16
    assert drafted(proposer, [20, 19]) == [30, 31]
    assert drafted(proposer, [20, 11]) == []
    proposer = Suffix(SuffixOptions(remembered_tokens=0), BUDGET, VOCAB)
    finished(proposer, [1], [11, 12, 13])
    assert drafted(proposer, [20, 11, 12]) == []


def test_longer_matches_draft_more():
    """One matched token allows fewer drafts than four."""
    proposer = Suffix(SuffixOptions(nodes_per_match=1.0), BUDGET, VOCAB)
    finished(proposer, [1], [11, 12, 13, 14, 15, 16, 17, 18])
    assert drafted(proposer, [20, 14]) == [15]
    assert drafted(proposer, [11, 12, 13, 14]) == [15, 16, 17, 18]
