"""What a person sees of a training: a bar with the time left in a terminal, a line at every tenth elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from draftbench.harness.units import duration

Advance = Callable[[float, str], None]
"""Told the share that is done, and what to say of it."""


class Reporter:
    """Says things on one process; silent on the others."""

    def __init__(self, console: Console, speaks: bool = True) -> None:
        self._console, self._speaks = console, speaks

    def note(self, text: str) -> None:
        """One line that stays."""
        if self._speaks:
            self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def task(self, title: str) -> Iterator[Advance]:
        """Something that takes a while."""
        if not self._speaks:
            yield lambda share, text: None
        elif self._console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f}% {task.fields[say]}"),
            )
            with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=self._console) as bars:
                bar = bars.add_task(title, total=1.0, say="")
                yield lambda share, text: bars.update(bar, completed=share, say=text)
        else:
            yield self._lines(title)

    def _lines(self, title: str) -> Advance:
        began, begin, told = time.monotonic(), -1.0, 0

        def advance(share: float, text: str) -> None:
            nonlocal begin, told
            begin = share if begin < 0 else begin
            if int(share * 10) > told:
                told = int(share * 10)
                left = (time.monotonic() - began) * (1 - share) / max(share - begin, 1e-9)
                about = f", about {duration(left)} left" if begin < share < 1 else ""
                self.note(f"{title}: {share:.0%}{f', {text}' if text else ''}{about}")

        return advance
