"""Foreign code that misbehaves costs its drafts, nothing else."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from draftbench.drafts.api import Tree
from draftbench.drafts.proposer import Context
from draftbench.harness.runtime.drafts import guarded
from draftbench.harness.runtime.drafts.guarded import Guarded, OwnDraws

NAUGHTY = Path(__file__).parents[2] / "runtime" / "naughty"
BUDGET = Tree(3, 1, 4)
REQUESTS = [Context("a", [1, 2]), Context("b", [3, 4])]


@pytest.fixture
def naughty(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module of the misbehaving package."""
    monkeypatch.syspath_prepend(str(NAUGHTY))
    import draftbench_naughty

    yield draftbench_naughty
    sys.modules.pop("draftbench_naughty")


@pytest.mark.parametrize(
    ("mischief", "said"),
    [
        ("raises", "propose raised KeyError: 'lost'"),
        ("hangs", "propose did not answer within"),
        ("nothing", "no list of trees, but NoneType"),
        ("words", "no list of trees, but list"),
        ("too few", "1 trees for 2 requests"),
        ("malformed", "node 0 has parent 0"),
        ("vocabulary", "node 0 holds token 100; the vocabulary has 100"),
        ("fractions", "node 0 holds token 0.5"),
        ("too many", "4 nodes; num_draft_tokens allows 3 and the root"),
        ("nan", "a score is not finite"),
    ],
)
def test_mischief_is_told_once_and_costs_the_drafts(
    naughty: Any, monkeypatch: pytest.MonkeyPatch, mischief: str, said: str
) -> None:
    """Good rounds first; then the reason, trees without nodes, and the proposer is not asked again."""
    monkeypatch.setattr(guarded, "ANSWER_WITHIN_S", 0.2)
    if mischief == "hangs":
        monkeypatch.setattr(time, "sleep", lambda _: original_sleep(0.5))
    proposer = naughty.Naughty(naughty.NaughtyOptions(mischief=mischief, good_rounds=2), BUDGET, 100)
    told: list[str] = []
    guard = Guarded(proposer, BUDGET, 100, told.append)
    for _ in range(2):
        assert [list(tree.tokens) for tree in guard.trees(REQUESTS)] == [[2], [4]]
    assert told == []
    for _ in range(2):
        assert [list(tree.tokens) for tree in guard.trees(REQUESTS)] == [[], []]
    assert len(told) == 1
    assert said in told[0]
    assert guard.ask(("reset", ())) is None


original_sleep = time.sleep


def test_the_call_that_failed_is_named(naughty: Any) -> None:
    """Of several calls made together, the one that raised."""
    told: list[str] = []
    guard = Guarded(naughty.Naughty(naughty.NaughtyOptions(mischief="raises"), BUDGET, 100), BUDGET, 100, told.append)
    guard.ask(("reset", ()), ("on_finish", ("a", "one too many")))
    assert told[0].startswith("on_finish raised TypeError")


def test_foreign_draws_leave_the_engines_random_numbers_alone(naughty: Any) -> None:
    """Torch's own go on as if nobody had drawn in between, and so do the proposer's; without it they are shared."""
    proposer = naughty.Naughty(naughty.NaughtyOptions(mischief="draws"), BUDGET, 100)
    torch.manual_seed(0)
    undisturbed = torch.rand(4).tolist()
    for apart, alike in ((OwnDraws(), True), (None, False)):
        guard = Guarded(proposer, BUDGET, 100, pytest.fail, apart)
        torch.manual_seed(0)
        found = []
        for _ in range(4):
            guard.trees(REQUESTS)
            found += torch.rand(1).tolist()
        assert (found == undisturbed) is alike
    own = OwnDraws()
    drawn = []
    for _ in range(2):
        with own:
            drawn += torch.rand(1).tolist()
    assert drawn[0] != drawn[1]
