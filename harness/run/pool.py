"""The engines of one launch: started when first needed, kept while memory allows, checked against each other.

A run takes them from a `Fleet`, and knows nothing of what runs behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Protocol, TypeVar

from draftbench.harness.engine import Engine, Receipt
from draftbench.harness.errors import EngineError, HarnessError
from draftbench.harness.suite import Arm

Found = TypeVar("Found")


class StartingEngine(Protocol):
    """An engine that was started and is not ready yet."""

    def ready(self) -> Engine:
        """Wait for it; it has ended where this raises a HarnessError."""
        ...

    def stop(self) -> None:
        """End it and everything it started."""
        ...


class EnginePool:
    """Running engines, as many as there is room for; the one unused for longest gives way.

    Leaving the context ends them all. Endpoints run already and take no room here.
    """

    def __init__(
        self,
        begin: Callable[[str], StartingEngine],
        room: Callable[[int], int],
        check: Callable[[Mapping[str, Receipt]], None],
        endpoints: Mapping[str, Engine] | None = None,
    ) -> None:
        """
        Args:
            begin: starts the named arm's engine and does not wait for it, or raises a HarnessError.
            room: how many more engines may start now, given the number that runs; asked before each start, because
                other programs take memory too.
            check: raises a HarnessError where what started engines say of themselves does not go together.
        """
        self._endpoints = endpoints or {}
        self._begin, self._room, self._check = begin, room, check
        self._running: dict[str, Engine] = {}
        self._starting: dict[str, StartingEngine] = {}
        self._starts_failed: dict[str, str] = {}
        self.receipts: dict[str, Receipt] = {}

    def __enter__(self) -> EnginePool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with ThreadPoolExecutor() as waiting:  # a GPU's engine takes seconds to give its memory back
            list(waiting.map(lambda engine: engine.stop(), (*self._running.values(), *self._starting.values())))
        self._running.clear()
        self._starting.clear()

    def get(self, arm: str) -> Engine:
        """The arm's engine, started anew if it died; an arm that failed to start is not tried again.

        The others rest until they are asked for in their turn.

        Raises:
            EngineError: it cannot be started, or its resolved arguments differ from the other arms'.
        """
        if arm in self._endpoints:
            return self._endpoints[arm]
        if arm in self._starting:
            self._finish(arm)
        engine = self._running.pop(arm, None)
        if engine is not None and engine.failure() is not None:
            engine.stop()
            engine = None
        if engine is None:
            if arm in self._starts_failed:
                raise EngineError(self._starts_failed[arm])
            self._finish_all()
            while self._running and self._room(len(self._running)) < 1:
                self._running.pop(next(iter(self._running))).stop()
            self._begin_one(arm)
            if (engine := self._finish(arm)) is None:
                raise EngineError(self._starts_failed[arm])
            del self._running[arm]
        self.rest()
        engine.wake()
        self._running[arm] = engine  # the last one used
        return engine

    def rest(self) -> None:
        """Let every engine rest that runs."""
        for engine in self._running.values():
            engine.rest()

    def begin(self, arms: Iterable[str]) -> None:
        """Start arms in this order, side by side, as many as there is room for now; they are not waited for."""
        waiting = [arm for arm in arms if not self._knows(arm)]
        if waiting:
            alive = len(self._running) + len(self._starting)
            for arm in waiting[: max(self._room(alive) - len(self._starting), 0 if alive else 1)]:
                self._begin_one(arm)

    def start_all(self, arms: Iterable[str]) -> None:
        """Start arms side by side, in this order, while there is room; one that fails says why when it is asked for."""
        arms = tuple(arms)
        self.begin(arms)
        while self._starting:
            self._finish_all()
            self.begin(arms)

    def holds(self, arms: Iterable[str]) -> bool:
        """Whether all of these run now, side by side, but for those that cannot be started."""
        return all(self._knows(arm) for arm in arms)

    def _knows(self, arm: str) -> bool:
        return any(arm in each for each in (self._running, self._starting, self._endpoints, self._starts_failed))

    def _begin_one(self, arm: str) -> None:
        starting = self._noting(arm, partial(self._begin, arm))
        if starting is not None:
            self._starting[arm] = starting

    def _finish_all(self) -> None:
        for arm in tuple(self._starting):
            self._finish(arm)

    def _finish(self, arm: str) -> Engine | None:
        """Wait for an engine and check it; None where it failed, and why is noted."""
        if arm not in self._starting:
            return None
        engine = self._noting(arm, self._starting[arm].ready)
        del self._starting[arm]
        if engine is not None and self._noting(arm, partial(self._checked, arm, engine)) is None:
            engine.stop()
            engine = None
        if engine is not None:
            self._running[arm] = engine
        return engine

    def _checked(self, arm: str, engine: Engine) -> Engine:
        receipt = engine.receipt
        assert receipt is not None, "what we start gives one"
        self._check({**self.receipts, arm: receipt})
        self.receipts[arm] = receipt
        return engine

    def _noting(self, arm: str, step: Callable[[], Found]) -> Found | None:
        try:
            return step()
        except HarnessError as error:
            self._starts_failed[arm] = str(error)
            return None


class Fleet(Protocol):
    """A suite's arms with their models found and checked: what a run needs of them."""

    @property
    def by_name(self) -> Mapping[str, Arm]:
        """The arms whose engines are started; none where the suite has endpoints alone."""
        ...

    @property
    def reference(self) -> str | None:
        """Name of the arm that makes vanilla's passes; None where there are endpoints alone."""
        ...

    @property
    def target(self) -> Path:
        """The target's folder, with its tokenizer and chat template."""
        ...

    @property
    def context_tokens(self) -> int:
        """Longest prompt with its output that every arm can serve."""
        ...

    @property
    def trained_tokens(self) -> Mapping[str, int]:
        """Of arms whose drafts were made for fewer positions than the target has: how many."""
        ...

    @property
    def updated(self) -> Mapping[str, Path]:
        """Checkpoints of the arms whose drafts are updated between blocks."""
        ...

    @property
    def starts(self) -> str:
        """How engines are started, as the manifest says it."""
        ...

    def preload(self) -> object:
        """Begin what makes starts quick; it is not waited for."""
        ...

    def forking(self, note: Callable[[str], None]) -> Fleet:
        """The same arms with quick starts where they can be had; else it is said why not."""
        ...

    def fit_together(self) -> bool:
        """Whether all engines of a launch should fit side by side."""
        ...

    def pool(self, announce: Callable[[str], None]) -> EnginePool:
        """A pool for one launch."""
        ...
