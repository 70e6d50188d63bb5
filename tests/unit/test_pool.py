"""Which engines of a launch run at a time."""

from __future__ import annotations

from harness.engine import Receipt
from harness.engines import EnginePool


class FakeEngine:
    """An engine that only lives and ends."""

    def __init__(self, arm: str) -> None:
        self.arm, self.stopped = arm, False
        self.receipt = Receipt.model_construct(sglang="0", server_args={})

    def failure(self) -> str | None:
        return "ended" if self.stopped else None

    def stop(self) -> None:
        self.stopped = True


def test_the_engine_unused_for_longest_gives_way_when_room_runs_out():
    """Room is judged at every start: what was free at the beginning may be taken by then."""
    started: list[FakeEngine] = []
    room = 2

    def start(arm: str) -> FakeEngine:
        started.append(FakeEngine(arm))
        return started[-1]

    with EnginePool(start, lambda running: running < room, lambda receipts: None) as pool:  # type: ignore[arg-type]
        first, second = pool.get("a"), pool.get("b")
        assert pool.get("a") is first
        room = 1
        pool.get("c")
        assert (first.stopped, second.stopped) == (True, True)
        assert pool.get("a") is not first
    assert all(engine.stopped for engine in started)
