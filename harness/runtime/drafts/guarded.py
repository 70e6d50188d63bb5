"""Between the engine and a proposer's foreign code. No SGLang.

A proposer that raises, proposes what is no tree, or does not answer in time is not asked again: its requests go on
without drafts, so that nothing of theirs is corrupted, and the reason is told to the harness, which fails the cell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from draftbench.drafts.api import Tree
from draftbench.drafts.proposer import Context, Proposer, TokenTree

ANSWER_WITHIN_S = 10.0
NOTHING = TokenTree((), ())
Call = tuple[str, tuple[Any, ...]]
"""A method of a proposer and its arguments."""


class OwnDraws:
    """Foreign code draws torch's random numbers from a state of its own while this is entered: ranks sample alike only
    as long as all of them have drawn as many."""

    def __init__(self) -> None:
        self._engines: list[torch.Tensor] = []
        self._own = self._states()

    def __enter__(self) -> None:
        self._engines = self._states()
        self._set(self._own)

    def __exit__(self, *_: object) -> None:
        self._own = self._states()
        self._set(self._engines)

    def _states(self) -> list[torch.Tensor]:
        return [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if torch.cuda.is_available() else [])]

    def _set(self, states: list[torch.Tensor]) -> None:
        torch.set_rng_state(states[0])
        for state in states[1:]:
            torch.cuda.set_rng_state(state)


class Guarded:
    """Asks the proposer in a thread of its own and gives up on it at the first mistake."""

    def __init__(
        self,
        proposer: Proposer | None,
        budget: Tree,
        vocab_size: int,
        on_failure: Callable[[str], None],
        apart: AbstractContextManager[Any] | None = None,
    ) -> None:
        """Without a proposer, which runs elsewhere then, nothing is asked; `apart` is entered for as long as it is."""
        self._proposer, self._on_failure = proposer, on_failure
        self._budget, self._vocab_size = budget, vocab_size
        self._apart = apart or nullcontext()
        self._thread = ThreadPoolExecutor(1, "draftbench-proposer")
        self.failed = False

    def ask(self, *calls: Call) -> Any:
        """Make the calls in their order; the last one's answer, or None once the proposer has failed."""
        if self._proposer is None or self.failed or not calls:
            return None
        under_way = [""]

        def make() -> Any:
            answer = None
            for method, args in calls:
                under_way[0] = method
                answer = getattr(self._proposer, method)(*args)
            return answer

        try:
            with self._apart:
                return self._thread.submit(make).result(ANSWER_WITHIN_S)
        except TooLate:
            self.fail(f"{under_way[0]} did not answer within {ANSWER_WITHIN_S:.0f} s")
        except Exception as error:  # whatever foreign code raises
            self.fail(f"{under_way[0]} raised {type(error).__name__}: {error}")
        return None

    def trees(self, contexts: Sequence[Context]) -> Sequence[TokenTree]:
        """A sound tree for every request; trees without nodes once the proposer has failed."""
        found = self.ask(("propose", (contexts,)))
        if not self.failed:
            try:
                problem = self._problem(found, len(contexts))
            except Exception as error:  # trees of foreign make
                problem = f"{type(error).__name__}: {error}"
            if problem is not None:
                self.fail(f"propose gave what cannot be verified: {problem}")
        return [NOTHING] * len(contexts) if self.failed else list(found)

    def _problem(self, found: Any, count: int) -> str | None:
        if not isinstance(found, Sequence) or not all(isinstance(tree, TokenTree) for tree in found):
            return f"no list of trees, but {type(found).__name__}"
        if len(found) != count:
            return f"{len(found)} trees for {count} requests"
        problems = (tree.problem(self._budget, self._vocab_size) for tree in found)
        return next((problem for problem in problems if problem is not None), None)

    def fail(self, reason: str) -> None:
        """Remember and tell, once."""
        if not self.failed:
            self.failed = True
            self._on_failure(reason)
