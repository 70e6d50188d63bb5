"""The process that runs launches on a device: the run loop of a single machine, in a folder of its own.

It is started by its device's seat, told what to do on its standard input, and says what is no record in told.jsonl.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console

from draftbench.drafts.api import discover
from draftbench.harness.cluster.work import (
    TOLD,
    UNTOLD,
    Job,
    Setup,
    Told,
    check_same,
    same_here,
    versions_here,
)
from draftbench.harness.errors import EngineError, HarnessError, RecordError
from draftbench.harness.host.devices import this_device
from draftbench.harness.host.provenance import has_gpu, host
from draftbench.harness.records import CellRecord
from draftbench.harness.run.live import LiveRun
from draftbench.harness.run.progress import Progress
from draftbench.harness.runtime import fleet
from draftbench.harness.runtime.forks import die_with_parent
from draftbench.harness.safe_files import append_line
from draftbench.harness.store import RunStore
from draftbench.harness.suite import with_tokenizer

FACTS = ("engines", "engine_starts", "trained_tokens")
"""Of the manifest: what is known only where engines run."""


def main() -> None:
    """Serve the seat that started this process, and end with it."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the seat ends it
    folder = Path(sys.argv[1])
    setup = Setup.model_validate_json(sys.stdin.readline())
    serve(setup, (Job.model_validate_json(line) for line in sys.stdin), folder)


def serve(setup: Setup, jobs: Iterable[Job], folder: Path) -> None:
    """Find and check the models, say so, then do one job after the other.

    Args:
        folder: holds the run's store, which the seat has made.
    """
    told, held = Telling(folder), []
    try:
        held += [] if setup.cores is None else take_cores(setup.cores)
        suite = setup.suite.allowing(setup.allowed)
        here, preload = Path(setup.folder), not setup.cold_start
        arms = fleet.find_fleet(suite, discover(), here, folder, has_gpu(), preload=preload)
        check_same(setup.same, same_here(suite, arms.hashes()))
        told.say(
            Told(what="ready", device=this_device(), host=host(), packages=versions_here(), fits=arms.fit_together())
        )
        run: LiveRun | None = None
        for job in jobs:
            store = RunStore(folder, job.session)
            run = run or LiveRun(with_tokenizer(suite, arms.target), arms, store, told, setup.cold_start)
            if job.cells:
                run.measure(job.cells, job.with_samples)
            else:
                run.rescore()
            told.say(Told(what="done", facts=_facts(store)))
    except (HarnessError, OSError) as error:
        try:
            told.say(Told(what="failed", text=str(error)))
        except RecordError:
            raise SystemExit(UNTOLD) from error


def _facts(store: RunStore) -> dict[str, Any]:
    known = store.manifest().recorded
    return {name: known[name] for name in FACTS if name in known}


class Telling(Progress):
    """Tells the seat what would be told on a terminal; cells are told by their records."""

    def __init__(self, folder: Path) -> None:
        super().__init__(Console(file=sys.stderr, force_terminal=False))
        self._path = folder / TOLD

    def say(self, told: Told) -> None:
        """Say it; where the disk is full there is no way."""
        append_line(self._path, told.model_dump_json(exclude_defaults=True).encode())

    def note(self, text: str) -> None:
        """As `Progress` has it."""
        self.say(Told(what="note", text=text))

    def passed(self) -> None:
        """As `Progress` has it."""
        self.say(Told(what="passed"))

    def starting(self, arm: str) -> None:
        """Nobody asks."""

    def begin_pass(self, what: str, num_requests: int) -> None:
        """As above."""

    def end_cell(self, record: CellRecord) -> None:
        """As above."""


def take_cores(count: int) -> list[int]:
    """Keep so many cores of this host for this process and its engines, until it ends.

    Whoever runs launches on this host takes them by the same locks, whichever cluster it belongs to.

    Returns:
        Descriptors that hold them.

    Raises:
        EngineError: so many are not free.
    """
    held: list[int] = []
    cores: list[int] = []
    for core in sorted(os.sched_getaffinity(0)):
        if len(cores) == count:
            break
        with contextlib.suppress(OSError):  # somebody has it
            lock = os.open(Path(tempfile.gettempdir()) / f"draftbench-core-{core}.lock", os.O_RDWR | os.O_CREAT, 0o666)
            held.append(lock)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            cores.append(core)
    if len(cores) < count:
        raise EngineError(f"{count} cores of this host are asked for, {len(cores)} are free: give fewer with --cores.")
    os.sched_setaffinity(0, cores)
    return held
