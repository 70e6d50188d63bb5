"""ADED's tables, its search against the one that its source describes, and what it remembers."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from draftbench.drafts.adaptive_trigram.proposer import AdaptiveTrigram
from draftbench.drafts.adaptive_trigram.spec import AdaptiveTrigramOptions
from draftbench.drafts.api import Tree
from draftbench.drafts.proposer import Context, TokenTree
from draftbench.harness.corpora import trigrams
from draftbench.harness.corpora.trigrams import count_trigrams, load_table, read_token_lines
from draftbench.harness.errors import CheckpointError, WorkloadError
from tests.runtime.aded import Simulation, shares_of

VOCAB = 40
PUBLISHED = Tree(num_steps=4, topk=12, num_draft_tokens=25)
texts = st.lists(st.integers(0, 6), min_size=2, max_size=40)


def paths_of(tree: TokenTree) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = []
    for token, parent in zip(tree.tokens, tree.parents, strict=True):
        found.append((*found[parent], token) if parent >= 0 else (token,))
    return found


def drafted(proposer: AdaptiveTrigram, text: list[int]) -> list[tuple[int, ...]]:
    (tree,) = proposer.propose([Context("r", text)])
    return paths_of(tree)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(texts, max_size=6),
    st.lists(texts, min_size=1, max_size=3),
    st.sampled_from([PUBLISHED, Tree(1, 2, 3), Tree(3, 2, 6), Tree(6, 4, 16)]),
    st.sampled_from([1, 7, 150]),
)
def test_trees_are_those_of_the_published_search(corpus, asked, tree, rollouts):
    """Round after round, with and without a table: the same nodes in the same order, as a tree that can be verified."""
    options = AdaptiveTrigramOptions(rollouts=rollouts, seed=3)
    proposer = AdaptiveTrigram(options, tree, VOCAB)
    if any(len(text) > 2 for text in corpus):
        proposer._table = count_trigrams(corpus, VOCAB, 5)
    simulation = Simulation(shares_of(corpus, 5), tree, rollouts, seed=3)
    for text in [*asked, *asked]:
        (found,) = proposer.propose([Context("r", text)])
        assert found.problem(tree, VOCAB) is None
        assert paths_of(found) == simulation.paths(text)


def test_the_likeliest_paths_are_drafted():
    """Of a corpus that mostly goes on one way, that way is in the tree, and others beside it."""
    proposer = AdaptiveTrigram(AdaptiveTrigramOptions(), PUBLISHED, VOCAB)
    proposer._table = count_trigrams([[1, 2, 3, 4, 5, 6]] * 8 + [[1, 2, 7, 8, 9, 10]] * 2, VOCAB)
    paths = drafted(proposer, [20, 1, 2])
    assert {(3, 4, 5, 6), (7, 8, 9, 10)} <= set(paths)
    assert paths[0] == (3,)


def test_without_a_table_it_begins_with_nothing():
    """It drafts what the running texts have shown, and forgets that with a flush unless it is to be kept."""
    for state, wanted in (("reset", []), ("keep", [(7,)])):
        proposer = AdaptiveTrigram(AdaptiveTrigramOptions(state=state), PUBLISHED, VOCAB)
        assert drafted(proposer, [5, 6, 7, 8]) == []
        proposer.reset()
        assert drafted(proposer, [5, 6])[:1] == wanted
    assert drafted(proposer, [5]) == []


def test_the_running_texts_raise_their_trigrams():
    """By 0.04 in every round in which they are among the last 16 tokens, to 3 at most."""
    proposer = AdaptiveTrigram(AdaptiveTrigramOptions(), PUBLISHED, VOCAB)
    proposer._table = count_trigrams([[1, 2, 3], [1, 2, 4], [1, 2, 4]], VOCAB)
    for _ in range(5):
        drafted(proposer, [1, 2, 3])
    assert proposer._raised[1, 2] == pytest.approx({4: 2 / 3, 3: 1 / 3 + 0.2})
    for _ in range(100):
        drafted(proposer, [1, 2, 3])
    assert proposer._raised[1, 2][3] == 3.0
    drafted(proposer, [1, 2, 5, *range(20, 34)])
    assert 5 not in proposer._raised[1, 2]


def test_a_round_depends_on_the_seed_and_on_the_text_alone():
    """The same text has the same tree whoever drafted before; another seed has another."""
    corpus = [[int(token) for token in np.random.default_rng(0).integers(0, 6, 400)]]

    def asked(seed: int, before: list[int]) -> list[tuple[int, ...]]:
        proposer = AdaptiveTrigram(AdaptiveTrigramOptions(seed=seed, boost=0.0, rollouts=20), Tree(5, 6, 20), VOCAB)
        proposer._table = count_trigrams(corpus, VOCAB)
        for text in (before, before):
            drafted(proposer, text)
        return drafted(proposer, [1, 2, 3])

    assert asked(0, [4, 5]) == asked(0, [2, 2])
    assert len({tuple(asked(seed, [4, 5])) for seed in range(8)}) > 1


def test_tables_count_what_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As a plain count does, in pieces too, and as read back from its folder."""
    random = Random(1)
    corpus = [[random.randrange(9) for _ in range(random.randrange(60))] for _ in range(30)]
    expected = shares_of(corpus, 3)
    monkeypatch.setattr(trigrams, "AT_ONCE", 100)
    count_trigrams(corpus, VOCAB, 3).save(tmp_path, {"corpus_sha256": "x"})
    table = load_table(tmp_path)
    assert table.sizes == {"num_pairs": len(expected), "num_entries": sum(map(len, expected.values()))}
    for first in range(10):
        for second in range(10):
            found, wanted = table.successors(first, second), expected.get((first, second), {})
            assert list(found) == list(wanted)
            assert found == pytest.approx(wanted)


def test_a_damaged_table_is_refused(tmp_path: Path):
    """Numbers that are no table end in a sentence, not in drafts."""
    table = count_trigrams([[1, 2, 3, 4]], VOCAB)
    object.__setattr__(table, "tokens_E", table.tokens_E + 1000)
    table.save(tmp_path, {})
    with pytest.raises(CheckpointError, match="make it anew"):
        load_table(tmp_path)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[1, 2]", "prompt_ids is no list of token ids"),
        ('{"text": "a"}', "prompt_ids is no list of token ids"),
        ('{"ids": [1, "a"]}', "ids is no list of token ids"),
        ('{"ids": [1, 40]}', "none of the target's 40"),
        ("{", "not JSON"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, line: str, said: str):
    """With file and line, and what a line has to be."""
    path = tmp_path / "corpus.jsonl"
    path.write_text(json.dumps({"prompt_ids": [1], "output_ids": [2, 3]}) + "\n\n" + line + "\n")
    with pytest.raises(WorkloadError, match=r"corpus\.jsonl:3: ") as found:
        list(read_token_lines(path, VOCAB))
    assert said in str(found.value)
    assert "bench.py outputs" in str(found.value)
