"""A run's records held in memory, for rows that are made without a folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from draftbench.harness.metrics.evidence import Judged, Point, Telemetry
from draftbench.harness.records import CellRecord, RequestRecord
from draftbench.harness.telemetry.window_records import WindowRecord


class Held:
    """As `Records` has them."""

    def __init__(
        self,
        requests: Iterable[RequestRecord],
        cells: Sequence[CellRecord],
        judged: Judged | None = None,
        windows: Iterable[WindowRecord] = (),
    ) -> None:
        self._requests, self.cells, self._windows = list(requests), cells, list(windows)
        self._judged = Judged.of(()) if judged is None else judged

    def requests(self, arm: str, point: Point) -> Iterator[RequestRecord]:
        """An arm's at a point."""
        for request in self._requests:
            if (request.cell.arm, request.cell.workload, request.cell.load) == (arm, *point):
                yield request

    def telemetry(self, arms: Iterable[str], point: Point) -> Telemetry:
        """All of it."""
        return Telemetry(
            {window.cell: window for window in self._windows if window.cell is not None},
            tuple(window for window in self._windows if window.cell is None),
            min((window.started_ns for window in self._windows), default=0),
        )

    def judged(self, workload: str) -> Judged:
        """All of it."""
        return self._judged
