"""Phase times of rounds: by the wall clock, and by events that end later than the calls return."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from draftbench.harness.runtime.events import RoundLog
from draftbench.harness.runtime.rounds import EventClock, WallClock, record_phases


class Mode:
    def is_extend(self) -> bool:
        return False


class DraftWorker:
    def draft(self, batch: Any) -> str:
        time.sleep(0.002)
        return "tree"

    def _draft_extend_for_decode(self, batch: Any, result: Any) -> None:
        time.sleep(0.001)


class Worker:
    """A round as SGLang's EAGLE worker makes it."""

    def __init__(self) -> None:
        self.draft_worker = DraftWorker()

    def verify(self, batch: Any) -> str:
        time.sleep(0.004)
        return "result"

    def forward_batch_generation(self, batch: Any) -> str:
        self.draft_worker.draft(batch)
        result = self.verify(batch)
        self.draft_worker._draft_extend_for_decode(batch, result)
        return result


BATCH = SimpleNamespace(forward_mode=Mode(), is_extend_in_batch=False)


def lines(path: Path, count: int) -> list[list[int]]:
    for _ in range(200):
        found = [line.split()[1:] for line in path.read_text().splitlines() if line.startswith("p ")]
        if len(found) >= count:
            return [[int(field) for field in line] for line in found]
        time.sleep(0.01)
    raise AssertionError("the rounds were not written")


def test_wall_times_of_a_round(tmp_path: Path) -> None:
    """Draft, verify and extend take what they take, and add up to less than the round."""
    worker = Worker()
    record_phases(RoundLog(tmp_path / "rounds.log"), worker, WallClock())
    assert worker.forward_batch_generation(BATCH) == "result"
    ((draft, verify, extend, whole),) = lines(tmp_path / "rounds.log", 1)
    assert (draft, verify, extend) >= (2_000_000, 4_000_000, 1_000_000)
    assert draft + verify + extend <= whole


def test_times_by_events_are_read_when_they_are_over(tmp_path: Path) -> None:
    """Recording does not wait for the device; the thread does, and writes rounds in order."""
    ticks, done = itertools.count(), threading.Event()

    class Event:
        def record(self) -> None:
            self.at_ms = float(next(ticks))

        def synchronize(self) -> None:
            assert done.wait(5)

        def elapsed_time(self, end: Event) -> float:
            return end.at_ms - self.at_ms

    worker = Worker()
    record_phases(RoundLog(tmp_path / "rounds.log"), worker, EventClock(Event))
    worker.forward_batch_generation(BATCH)
    worker.forward_batch_generation(BATCH)
    assert (tmp_path / "rounds.log").read_text() == ""
    done.set()
    # Marks: round, draft twice, verify twice, extend twice, round.
    assert lines(tmp_path / "rounds.log", 2) == [[1_000_000, 1_000_000, 1_000_000, 7_000_000]] * 2


def test_a_phase_that_a_round_does_not_have_takes_no_time(tmp_path: Path) -> None:
    """A worker may skip drafting; what was measured in the round before is not counted again."""
    worker = Worker()
    record_phases(RoundLog(tmp_path / "rounds.log"), worker, WallClock())
    worker.forward_batch_generation(BATCH)
    worker.draft_worker.draft = lambda batch: "tree"  # type: ignore[method-assign]
    worker.forward_batch_generation(BATCH)
    first, second = lines(tmp_path / "rounds.log", 2)
    assert first[0] > 0
    assert second[0] == 0


def test_a_round_in_which_nothing_was_proposed_is_told(tmp_path: Path) -> None:
    """Workers that always propose have no such word."""
    worker: Any = Worker()
    record_phases(RoundLog(tmp_path / "rounds.log"), worker, WallClock())
    for nothing in (None, False, True):
        if nothing is not None:
            worker.proposed_nothing = nothing
        worker.forward_batch_generation(BATCH)
    assert [line.split()[0] for line in (tmp_path / "rounds.log").read_text().splitlines()] == ["p", "p", "e", "p"]
