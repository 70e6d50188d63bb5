"""Whether a report says what the records beside it give: every result file is made again and compared cell by cell."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

import matplotlib

from draftbench.harness.errors import RecordError
from draftbench.harness.host.provenance import suite_sha256
from draftbench.reports.files import FIGURES, PAGE, REPORT, Run, figures_of, read_run, results
from draftbench.reports.page import render_page, without_figures
from draftbench.reports.plots import Plot

Cells = list[tuple[str, str]]
"""A line's parts, each with where it stands."""


@dataclass(frozen=True)
class Verdict:
    """What was compared, and what does not match."""

    files: tuple[str, ...]
    num_numbers: int
    mismatches: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """What could not be compared, and why."""


def verify(report: Path) -> Verdict:
    """Compare a run's result files with what its records give, figures too.

    Args:
        report: A run's folder or a file in it.

    Raises:
        RecordError: there is no report or no run.
    """
    folder = report if report.is_dir() else report.parent
    if not (folder / REPORT).exists():
        raise RecordError(f"{folder} holds no {REPORT}; give the report of a run, or write it with bench.py report.")
    return verify_run(read_run(folder))


def verify_run(run: Run) -> Verdict:
    """The same of a run that was read already."""
    folder = run.folder
    figures = figures_of(run)
    notes = tuple(_other_version(folder / FIGURES))
    fresh = results(run)
    shown = () if notes else figures
    fresh[PAGE] = render_page(run.rows, run.manifest, run.records_sha256, run.broken, shown)
    mismatches: list[str] = []
    recorded, suite_hash = run.manifest.suite_sha256, suite_sha256(run.manifest.recorded["suite"])
    if recorded != suite_hash:
        mismatches.append(f"manifest.json, suite_sha256: found {recorded}, recomputed {suite_hash}")
    files, num_numbers = [], 0
    for name, text in fresh.items():
        try:
            found = (folder / name).read_text()
        except (OSError, UnicodeDecodeError) as error:
            mismatches.append(f"{name}: {'missing' if isinstance(error, FileNotFoundError) else error}; write it with "
                              "bench.py report")  # fmt: skip
            continue
        if name == PAGE and notes:
            found, text = without_figures(found), without_figures(text)
        mismatches += differences(name, found.splitlines(), text.splitlines())
        num_numbers += len(re.findall(r"\d+(?:\.\d+)?", text))
        files.append(name)
    mismatches += _figure_differences(folder / FIGURES, figures, compare=not notes)
    return Verdict((*files, FIGURES) if figures else tuple(files), num_numbers, tuple(mismatches), notes)


def _other_version(folder: Path) -> Iterator[str]:
    """That figures were drawn by another Matplotlib, whose lines lie elsewhere."""
    found = {
        version[1]
        for path in sorted(folder.glob("*.svg"))
        if (version := re.search(r"Matplotlib v([\w.+-]+)", path.read_text(errors="replace")[:2000]))
    }
    if found - {matplotlib.__version__}:
        theirs = ", ".join(sorted(found - {matplotlib.__version__}))
        yield f"figures were drawn by Matplotlib {theirs}, and are not compared with those of {matplotlib.__version__}"


def _figure_differences(folder: Path, figures: Sequence[Plot], compare: bool) -> Iterator[str]:
    """Figures that are missing, too many, or not what the records give."""
    names = {f"{plot.name}.{ending}" for plot in figures for ending in ("svg", "png")}
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    for name in sorted(names - there):
        yield f"{FIGURES}/{name}: missing; write it with bench.py report"
    for name in sorted(there - names):
        yield f"{FIGURES}/{name}: the records do not give it"
    for plot in figures if compare else ():
        for name, fresh in ((f"{plot.name}.svg", plot.svg().encode()), (f"{plot.name}.png", plot.png())):
            if name in there and (folder / name).read_bytes() != fresh:
                yield f"{FIGURES}/{name}: not the figure that the records give"


def differences(name: str, found: Sequence[str], fresh: Sequence[str]) -> Iterator[str]:
    """Every place where two texts differ: file, line, column of the table or of the text, found and recomputed."""
    split: Callable[[Sequence[str], int], Cells] = {".md": _markdown_cells, ".csv": _csv_cells}.get(
        Path(name).suffix, _words
    )
    for kind, start, end, fresh_start, fresh_end in SequenceMatcher(None, found, fresh, False).get_opcodes():
        if kind == "equal":
            continue
        pairs = min(end - start, fresh_end - fresh_start)
        for offset in range(pairs):
            place = f"{name}:{start + offset + 1}"
            cells, right = split(found, start + offset), split(fresh, fresh_start + offset)
            if len(cells) != len(right):
                yield f"{place}: found {found[start + offset]!r}, recomputed {fresh[fresh_start + offset]!r}"
                continue
            for (where, value), (_, wanted) in zip(cells, right, strict=True):
                if value != wanted:
                    yield f"{place}, {where}: found {value}, recomputed {wanted}"
        for line in range(start + pairs, end):
            yield f"{name}:{line + 1}: found {found[line]!r}, which the records do not give"
        for line in range(fresh_start + pairs, fresh_end):
            yield f"{name}:{end + 1}: missing {fresh[line]!r}"


def _markdown_cells(lines: Sequence[str], index: int) -> Cells:
    if not lines[index].startswith("|"):
        return _words(lines, index)
    top = index
    while top and lines[top - 1].startswith("|"):
        top -= 1
    cells, headers = _table_cells(lines[index]), _table_cells(lines[top])
    if len(cells) != len(headers):
        return _words(lines, index)
    return [(f"column {header}, row {cells[0]}", cell) for header, cell in zip(headers, cells, strict=True)]


def _table_cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def _csv_cells(lines: Sequence[str], index: int) -> Cells:
    headers, cells = csv.reader([lines[0], lines[index]])
    if len(cells) != len(headers):
        return _words(lines, index)
    return [(f"column {header}, row {cells[0]}", cell) for header, cell in zip(headers, cells, strict=True)]


def _words(lines: Sequence[str], index: int) -> Cells:
    return [(f"column {word.start() + 1}", word[0]) for word in re.finditer(r"\S+", lines[index])]
