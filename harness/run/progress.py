"""What a person sees while a run goes on: a live line per cell in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.text import Text

from draftbench.harness.records import CellKey, CellRecord, RequestRecord
from draftbench.harness.units import duration, fixed, seconds


class Progress:
    """Counts cells and requests and tells tokens a second, acceptance length and the time left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._num_cells = self._cells_done = 0
        self._began = time.monotonic()
        self._failures: set[str] = set()
        self._live = Live("", console=console, transient=True, refresh_per_second=4) if console.is_terminal else None
        self._title, self._total, self._done = "", 0, 0
        self._tallies: defaultdict[CellKey, Tally] = defaultdict(Tally)

    def __enter__(self) -> Progress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def add_cells(self, count: int) -> None:
        """So many more cells are to be measured."""
        self._num_cells += count

    def note(self, text: str) -> None:
        """Say one line that stays."""
        self._console.print(text, highlight=False, markup=False)

    def starting(self, arm: str) -> None:
        """An engine is being started."""
        self._show(f"starting {arm} …")
        if self._live is None:
            self.note(f"starting {arm}")

    def begin_pass(self, what: str, num_requests: int) -> None:
        """An unmeasured pass of vanilla begins."""
        self._reset(what, num_requests)
        if self._live is None:
            self.note(f"{what}, {num_requests} requests")

    def request_passed(self) -> None:
        """One of its requests is finished."""
        self._done += 1
        self._show(self._line())

    def passed(self) -> None:
        """The passes are over: what every arm is sent is known."""

    def begin_launches(self, what: str, num_requests: int) -> None:
        """Launches run elsewhere, side by side; their requests come as they are finished.

        Args:
            num_requests: of all of them.
        """
        if self._cells_done == 0:
            self._began = time.monotonic()
        self._reset(what, num_requests)

    def begin_cells(self, cells: Sequence[CellKey], num_requests: int) -> None:
        """Cells begin that are measured together, one or several in turns.

        Args:
            num_requests: of each.
        """
        if self._cells_done == 0:
            self._began = time.monotonic()
        title = (
            _title(cells[0]) if len(cells) == 1 else f"{_title(cells[0], with_arm=False)}, {len(cells)} arms in turns"
        )
        self._reset(title, len(cells) * num_requests)
        self._show(self._line())

    def request_done(self, record: RequestRecord) -> None:
        """One measured request is finished."""
        self._done += 1
        self._tallies[record.cell].add(record)
        self._show(self._line())

    def end_cell(self, record: CellRecord) -> None:
        """A cell is sealed or failed; leaves a line."""
        self._cells_done += 1
        counted = f"[{self._cells_done}/{self._num_cells}]"
        if record.error is not None:
            told = "as before" if record.error in self._failures else record.error
            self._failures.add(record.error)
            self.note(f"{counted} {_title(record.cell)}: FAILED: {told}")
        else:
            failed = f", {record.num_failed} failed" if record.num_failed else ""
            self.note(f"{counted} {_title(record.cell)}: {self._tallies[record.cell]}{failed}{self._eta()}")

    def _reset(self, title: str, total: int) -> None:
        self._title, self._total, self._done = title, total, 0
        self._tallies = defaultdict(Tally)

    def _eta(self) -> str:
        left = self._num_cells - self._cells_done
        if not left:
            return ""
        per_cell_s = (time.monotonic() - self._began) / self._cells_done
        return f", about {duration(left * per_cell_s)} left"

    def _line(self) -> str:
        figures = f", {next(iter(self._tallies.values()))}" if len(self._tallies) == 1 else ""
        return f"{self._title}: {self._done}/{self._total}{figures}"

    def _show(self, line: str) -> None:
        if self._live is not None:
            self._live.update(Text(line))


class Tally:
    """What one cell's requests have brought so far."""

    def __init__(self) -> None:
        self._tokens = self._steps = self._accepted = self._took_ns = 0

    def add(self, record: RequestRecord) -> None:
        """Count a finished request."""
        self._tokens += record.num_output_tokens
        for round_ in record.rounds or ():
            self._steps += 1
            self._accepted += round_.num_accepted_drafts
        if not self._took_ns:
            self._first_sent_ns, self._paused_ns = record.sent_ns, 0
        self._paused_ns += record.paused_ns
        self._took_ns = record.finished_ns - self._first_sent_ns - self._paused_ns

    def __str__(self) -> str:
        rate = self._tokens / seconds(self._took_ns) if self._took_ns > 0 else None
        tau = 1 + self._accepted / self._steps if self._steps else None
        return f"{fixed(rate, 1)} tokens/s, τ {fixed(tau, 2)}"


def _title(cell: CellKey, with_arm: bool = True) -> str:
    return f"launch {cell.launch} block {cell.block} {cell.workload} {cell.load}{f' {cell.arm}' if with_arm else ''}"
