"""A run whose launches are spread over devices: who gets which, and how what comes back becomes one folder.

A launch runs on one device from its beginning to its end. One that was cut is measured anew as a whole, on another
device or when the run is resumed. The first device that is given a launch makes vanilla's passes with that launch's
engine, and alone lets the arms sample; the others get theirs when the passes are over. One module, because who has
which launch and what of it came back is one state.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Protocol

from draftbench.harness.cluster.work import TOLD, Job, News, Setup, Told, check_packages, lines_of, same_here
from draftbench.harness.errors import EngineError
from draftbench.harness.host.devices import Device, check_identical, unequal
from draftbench.harness.host.provenance import suite_sha256
from draftbench.harness.manifest import MANIFEST, Manifest
from draftbench.harness.metrics.lossless import key_of
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
)
from draftbench.harness.run.live import checked_renderer
from draftbench.harness.run.plan import num_launches, plan_launch
from draftbench.harness.run.pool import Fleet
from draftbench.harness.run.progress import Progress
from draftbench.harness.run.rescores import not_rescored
from draftbench.harness.run.samples import unscored_samples
from draftbench.harness.store import FILES, RunStore
from draftbench.harness.suite import Suite, anchored
from draftbench.harness.workloads.conversations import load_workload

MOST_TRIES = 3
"""Of one launch, and of one device: what failed so often would fail again."""
KINDS: dict[str, type[Line]] = {name: kind for kind, name in FILES.items()}
PASSES: tuple[type[Line], ...] = (ReferenceRecord, ControlRecord)
SCORED: tuple[type[Line], ...] = (RescoreRecord, SampleRecord, SampleScoreRecord)


class Lost(Exception):
    """A device, or the process that stood for it, is gone.

    Args:
        number: the device's.
        why: in its own words.
    """

    def __init__(self, number: int, why: str) -> None:
        super().__init__(why)
        self.number, self.why = number, why


class Cluster(Protocol):
    """Devices that launches can run on, each with a number and a place that people know it by."""

    @property
    def places(self) -> Mapping[int, str]:
        """Where each device is."""
        ...

    def start(self, setup: Setup, note: Callable[[str], None]) -> None:
        """Let every device find a suite's models; each says by `news` when it has.

        Raises:
            EngineError: there is no device.
        """
        ...

    def begin(self, number: int, job: Job) -> None:
        """Start a job on a device that has none; a device that is gone is told by `news`."""
        ...

    def news(self) -> tuple[int, Sequence[News]]:
        """What the next device has to say; waits for it.

        Raises:
            Lost: it is gone.
            EngineError: the cluster is.
        """
        ...

    def renew(self, number: int) -> bool:
        """Try to have a device again whose process is gone; False where it cannot be had."""
        ...

    def drop(self, number: int) -> None:
        """Ask a device for nothing more, and end what runs there."""
        ...


def gather(
    cluster: Cluster,
    suite: Suite,
    suite_folder: Path,
    models: Mapping[str, str],
    cold_start: bool,
    note: Callable[[str], None],
) -> dict[int, Told]:
    """Tell every device of a suite, and wait until they have found its models.

    Args:
        models: hashes of the suite's models, which have to be the same there.

    Raises:
        EngineError: as `greet`, or an arm is a server that runs already.
    """
    if found := [arm.name for arm in suite.arms if arm.is_endpoint]:
        raise EngineError(f"arm {found[0]} is an endpoint, one server for all: measure it without --on.")
    placed = anchored(suite)
    setup = Setup(
        suite=placed,
        suite_sha256=suite_sha256(suite.model_dump(mode="json")),
        folder=str(suite_folder.absolute()),
        allowed=tuple(suite.allowed),
        same=same_here(placed, models),
        cold_start=cold_start,
    )
    cluster.start(setup, note)
    return greet(cluster, note, suite.devices == "any")


def check_began_alone(folder: Path) -> None:
    """Find out whether a run may go on on this host.

    Raises:
        EngineError: its launches were spread over devices.
    """
    if (folder / MANIFEST).exists() and Manifest.read(folder).devices:
        raise EngineError(f"{folder} was begun with --on; go on with it with --on, or start a new run.")


def greet(cluster: Cluster, note: Callable[[str], None], any_device: bool) -> dict[int, Told]:
    """Wait until every device has found and checked the suite's models.

    Returns:
        What each says of itself.

    Raises:
        EngineError: none is ready, or two are not identical.
    """
    said: dict[int, Told] = {}
    waiting, refused = set(cluster.places), []
    while waiting:
        try:
            number, news = cluster.news()
        except Lost as lost:
            number, news = lost.number, [(TOLD, Told(what="ended", text=lost.why).model_dump_json())]
        for _, line in news:
            told = Told.model_validate_json(line)
            if told.what == "ready":
                said[number] = told
                waiting.discard(number)
            elif told.what in ("failed", "ended"):
                refused.append(f"{cluster.places[number]}: {told.text}")
                waiting.discard(number)
                cluster.drop(number)
            else:
                note(f"{cluster.places[number]}: {told.text}")
    if not said:
        raise EngineError("no device can run this suite.\n" + "\n".join(refused))
    if refused:
        raise EngineError("not every device can run this suite; mend it, or take it away.\n" + "\n".join(refused))
    said = dict(sorted(said.items()))  # which one was ready first is chance
    check_packages({cluster.places[number]: told.packages for number, told in said.items()})
    if not any_device:
        check_identical({cluster.places[number]: device_of(told) for number, told in said.items()})
    return said


def device_of(told: Told) -> Device:
    """Of one that is ready."""
    assert told.device is not None
    return told.device


class SpreadRun:
    """A suite's run into its folder on the devices of a cluster, as `LiveRun` is on this host."""

    def __init__(
        self,
        suite: Suite,
        arms: Fleet,
        store: RunStore,
        progress: Progress,
        cluster: Cluster,
        ready: Mapping[int, Told],
    ) -> None:
        """Check what can be checked before a launch starts.

        Args:
            ready: what the devices said, by number.

        Raises:
            WorkloadError: a trace has too few prompts, or a prompt does not fit.
            EngineError: a run that goes on began on other devices.
        """
        self._suite, self._arms, self._store, self._progress, self._cluster = suite, arms, store, progress, cluster
        self._devices = {number: device_of(told) for number, told in ready.items()}
        self._any_device = suite.devices == "any"
        self._check_earlier()
        first = next(iter(ready.values()))
        store.note(host=first.host, packages=first.packages)
        self.resident = all(told.fits for told in ready.values())
        """Whether all engines of a launch run side by side, on every device."""
        self.renderer = checked_renderer(suite, arms, store, progress)
        self._turns = {
            each.name: sum(len(found.turns) for found in load_workload(each, suite.sampling.seed))
            for each in suite.workloads
        }
        self._began_s = time.monotonic()
        self._known = {_key(record) for kind in (*PASSES, *SCORED) for record in store.read(kind)}
        self._passed = arms.reference is None or suite.target.random_weights or self._has_passes()
        self._sampled = False
        self._busy: dict[int, Job] = {}
        self._tries: Counter[int] = Counter()
        self._ended: Counter[int] = Counter()
        self._given: set[int] = set()
        """Devices that have vanilla's passes."""
        self._renewed: Counter[int] = Counter()
        self._lost: list[str] = []

    def measure(self, cells: Sequence[CellKey], until_s: float | None = None) -> int:
        """Run those launches of which a cell is not sealed yet, each as a whole.

        Args:
            until_s: on the monotonic clock, when no launch is begun any more.

        Returns:
            Launches that were not begun for that reason.

        Raises:
            EngineError: no device is left.
        """
        pending = {cell.launch for cell in self._store.pending(cells)}
        self._store.set_launches_aside(pending)
        launches = [tuple(launch) for _, launch in groupby(cells, key=lambda cell: cell.launch)]
        waiting = deque(
            Job(cells=launch, session=self._store.session, records={}, with_samples=False)
            for launch in launches
            if launch[0].launch in pending
        )
        if not waiting:
            return 0
        self._progress.add_cells(sum(len(job.cells) for job in waiting))
        sent = sum(
            min(self._turns[cell.workload], self._suite.prompts_at(cell.load) or self._turns[cell.workload])
            for job in waiting
            for cell in job.cells
        )
        self._progress.begin_launches(f"{len(waiting)} launches on {len(self._devices)} devices", sent)
        return self._do(waiting, until_s)

    def add_launches(self, wanted: Callable[[float], int]) -> None:
        """As `LiveRun` has it, on all devices at a time."""
        auto = self._suite.auto
        assert auto is not None
        first, total = num_launches(self._suite), wanted(auto.half_width)
        more = [cell for launch in range(first, total) for cell in plan_launch(self._suite, launch, self.resident)]
        if left := self.measure(more, self._began_s + auto.time_limit_s):
            self._progress.note(f"time limit reached after {total - left} launches of {total}: intervals stay wider")

    def rescore(self) -> None:
        """Let the target score what no launch's engine has, on one device; where it cannot be, the report says so."""
        outputs = set(not_rescored(self._suite, self._store))
        if self._arms.reference is None or not (outputs or unscored_samples(self._suite, self._store)):
            return
        asked: dict[object, RequestRecord] = {}
        for record in self._store.each(RequestRecord):
            if (pair := (key_of(record), record.output_ids)) in outputs:
                asked.setdefault(pair, record)
        records = {**self._lines(*PASSES, *SCORED), FILES[RequestRecord]: lines_of(tuple(asked.values()))}
        records = {name: lines for name, lines in records.items() if lines}
        job = Job(cells=(), session=self._store.session, records=records, with_samples=False)
        try:
            self._do(deque([job]), None)
        except EngineError as error:
            self._progress.note(f"outputs could not be scored: {error}")

    def _do(self, waiting: deque[Job], until_s: float | None) -> int:
        left = 0
        while waiting or self._busy:
            if until_s is not None and time.monotonic() > until_s:
                left += len(waiting)
                waiting.clear()
                if not self._busy:
                    break
            self._hand_out(waiting)
            try:
                number, news = self._cluster.news()
            except Lost as lost:
                self._cut(lost.number, lost.why, waiting, may_renew=True)
                continue
            for name, line in news:
                if name == TOLD:
                    self._hear(number, Told.model_validate_json(line), waiting)
                else:
                    self._merge(KINDS[name].model_validate_json(line).model_copy(update={"suite_sha256": None}))
        return left

    def _hand_out(self, waiting: deque[Job]) -> None:
        """Give every device that has nothing to do a launch; before vanilla's passes are over only one is under way."""
        for number in self._devices:
            if number in self._busy or not waiting or (self._busy and not self._passed):
                continue
            job = waiting.popleft()
            if job.cells:
                launch = job.cells[0].launch
                kinds = PASSES if self._passed and self._sampled else (*PASSES, *SCORED)
                records = {} if number in self._given else self._lines(*kinds)
                job = job.model_copy(update={"records": records, "with_samples": not self._sampled})
                self._sampled = True
                self._given.add(number)
                self._store.note(devices={**self._store.manifest().devices, launch: self._devices[number]})
                self._tries[launch] += 1
            self._busy[number] = job
            self._cluster.begin(number, job)

    def _hear(self, number: int, told: Told, waiting: deque[Job]) -> None:
        if told.what == "note":
            self._progress.note(f"{self._cluster.places[number]}: {told.text}")
        elif told.what == "passed":
            self._passed = True
        elif told.what == "done":
            self._busy.pop(number, None)
            self._passed = True
            known = self._store.manifest()
            engines = {**known.recorded.get("engines", {}), **told.facts.get("engines", {})}
            self._store.note(**{**told.facts, **({"engines": engines} if engines else {})})
        elif told.what == "ready":
            self._take(number, device_of(told))
        else:
            self._cut(number, told.text, waiting, may_renew=told.what == "ended")

    def _merge(self, record: Line) -> None:
        """Put a record into the run's folder, unless it is there from another device."""
        if isinstance(record, (*PASSES, *SCORED)):
            if (key := _key(record)) in self._known:
                return
            self._known.add(key)
        self._store.append(record)
        if isinstance(record, RequestRecord):
            self._progress.request_done(record)
        elif isinstance(record, CellRecord):
            self._ended[record.cell.launch] += 1
            self._progress.end_cell(record)

    def _cut(self, number: int, why: str, waiting: deque[Job], may_renew: bool) -> None:
        """A device is gone: what it measured of its launch is set aside, and the launch goes to another one.

        Raises:
            EngineError: no device is left, or the launch has ended too many.
        """
        place, job = self._cluster.places[number], self._busy.pop(number, None)
        self._devices.pop(number, None)
        self._given.discard(number)
        self._lost.append(f"{place}: {why}")
        self._progress.note(f"{place} is lost: {why}")
        if job is not None:
            launch = job.cells[0].launch if job.cells else -1
            if job.cells:
                self._store.set_launches_aside({launch})
                self._progress.add_cells(self._ended.pop(launch, 0))
            if job.with_samples:
                self._sampled = False
            waiting.appendleft(job)
            if self._tries[launch] >= MOST_TRIES:
                raise EngineError(f"launch {launch} ended {MOST_TRIES} devices; {_kept(self._lost)}")
        self._renewed[number] += 1
        if may_renew and self._renewed[number] < MOST_TRIES and self._cluster.renew(number):
            return
        self._cluster.drop(number)
        if not self._devices:
            raise EngineError(f"no device is left; {_kept(self._lost)}")

    def _take(self, number: int, device: Device) -> None:
        """A device that was lost is there again."""
        known = next(iter(self._devices.values()), None)
        if known is not None and not self._any_device and (found := unequal(known, device)):
            self._progress.note(f"{self._cluster.places[number]} came back as another device: {'; '.join(found)}")
            self._cluster.drop(number)
        else:
            self._devices[number] = device

    def _lines(self, *kinds: type[Line]) -> dict[str, tuple[str, ...]]:
        found = {FILES[kind]: lines_of(self._store.read(kind)) for kind in kinds}
        return {name: lines for name, lines in found.items() if lines}

    def _has_passes(self) -> bool:
        """Whether the reference, and under greedy decoding the control, of every prompt is recorded."""
        kinds = PASSES if self._suite.sampling.temperature == 0 else (ReferenceRecord,)
        turns = sum(self._turns.values())
        return all(len(self._store.read(kind)) == turns for kind in kinds)

    def _check_earlier(self) -> None:
        """Raises:
        EngineError: what is sealed was measured on devices of another kind.
        """
        sealed = {record.cell.launch for record in self._store.each(CellRecord)}
        earlier = [device for launch, device in self._store.manifest().devices.items() if launch in sealed]
        if sealed and not earlier:
            raise EngineError(
                "this run began on one host, without --on; go on with it there and without --on, or start a new run."
            )
        if earlier and not self._any_device:
            check_identical({"the device that this run began on": earlier[0]} | {
                self._cluster.places[number]: device for number, device in self._devices.items()
            })  # fmt: skip


def _kept(lost: Sequence[str]) -> str:
    return "what was measured is kept, go on with --resume.\n" + "\n".join(lost)


def _key(record: Line) -> tuple[object, ...]:
    """What a record of vanilla's passes, of samples or of scores is about: it is made once, whoever makes it."""
    if isinstance(record, RescoreRecord):
        return RescoreRecord, key_of(record), record.output_ids
    if isinstance(record, SampleRecord | SampleScoreRecord):
        return type(record), record.arm, record.prompt_id
    assert isinstance(record, ReferenceRecord)
    return type(record), key_of(record)
