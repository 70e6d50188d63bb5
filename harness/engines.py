"""The engines of one launch: started when first needed, kept while memory allows, checked against each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from types import TracebackType

from harness.engine import Engine, Receipt
from harness.errors import EngineError, HarnessError

Start = Callable[[str], Engine]
"""Starts the named arm's engine and returns it ready, or raises a HarnessError."""


class EnginePool:
    """Running engines, as many as there is room for; the one unused for longest gives way.

    Leaving the context ends them all. `has_room` is asked before each start with the number that runs already, because
    other programs take memory too. Endpoints run already and take no room here.
    """

    def __init__(
        self,
        start: Start,
        has_room: Callable[[int], bool],
        check: Callable[[Mapping[str, Receipt]], None],
        endpoints: Mapping[str, Engine] | None = None,
    ) -> None:
        self._endpoints = endpoints or {}
        self._start, self._has_room, self._check = start, has_room, check
        self._running: dict[str, Engine] = {}
        self._starts_failed: dict[str, str] = {}
        self.receipts: dict[str, Receipt] = {}

    def __enter__(self) -> EnginePool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for arm in list(self._running):
            self._running.pop(arm).stop()

    def get(self, arm: str) -> Engine:
        """The arm's engine, started anew if it died; an arm that failed to start is not tried again.

        Raises:
            EngineError: it cannot be started, or its resolved arguments differ from the other arms'.
        """
        if arm in self._endpoints:
            return self._endpoints[arm]
        engine = self._running.pop(arm, None)
        if engine is not None and engine.failure() is not None:
            engine.stop()
            engine = None
        if engine is None:
            engine = self._started(arm)
        self._running[arm] = engine
        return engine

    def start_all(self, arms: Iterable[str]) -> None:
        """Start arms in this order while there is room; one that cannot be started says why when it is asked for."""
        for arm in arms:
            if self._running and not self._has_room(len(self._running)):
                return
            with suppress(HarnessError):
                self.get(arm)

    def _started(self, arm: str) -> Engine:
        if arm in self._starts_failed:
            raise EngineError(self._starts_failed[arm])
        while self._running and not self._has_room(len(self._running)):
            self._running.pop(next(iter(self._running))).stop()
        try:
            engine = self._start(arm)
        except HarnessError as error:
            self._starts_failed[arm] = str(error)
            raise
        receipt = engine.receipt
        assert receipt is not None, "what we start gives one"
        self.receipts[arm] = receipt
        try:
            self._check(self.receipts)
        except HarnessError as error:
            engine.stop()
            del self.receipts[arm]
            self._starts_failed[arm] = str(error)
            raise
        return engine
