"""A device's side of a run: the folder and the process of its launches, and what of them is new."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import psutil

from draftbench.harness.cluster.work import TOLD, UNTOLD, Job, News, Setup, Told
from draftbench.harness.errors import RecordError
from draftbench.harness.manifest import Manifest
from draftbench.harness.records import CellRecord
from draftbench.harness.store import FILES, RunStore

FOLDERS = "draftbench-seat-"
"""What the names of seats' folders begin with; the process that has one comes next."""
COMMAND = "from draftbench.harness.cluster.device_run import main; main()"
LOG = "launches.log"
LOG_LINES_SHOWN = 15
LOOK_EVERY_S = 0.25
"""How often files are looked at for new lines; more would take time from what is measured."""
ORDER = (TOLD, FILES[CellRecord], *(name for kind, name in FILES.items() if kind is not CellRecord))
"""In which files are read. What comes first speaks of lines in what comes later, so these are handed on before it."""


class Launches(Protocol):
    """The process of a device's launches."""

    def send(self, line: str) -> None:
        """One line to its standard input."""
        ...

    def ended(self) -> Told | None:
        """How it ended; None while it runs."""
        ...

    def stop(self) -> None:
        """End it, and with it everything it started."""
        ...


class LaunchesProcess:
    """`device_run.main` in a process of its own, which ends with this one."""

    def __init__(self, setup: Setup, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        """Start it.

        Args:
            environment: all of its variables; None for this process's own.
        """
        self._log = folder / LOG
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", COMMAND, str(folder)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                text=True,
            )
        self.send(setup.model_dump_json())

    def send(self, line: str) -> None:
        """As `Launches` has it; a process that is gone is seen by `ended`."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def ended(self) -> Told | None:
        """With its last lines."""
        if (code := self._process.poll()) is None:
            return None
        if code == UNTOLD:
            return Told(what="failed", text=f"{self._log.parent} cannot be written there: make space, or set TMPDIR.")
        lines = self._log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return Told(what="ended", text=f"exit code {code}" + "".join(f"\n  {line}" for line in lines))

    def stop(self) -> None:
        """Its engines end with it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def own_environment() -> dict[str, str]:
    """This process's variables as it was started with, and the GPUs that it was given since.

    Ray sets more in a worker, such as a number of threads, that a run on one machine would not have.
    """
    started = Path("/proc/self/environ").read_bytes().decode(errors="surrogateescape").split("\0")
    given = {name: os.environ[name] for name in ("CUDA_VISIBLE_DEVICES",) if os.environ.get(name)}
    return {**dict(entry.split("=", 1) for entry in started if "=" in entry), **given}


class Tail:
    """New whole lines of a folder's files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._at = dict.fromkeys(ORDER, 0)

    def skip(self, names: Mapping[str, object]) -> None:
        """Leave out what these files hold now."""
        for name in names:
            self._at[name] = (self._folder / name).stat().st_size

    def take(self) -> list[News]:
        """Lines since the last call, in an order in which none speaks of one that is still to come."""
        found: list[list[News]] = []
        for name in ORDER:
            path = self._folder / name
            if path.exists():
                with path.open("rb") as file:
                    file.seek(self._at[name])
                    new = file.read()
                whole = new[: new.rfind(b"\n") + 1]
                self._at[name] += len(whole)
                found.append([(name, line) for line in whole.decode().split("\n")[:-1]])
        return [news for lines in reversed(found) for news in lines]


def remove_left(prefix: str, place: Path) -> None:
    """Remove the folders of processes that were killed on this host.

    Args:
        prefix: what the folders' names begin with; the process that had one comes next.
        place: where they lie.
    """
    for folder in place.glob(f"{prefix}*-*"):
        pid = folder.name.removeprefix(prefix).partition("-")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


class Seat:
    """A device for a suite's launches, one after the other."""

    def __init__(
        self, setup: Setup, start: type[LaunchesProcess] | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        remove_left(FOLDERS, Path(tempfile.gettempdir()))
        self.folder = Path(tempfile.mkdtemp(prefix=f"{FOLDERS}{os.getpid()}-"))
        """On the device's host; it is gone once the seat is closed."""
        manifest = Manifest(suite=setup.suite, suite_sha256=setup.suite_sha256)
        self._store = RunStore.create(self.folder, manifest)
        self._tail = Tail(self.folder)
        self._has_ended = False
        self._refused: str | None = None
        self._launches: Launches = (start or LaunchesProcess)(setup, self.folder, environment)

    def begin(self, job: Job) -> None:
        """Start a job; `news` tells when it is done, or that the disk is full."""
        kinds = {name: kind for kind, name in FILES.items()}
        try:
            for name, lines in job.records.items():
                for line in lines:
                    self._store.append(kinds[name].model_validate_json(line))
        except RecordError as error:
            self._refused = str(error)
            self._launches.stop()
            return
        self._tail.skip(job.records)
        self._launches.send(job.model_copy(update={"records": {}}).model_dump_json())

    def news(self, wait_s: float = 1.0) -> list[News]:
        """What is new, waited for no longer than this; the last of it is how the process of the launches ended."""
        deadline = time.monotonic() + wait_s
        while True:
            how = self._launches.ended()
            found = self._tail.take()
            if how is not None and not self._has_ended:
                self._has_ended = True
                if not any(name == TOLD and Told.model_validate_json(line).what == "failed" for name, line in found):
                    last = how if self._refused is None else Told(what="failed", text=self._refused)
                    found.append((TOLD, last.model_dump_json()))
            if found or time.monotonic() > deadline:
                return found
            time.sleep(LOOK_EVERY_S)

    def close(self) -> None:
        """End the process of the launches and its engines, and remove the folder."""
        self._launches.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
