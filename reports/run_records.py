"""A run's records as its folder holds them: checked once as a whole, then read in parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TypeVar

from draftbench.harness.errors import RecordError
from draftbench.harness.filed import Filed
from draftbench.harness.manifest import Manifest
from draftbench.harness.metrics.evidence import Judged, Point, Telemetry
from draftbench.harness.records import (
    CellKey,
    CellRecord,
    ControlRecord,
    Line,
    ReferenceRecord,
    RequestRecord,
    RescoreRecord,
    SampleRecord,
    SampleScoreRecord,
    ScoreRecord,
)
from draftbench.harness.store import FILES, REQUESTS
from draftbench.harness.suite import Suite
from draftbench.harness.telemetry.window_records import WindowRecord
from draftbench.harness.texts import printable
from draftbench.harness.update_records import UpdateRecord

R = TypeVar("R", bound=Line)


class RunRecords:
    """Every record of a run, each kind by what rows ask for.

    Args:
        on_broken: is told of lines that are left out, as read_records has it.

    Raises:
        RecordError: a line that is no record of this run, where there is nobody to tell.
    """

    def __init__(self, run: Path, manifest: Manifest, on_broken: Callable[[str], None] | None = None) -> None:
        self._run, self._names = run, Names(manifest.suite)
        self._sha256 = None if manifest.suite_sha256 == "unknown" else manifest.suite_sha256
        self._tell = None if on_broken is None else lambda text: on_broken(printable(text))
        self._last: tuple[str, Judged] | None = None
        present: Counter[CellKey] = Counter()
        self._requests = self._filed(RequestRecord, _by_row, lambda record: present.update([record.cell]))
        seals: list[CellRecord] = []
        self._filed(CellRecord, _nothing, lambda seal: seals.append(_complete(seal, present[seal.cell])))
        self.cells = tuple(seals)
        self._references = self._filed(ReferenceRecord, _by_workload)
        self._controls = self._filed(ControlRecord, _by_workload)
        self._rescores = self._filed(RescoreRecord, _nothing)
        self._samples = self._filed(SampleRecord, _nothing)
        self._scores = self._filed(ScoreRecord, lambda record: record.cell.workload)
        self._sample_scores = self._filed(SampleScoreRecord, _nothing)
        updates: dict[tuple[str, int, int], UpdateRecord] = {}
        self._filed(UpdateRecord, _nothing, lambda made: updates.update({(made.arm, made.launch, made.block): made}))
        self.updates = tuple(updates.values())
        began_ns: list[int] = []
        self._windows = self._filed(WindowRecord, _by_row, lambda window: began_ns.append(window.started_ns))
        self._began_ns = min(began_ns, default=0)
        self._rests = tuple(self._windows.read(None))

    def requests(self, arm: str, point: Point) -> Iterator[RequestRecord]:
        """An arm's requests at a point, in their order."""
        return self._requests.read((arm, *point))

    def telemetry(self, arms: Iterable[str], point: Point) -> Telemetry:
        """The windows of these arms at a point, and of launches at rest."""
        windows = chain.from_iterable(self._windows.read((arm, *point)) for arm in arms)
        by_cell = {window.cell: window for window in windows if window.cell is not None}
        return Telemetry(by_cell, self._rests, self._began_ns)

    def judged(self, workload: str) -> Judged:
        """What a workload's outputs are judged by; scores of rounding and samples are the whole run's."""
        if self._last is None or self._last[0] != workload:
            self._last = None  # the one before goes first
            self._last = workload, self._read_judged(workload)
        return self._last[1]

    def _read_judged(self, workload: str) -> Judged:
        return Judged.of(
            self._references.read(workload),
            self._controls.read(workload),
            self._rescores.read(None),
            self._samples.read(None),
            self._scores.read(workload),
            self._sample_scores.read(None),
        )

    def _filed(
        self, kind: type[R], key: Callable[[R], Hashable], see: Callable[[R], None] = lambda record: None
    ) -> Filed[R]:
        path = self._run / FILES[kind]

        def is_kept(record: R) -> bool:
            if (problem := self._names.problem(record)) is None:
                see(record)
                return True
            if self._tell is None:
                raise RecordError(f"{path}: {problem}")
            self._tell(f"{path.name}: {problem}")
            return False

        filed = Filed(path, kind)
        filed.fill(key, is_kept, self._tell, self._sha256)
        return filed


def _by_row(record: RequestRecord | WindowRecord) -> Hashable:
    cell = record.cell
    return None if cell is None else (cell.arm, cell.workload, cell.load)


def _by_workload(record: ReferenceRecord) -> Hashable:
    return record.workload


def _nothing(record: Line) -> Hashable:
    """Of what is only read as a whole."""
    return None


class Names:
    """What records of a suite's run may name; a name of theirs that is none could be a path."""

    def __init__(self, suite: Suite) -> None:
        self._arms = {arm.name for arm in suite.arms}
        self._workloads = {workload.name for workload in suite.workloads}
        self._loads = {point.name for point in suite.load}

    def problem(self, record: Line) -> str | None:
        """What a record names that is not the suite's."""
        cell: CellKey | None = getattr(record, "cell", None)
        named = [
            ("arm", self._arms, getattr(record, "arm", None) if cell is None else cell.arm),
            ("workload", self._workloads, getattr(record, "workload", None) if cell is None else cell.workload),
            ("load", self._loads, None if cell is None else cell.load),
        ]
        for what, known, name in named:
            if name is not None and name not in known:
                return f"{what} {name!r:.80} is not of the run's suite"
        return None


def _complete(cell: CellRecord, num_present: int) -> CellRecord:
    """The cell, failed if records of its requests are missing: what is left may be the easier part."""
    if cell.error is not None or num_present == cell.num_requests:
        return cell
    error = f"{REQUESTS} holds {num_present} of its {cell.num_requests} requests"
    return cell.model_copy(update={"error": error})
