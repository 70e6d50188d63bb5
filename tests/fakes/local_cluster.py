"""A cluster without Ray: every device is a seat of this process, its launches run in a thread on played engines."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from draftbench.harness.cluster import device_run
from draftbench.harness.cluster.seat import Seat
from draftbench.harness.cluster.spread import Lost
from draftbench.harness.cluster.work import TOLD, Job, News, Setup, Told
from draftbench.harness.host.devices import Device

XEON = Device(cpu="Xeon", cores=1, system="Linux x86_64", python="3.11.2")


class LaunchesThread:
    """`device_run.serve` in a thread."""

    def __init__(self, setup: Setup, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._thread = threading.Thread(target=self._serve, args=(setup, folder), daemon=True)
        self._killed = False
        self._thread.start()

    def _serve(self, setup: Setup, folder: Path) -> None:
        device_run.serve(setup, (Job.model_validate_json(line) for line in iter(self._lines.get, None)), folder)

    def send(self, line: str) -> None:
        """Of its input."""
        self._lines.put(line)

    def ended(self) -> Told | None:
        """How."""
        return None if self._thread.is_alive() and not self._killed else Told(what="ended", text="it is gone")

    def stop(self) -> None:
        """After the job that is under way."""
        self._killed = True
        self._lines.put(None)
        self._thread.join()


@dataclass
class LocalCluster:
    """Devices that may be lost by plan.

    Attributes:
        devices: by number.
        loses: whether a device's actor is lost before its next news, given its number and the news that it had.
        renews: whether one that was lost can be had again.
    """

    devices: Mapping[int, Device]
    loses: Callable[[int, Sequence[News]], bool] = lambda number, had: False
    renews: bool = False
    jobs: list[tuple[int, Job]] = field(default_factory=list)
    """What was handed out, in its order."""

    def __post_init__(self) -> None:
        self.places = {number: f"device {number}" for number in self.devices}
        self._seats: dict[int, Seat] = {}
        self._had: dict[int, list[News]] = {number: [] for number in self.devices}

    def __enter__(self) -> LocalCluster:
        return self

    def __exit__(self, *_: object) -> None:
        for number in tuple(self._seats):
            self.drop(number)

    def start(self, setup: Setup, note: Callable[[str], None]) -> None:
        """As `Cluster` has it."""
        self._setup = setup
        for number in self.devices:
            self._seats[number] = Seat(setup, LaunchesThread)

    def begin(self, number: int, job: Job) -> None:
        """As above."""
        self.jobs.append((number, job))
        self._seats[number].begin(job)

    def news(self) -> tuple[int, Sequence[News]]:
        """As above."""
        while True:
            for number, seat in tuple(self._seats.items()):
                found = seat.news(0.01)
                if self.loses(number, self._had[number]):
                    self._had[number] = []
                    raise Lost(number, "it was killed")
                if found:
                    self._had[number] += found
                    self._seats[number] = self._seats.pop(number)  # the others have their turn
                    return number, self._told(number, found)

    def renew(self, number: int) -> bool:
        """As above."""
        self.drop(number)
        if self.renews:
            self._seats[number] = Seat(self._setup, LaunchesThread)
        return self.renews

    def drop(self, number: int) -> None:
        """As above."""
        if (seat := self._seats.pop(number, None)) is not None:
            seat.close()

    def _told(self, number: int, news: Sequence[News]) -> Sequence[News]:
        """What a device says of itself is by plan."""

        def planned(name: str, line: str) -> News:
            if name == TOLD and (told := Told.model_validate_json(line)).what == "ready":
                line = told.model_copy(update={"device": self.devices[number]}).model_dump_json()
            return name, line

        return [planned(name, line) for name, line in news]
