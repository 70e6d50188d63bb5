"""Which engines of a launch run at a time."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from draftbench.harness.engine import Receipt
from draftbench.harness.errors import EngineError
from draftbench.harness.run.pool import EnginePool
from tests.fakes.known import receipt


class FakeEngine:
    """An engine that only starts, lives and ends."""

    def __init__(self, arm: str, events: list[str]) -> None:
        self.arm, self.events, self.stopped, self.resting = arm, events, False, False
        self.receipt = receipt()
        events.append(f"begin {arm}")

    def ready(self) -> FakeEngine:
        self.events.append(f"ready {self.arm}")
        if self.arm == "broken":
            self.stop()
            raise EngineError("it does not start")
        if self.arm == "interrupted":
            raise KeyboardInterrupt
        return self

    def failure(self) -> str | None:
        return "ended" if self.stopped else None

    def rest(self) -> None:
        self.resting = True

    def wake(self) -> None:
        self.resting = False

    def stop(self) -> None:
        self.stopped = True


class Started:
    """All engines of a pool, in the order in which they were begun."""

    def __init__(self) -> None:
        self.engines: list[FakeEngine] = []
        self.events: list[str] = []

    def begin(self, arm: str) -> FakeEngine:
        self.engines.append(FakeEngine(arm, self.events))
        return self.engines[-1]


def agree(receipts: Mapping[str, Receipt]) -> None:
    """Everything goes together."""


def test_the_engine_unused_for_longest_gives_way_when_room_runs_out():
    """Room is judged at every start: what was free at the beginning may be taken by then."""
    started, room = Started(), 2
    with EnginePool(started.begin, lambda running: room - running, agree) as pool:
        first, second = pool.get("a"), pool.get("b")
        assert pool.get("a") is first
        room = 1
        pool.get("c")
        assert (first.stopped, second.stopped) == (True, True)  # type: ignore[attr-defined]
        assert pool.get("a") is not first
    assert all(engine.stopped for engine in started.engines)


def test_engines_of_a_launch_start_side_by_side_as_many_as_there_is_room_for():
    """None is waited for before its neighbours are begun; the rest waits for the next call."""
    started = Started()
    with EnginePool(started.begin, lambda running: min(2, 3 - running), agree) as pool:
        pool.start_all(["a", "b", "c", "d"])
        assert started.events == ["begin a", "begin b", "ready a", "ready b", "begin c", "ready c"]
        assert not any(engine.stopped for engine in started.engines)
    assert all(engine.stopped for engine in started.engines)


def test_what_was_begun_is_waited_for_where_it_is_asked_for():
    """Others start while the first one works already; what had no room waits for the next call."""
    started = Started()
    with EnginePool(started.begin, lambda running: min(3, 4 - running), agree) as pool:
        first = pool.get("a")
        pool.begin(["a", "b", "broken", "c"])
        assert started.events == ["begin a", "ready a", "begin b", "begin broken", "begin c"]
        assert pool.get("a") is first
        assert pool.get("c") is started.engines[3]
        assert started.events[-1] == "ready c"
        with pytest.raises(EngineError, match="it does not start"):
            pool.get("broken")
        pool.start_all(["a", "b", "broken", "c", "d"])
        assert started.events[-3:] == ["ready b", "begin d", "ready d"]
        pool.begin(["a", "e"])
        assert pool.holds(["a", "b", "broken", "c", "d"])
    assert all(engine.stopped for engine in started.engines), "also one that nobody waited for"


def test_a_first_engine_starts_however_little_room_there_seems_to_be():
    """An estimate must not keep a run from trying."""
    started = Started()
    with EnginePool(started.begin, lambda running: 0, agree) as pool:
        pool.start_all(["a", "b"])
        assert started.events == ["begin a", "ready a"]


def test_one_that_fails_leaves_its_neighbours_running_and_is_not_tried_again():
    """It says why when it is asked for."""
    started = Started()
    with EnginePool(started.begin, lambda running: 4, agree) as pool:
        pool.start_all(["a", "broken", "b"])
        assert pool.get("a") is started.engines[0]
        assert pool.get("b") is started.engines[2]
        for _ in range(2):
            with pytest.raises(EngineError, match="it does not start"):
                pool.get("broken")
        assert len(started.engines) == 3
        assert sorted(pool.receipts) == ["a", "b"]


def test_one_that_does_not_go_with_the_others_ends_alone():
    """The check sees those before it, and it."""

    def check(receipts: Mapping[str, Receipt]) -> None:
        if {"a", "odd"} <= set(receipts):
            raise EngineError("odd differs")

    started = Started()
    with EnginePool(started.begin, lambda running: 4, check) as pool:
        pool.start_all(["a", "odd", "b"])
        assert [engine.stopped for engine in started.engines] == [False, True, False]
        with pytest.raises(EngineError, match="odd differs"):
            pool.get("odd")


def test_an_interruption_while_they_start_ends_them_all():
    """Also those that were begun and never waited for."""
    started = Started()
    with (
        pytest.raises(KeyboardInterrupt),
        EnginePool(started.begin, lambda running: 4, agree) as pool,
    ):
        pool.start_all(["a", "interrupted", "b"])
    assert all(engine.stopped for engine in started.engines)


def test_whoever_is_not_asked_for_rests():
    """And runs again where it is; one that is still starting is left alone."""
    started = Started()
    with EnginePool(started.begin, lambda running: 4, agree) as pool:
        pool.start_all(["a", "b"])
        pool.begin(["c"])
        pool.get("a")
        assert [engine.resting for engine in started.engines] == [False, True, False]
        pool.get("b")
        assert [engine.resting for engine in started.engines] == [True, False, False]
        pool.get("c")
        assert [engine.resting for engine in started.engines] == [True, True, False]
