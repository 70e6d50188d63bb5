"""A run's folder: append-only JSONL records, a manifest, and which cells are sealed.

Every request is on disk when it is finished. A cell is sealed by its record in cells.jsonl; what belongs to no sealed
cell, and what is damaged, is set aside, not deleted, when a run is resumed. The first line of each file carries the
suite's hash.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import filterfalse
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from draftbench.harness.engine import Receipt
from draftbench.harness.errors import RecordError
from draftbench.harness.manifest import MANIFEST, Manifest
from draftbench.harness.records import (
    SCHEMA_VERSION,
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
from draftbench.harness.safe_files import append_line, make_folder, write_parts, write_whole
from draftbench.harness.telemetry.window_records import WindowRecord
from draftbench.harness.update_records import UpdateRecord

REQUESTS, CELLS, REFERENCES = "requests.jsonl", "cells.jsonl", "references.jsonl"
CONTROLS, RESCORES, SAMPLES, SCORES = "controls.jsonl", "rescores.jsonl", "samples.jsonl", "scores.jsonl"
TELEMETRY, SAMPLE_SCORES, UPDATES = "telemetry.jsonl", "sample_scores.jsonl", "updates.jsonl"
INTERRUPTED, DAMAGED = "interrupted.jsonl", "damaged.jsonl"
FILES: dict[type[Line], str] = {
    RequestRecord: REQUESTS,
    CellRecord: CELLS,
    ReferenceRecord: REFERENCES,
    ControlRecord: CONTROLS,
    RescoreRecord: RESCORES,
    SampleRecord: SAMPLES,
    ScoreRecord: SCORES,
    WindowRecord: TELEMETRY,
    SampleScoreRecord: SAMPLE_SCORES,
    UpdateRecord: UPDATES,
}
R = TypeVar("R", bound=Line)
AnyLine = TypeVar("AnyLine", bound=Line)


class RunStore:
    """One run's folder, open for writing.

    Args:
        session: how often the run was resumed.
        mended: what was set aside when it was, in sentences.
    """

    def __init__(self, folder: Path, session: int = 0, mended: tuple[str, ...] = ()) -> None:
        self.folder, self.session, self.mended = folder, session, mended

    @classmethod
    def create(cls, folder: Path, manifest: Manifest) -> RunStore:
        """Start a run in a new folder, or in one without a run's files.

        Raises:
            RecordError: the folder already holds a run or a part of one, or cannot be written.
        """
        if (folder / MANIFEST).exists():
            raise RecordError(f"{folder} already holds a run; give another --out, or --resume to go on with it.")
        if left := [name for name in FILES.values() if (folder / name).is_symlink() or (folder / name).exists()]:
            raise RecordError(
                f"{folder} holds {left[0]}, but no {MANIFEST}: nobody knows what it was measured with. Give another "
                "--out, or move it away."
            )
        make_folder(folder)
        store = cls(folder)
        store.write_manifest(manifest)
        return store

    @classmethod
    def reopen(cls, folder: Path, suite_sha256: str) -> RunStore:
        """Go on with an interrupted run of the same suite.

        What belongs to no sealed cell moves to interrupted.jsonl, and so does a sealed cell whose requests are not all
        there: it is measured anew. Damaged lines move to damaged.jsonl.

        Raises:
            RecordError: no run there, a run of another suite or version, or the folder cannot be written.
        """
        if not (folder / MANIFEST).exists():
            raise RecordError(f"{folder} holds no run to resume (no {MANIFEST}); leave --resume out to start one.")
        manifest = cls(folder).manifest()
        if manifest.suite_sha256 != suite_sha256:
            raise RecordError(
                f"{folder} was made from another version of this suite; resume it with that one, or start a new run."
            )
        for kind, name in FILES.items():
            next(iter(read_records(folder / name, kind, lambda _: None, suite_sha256)), None)
        mended = (*cls(folder)._set_damaged_aside(), *cls(folder)._set_unsealed_aside())
        store = cls(folder, manifest.num_resumed + 1, mended)
        store.note(num_resumed=store.session)
        return store

    def manifest(self) -> Manifest:
        """The manifest as it was last written.

        Raises:
            RecordError: it is damaged.
        """
        return Manifest.read(self.folder)

    def write_manifest(self, manifest: Manifest) -> None:
        """Replace the manifest in one step."""
        text = json.dumps(manifest.recorded, indent=1, sort_keys=True, default=str)
        write_whole(self.folder / MANIFEST, text + "\n")

    def note(self, **facts: Any) -> None:
        """Keep facts in the manifest, by its fields."""
        self.write_manifest(self.manifest().noting(**facts))

    def note_engines(self, receipts: Mapping[str, Receipt]) -> None:
        """Keep in the manifest what the engines said of themselves."""
        self.note(engines={**self.manifest().engines, **receipts})

    def append(self, record: Line) -> None:
        """Add one record to its kind's file, on disk when this returns.

        Raises:
            RecordError: it cannot be written; nothing of it is.
        """
        path = self.folder / FILES[type(record)]
        if not path.exists():
            record = self._first(record)
        append_line(path, record.model_dump_json().encode())

    def write_scores(self, scores: Iterable[ScoreRecord]) -> None:
        """Replace the scores of all answers in one step."""
        self._write_lines(SCORES, scores)

    def read(self, kind: type[R]) -> tuple[R, ...]:
        """All records of a kind so far."""
        return tuple(self.each(kind))

    def each(self, kind: type[R]) -> Iterable[R]:
        """The same, one at a time: a long run's requests are more than memory should hold."""
        return read_records(self.folder / FILES[kind], kind)

    def pending(self, cells: Iterable[CellKey]) -> tuple[CellKey, ...]:
        """The cells that are not sealed yet, in their order; a cell that failed is tried again."""
        sealed = {record.cell for record in self.each(CellRecord) if record.error is None}
        return tuple(cell for cell in cells if cell not in sealed)

    def _first(self, record: AnyLine) -> AnyLine:
        """A file's first record, which says whose file it is."""
        return record.model_copy(update={"suite_sha256": self.manifest().suite_sha256})

    def _write_lines(self, name: str, records: Iterable[Line]) -> None:
        lines = (self._first(record) if not index else record for index, record in enumerate(records))
        write_parts(self.folder / name, (line.model_dump_json().encode() + b"\n" for line in lines))

    def _set_damaged_aside(self) -> Iterator[str]:
        """Lines that are no records would be in the way; the last one may have been cut off when the process ended."""
        for kind, name in FILES.items():
            path = self.folder / name
            problems: list[str] = []
            for number, _, line, found in _lines(path, kind):
                if isinstance(found, str):
                    problems.append(f"{name}:{number}: {found}")
                    append_line(self.folder / DAMAGED, line.rstrip(b"\n"))
            if problems:
                more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
                yield f"{problems[0]}{more}: set aside in {DAMAGED}"
            if problems or (path.exists() and not _is_whole(path)):
                self._write_lines(name, (found for *_, found in _lines(path, kind) if not isinstance(found, str)))

    def _set_unsealed_aside(self) -> Iterator[str]:
        present = Counter(request.cell for request in self.each(RequestRecord))
        seals = [seal for seal in self.each(CellRecord) if seal.error is None]
        sealed = {seal.cell for seal in seals if present[seal.cell] == seal.num_requests}
        for seal in seals:
            if seal.cell not in sealed:
                there = f"{present[seal.cell]} of its {seal.num_requests} requests are there"
                yield f"{seal.cell.slug} was sealed, but {there}: it is measured anew"

        self._keep(lambda record: record.cell is None or record.cell in sealed)

    def set_launches_aside(self, launches: Collection[int]) -> None:
        """Move what was measured in launches to interrupted.jsonl: they are measured anew as a whole.

        Raises:
            RecordError: it cannot be written.
        """

        def is_kept(record: RequestRecord | CellRecord | WindowRecord) -> bool:
            return (record.launch if isinstance(record, WindowRecord) else record.cell.launch) not in launches

        self._keep(is_kept)

    def _keep(self, is_kept: Callable[[RequestRecord | CellRecord | WindowRecord], bool]) -> None:
        """Leave these records of cells where they are; the others move to interrupted.jsonl."""
        kinds: tuple[type[RequestRecord | CellRecord | WindowRecord], ...] = (RequestRecord, CellRecord, WindowRecord)
        for kind in kinds:
            loose = False
            for record in filterfalse(is_kept, self.each(kind)):
                append_line(self.folder / INTERRUPTED, record.model_dump_json().encode())
                loose = True
            if loose:
                self._write_lines(FILES[kind], (record for record in self.each(kind) if is_kept(record)))


def read_records(
    path: Path, kind: type[R], on_broken: Callable[[str], None] | None = None, suite_sha256: str | None = None
) -> Iterable[R]:
    """Records of a JSONL file in their order; none if there is no file.

    A last line without its end was being written when the process was killed and is left out.

    Args:
        on_broken: Is told of any other line that is no such record, with file and line; the line is left out.
        suite_sha256: Of the run's suite; a file that says it is another's is refused.

    Raises:
        RecordError: such a line where there is nobody to tell, a file of another suite, or one that is no file.
    """
    return (record for _, record in placed_records(path, kind, on_broken, suite_sha256))


def placed_records(
    path: Path, kind: type[R], on_broken: Callable[[str], None] | None, suite_sha256: str | None
) -> Iterator[tuple[int, R]]:
    """As `read_records`, each with its place in the file, in bytes."""
    for number, place, _, found in _lines(path, kind):
        if isinstance(found, str):
            if on_broken is None:
                raise RecordError(f"{path}:{number}: {found}")
            on_broken(f"{path.name}:{number}: {found}")
            continue
        if found.suite_sha256 is not None and suite_sha256 not in (None, found.suite_sha256):
            raise RecordError(
                f"{path}:{number}: it was measured with another suite (SHA-256 {found.suite_sha256[:8]}, this "
                f"run's is {suite_sha256[:8]}); put the run's own file back, or start a new run."
            )
        yield place, unmarked(found)


def unmarked(record: R) -> R:
    """The record without its file's mark."""
    return record if record.suite_sha256 is None else record.model_copy(update={"suite_sha256": None})


def _lines(path: Path, kind: type[R]) -> Iterator[tuple[int, int, bytes, R | str]]:
    """Every whole line of a file with its number and place: a record, or why it is none."""
    if not path.exists():
        return
    if not path.is_file():
        raise RecordError(f"{path} is no regular file; move it away.")
    with path.open("rb") as file:
        end = 0
        for number, line in enumerate(file, 1):
            place, end = end, end + len(line)
            if not line.endswith(b"\n"):
                return
            try:
                record = kind.model_validate_json(line)
            except ValidationError as error:
                first = error.errors()[0]
                field = ".".join(map(str, first["loc"]))
                yield number, place, line, f"not a {kind.__name__}: {field + ': ' if field else ''}{first['msg']}"
            else:
                yield number, place, line, _version_problem(record) or record


def _is_whole(path: Path) -> bool:
    with path.open("rb") as file:
        return file.seek(0, os.SEEK_END) == 0 or (file.seek(-1, os.SEEK_END) >= 0 and file.read(1) == b"\n")


def _version_problem(record: Line) -> str | None:
    if record.version == SCHEMA_VERSION:
        return None
    return f"version is {record.version}; this draftbench reads version {SCHEMA_VERSION}"
