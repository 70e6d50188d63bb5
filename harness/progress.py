"""What a person sees while a run goes on: a live line per cell in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time

from rich.console import Console
from rich.live import Live
from rich.text import Text

from harness.records import CellKey, CellRecord, RequestRecord
from harness.units import duration, fixed, seconds


class Progress:
    """Counts cells and requests and tells tokens a second, acceptance length and the time left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._num_cells = self._cells_done = 0
        self._began = time.monotonic()
        self._failures: set[str] = set()
        self._live = Live("", console=console, transient=True, refresh_per_second=4) if console.is_terminal else None
        self._title, self._total, self._done = "", 0, 0
        self._tokens = self._steps = self._accepted = 0
        self._first_sent_ns = self._last_ns = 0

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

    def begin_pass(self, what: str, num_requests: int) -> None:
        """An unmeasured pass of vanilla begins."""
        self._reset(what, num_requests)
        if self._live is None:
            self.note(f"{what}, {num_requests} requests")

    def request_passed(self) -> None:
        """One of its requests is finished."""
        self._done += 1
        self._show(self._line())

    def begin_cell(self, cell: CellKey, num_requests: int) -> None:
        """A measured cell begins."""
        if self._cells_done == 0:
            self._began = time.monotonic()
        self._reset(_title(cell), num_requests)
        self._show(self._line())

    def request_done(self, record: RequestRecord) -> None:
        """One measured request is finished."""
        self._done += 1
        self._tokens += record.num_output_tokens
        self._first_sent_ns = self._first_sent_ns or record.sent_ns
        self._last_ns = record.finished_ns
        for round_ in record.rounds or ():
            self._steps += 1
            self._accepted += round_.num_accepted_drafts
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
            self.note(f"{counted} {_title(record.cell)}: {self._figures()}{failed}{self._eta()}")

    def _reset(self, title: str, total: int) -> None:
        self._title, self._total, self._done = title, total, 0
        self._tokens = self._steps = self._accepted = 0
        self._first_sent_ns = self._last_ns = 0

    def _figures(self) -> str:
        elapsed_s = seconds(self._last_ns - self._first_sent_ns)
        rate = self._tokens / elapsed_s if elapsed_s > 0 else None
        tau = 1 + self._accepted / self._steps if self._steps else None
        return f"{fixed(rate, 1)} tokens/s, τ {fixed(tau, 2)}"

    def _eta(self) -> str:
        left = self._num_cells - self._cells_done
        if not left:
            return ""
        per_cell_s = (time.monotonic() - self._began) / self._cells_done
        return f", about {duration(left * per_cell_s)} left"

    def _line(self) -> str:
        return f"{self._title}: {self._done}/{self._total}, {self._figures()}"

    def _show(self, line: str) -> None:
        if self._live is not None:
            self._live.update(Text(line))


def _title(cell: CellKey) -> str:
    return f"launch {cell.launch} block {cell.block} {cell.workload} {cell.load} {cell.arm}"
