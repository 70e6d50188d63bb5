"""What an engine's scheduler process tells the harness while it runs: one event a line, both ends of it.

    r <request id> <accepted drafts> [<proposed>]     one verify step of one request, bonus token excluded; proposed
                                                      nodes, root excluded, where they differ from round to round
    p <draft ns> <verify ns> <extend ns> <round ns>   one round of the whole batch
    e                                                 one of those rounds in which nothing was proposed
    f <reason>                                        the draft failed and is not asked again
    g <target> <draft> <extend>                       which phases of a pass ran in a CUDA graph: 1, 0, or - for none

Lines are appended unbuffered, so that whatever the client has received is already on disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from draftbench.harness.engine import EngineEvents
from draftbench.harness.errors import EngineError
from draftbench.harness.records import GraphUse, PhaseTimes
from draftbench.harness.safe_files import open_to_append


class RoundLog:
    """The append-only file of one engine's rounds; lives as long as the scheduler process."""

    def __init__(self, path: Path) -> None:
        self._file = open_to_append(path)

    def accepted(self, request_id: str, num_accepted_drafts: int, num_proposed_drafts: int | None = None) -> None:
        """Write one verify step of one request; how much was proposed where that changes."""
        proposed = "" if num_proposed_drafts is None else f" {num_proposed_drafts}"
        self._write(f"r {request_id} {num_accepted_drafts}{proposed}")

    def empty(self) -> None:
        """Write that a round of the whole batch had nothing proposed."""
        self._write("e")

    def failed(self, reason: str) -> None:
        """Write that the draft is out of the running, and why."""
        self._write(f"f {' '.join(reason.split())}")

    def graphs(self, *ran: bool | None) -> None:
        """Write which of target, draft and extend ran in a CUDA graph; None where there is none."""
        self._write(f"g {' '.join('-' if each is None else str(int(each)) for each in ran)}")

    def phases(self, draft_ns: int, verify_ns: int, extend_ns: int, round_ns: int) -> None:
        """Write one round's times."""
        self._write(f"p {draft_ns} {verify_ns} {extend_ns} {round_ns}")

    def _write(self, line: str) -> None:
        self._file.write(f"{line}\n".encode())


@dataclass
class _RoundSums:
    """What the lines since the last look add up to."""

    num_accepted_drafts: dict[str, list[int]] = field(default_factory=dict)
    num_proposed_drafts: dict[str, list[int]] = field(default_factory=dict)
    phases: list[Sequence[int]] = field(default_factory=list)
    graphs: list[Sequence[bool | None]] = field(default_factory=list)
    num_empty: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, line: str) -> None:
        """Count one line.

        Raises:
            ValueError: it is none of the kinds above.
        """
        kind, *fields = line.split()
        match kind, fields:
            case "r", [request_id, count, *proposed] if len(proposed) < 2:
                self.num_accepted_drafts.setdefault(request_id, []).append(int(count))
                if proposed:
                    self.num_proposed_drafts.setdefault(request_id, []).append(int(proposed[0]))
            case "p", [_, _, _, _]:
                self.phases.append([int(each) for each in fields])
            case "e", []:
                self.num_empty += 1
            case "f", reason:
                self.failures.append(" ".join(reason))
            case "g", [_, _, _]:
                self.graphs.append([{"1": True, "0": False, "-": None}[each] for each in fields])
            case _:
                raise ValueError(line)


class RoundReader:
    """Reads a RoundLog's file, each line once, while it is being written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_bytes = 0
        self.draft_failure: str | None = None
        """How the draft failed first, as far as it was read."""

    def take(self) -> EngineEvents:
        """What was written since the last call; a line that is still being written is left for the next call.

        Raises:
            EngineError: a line is no event.
        """
        if not self._path.exists():
            return EngineEvents({}, None)
        with self._path.open("rb") as file:
            file.seek(self._read_bytes)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        tally = _RoundSums()
        for line in whole.decode(errors="replace").splitlines():
            try:
                tally.add(line)
            except (ValueError, KeyError):
                raise EngineError(
                    f"{self._path} holds {line[:200]!r}, which is no event of a round; something else writes to it, or "
                    "the engine's process has another draftbench than this one."
                ) from None
        self._read_bytes += len(whole)
        if tally.failures and self.draft_failure is None:
            self.draft_failure = tally.failures[0]
        times, graphs = _phase_times(tally.phases, tally.num_empty), _graph_use(tally.graphs)
        return EngineEvents(tally.num_accepted_drafts, times, graphs, tally.num_proposed_drafts)


def _phase_times(rounds: Sequence[Sequence[int]], num_empty: int) -> PhaseTimes | None:
    """Summed; an event clock may tell a round's times after it was known to be empty."""
    if not rounds and not num_empty:
        return None
    draft, verify, extend, round_ = (sum(column) for column in zip(*rounds, strict=True)) if rounds else (0, 0, 0, 0)
    return PhaseTimes(
        num_rounds=len(rounds), draft_ns=draft, verify_ns=verify, extend_ns=extend, round_ns=round_, num_empty=num_empty
    )


def _graph_use(passes: Sequence[Sequence[bool | None]]) -> GraphUse | None:
    if not passes:
        return None
    target, draft, extend = (None if None in column else sum(column) for column in zip(*passes, strict=True))
    return GraphUse(num_passes=len(passes), target=target, draft=draft, extend=extend)
