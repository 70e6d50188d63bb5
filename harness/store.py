"""A run's folder: append-only JSONL records, a manifest, and which cells are sealed.

Every request is on disk when it is finished. A cell is sealed by its record in cells.jsonl; what belongs to no sealed
cell is set aside, not deleted, when a run is resumed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from draftbench.harness.engine import Receipt
from draftbench.harness.errors import RecordError
from draftbench.harness.manifest import MANIFEST, Manifest
from draftbench.harness.records import (
    CellKey,
    CellRecord,
    ControlRecord,
    ReferenceRecord,
    RequestRecord,
    RescoreRecord,
    SampleRecord,
    SampleScoreRecord,
    ScoreRecord,
)
from draftbench.harness.telemetry.records import WindowRecord

REQUESTS, CELLS, REFERENCES = "requests.jsonl", "cells.jsonl", "references.jsonl"
CONTROLS, RESCORES, SAMPLES, SCORES = "controls.jsonl", "rescores.jsonl", "samples.jsonl", "scores.jsonl"
TELEMETRY, INTERRUPTED, SAMPLE_SCORES = "telemetry.jsonl", "interrupted.jsonl", "sample_scores.jsonl"
FILES: dict[type[BaseModel], str] = {
    RequestRecord: REQUESTS,
    CellRecord: CELLS,
    ReferenceRecord: REFERENCES,
    ControlRecord: CONTROLS,
    RescoreRecord: RESCORES,
    SampleRecord: SAMPLES,
    ScoreRecord: SCORES,
    WindowRecord: TELEMETRY,
    SampleScoreRecord: SAMPLE_SCORES,
}
R = TypeVar("R", bound=BaseModel)


class RunStore:
    """One run's folder, open for writing.

    Args:
        session: how often the run was resumed.
    """

    def __init__(self, folder: Path, session: int = 0) -> None:
        self.folder, self.session = folder, session

    @classmethod
    def create(cls, folder: Path, manifest: Manifest) -> RunStore:
        """Start a run in a new or empty folder.

        Raises:
            RecordError: the folder already holds a run.
        """
        if (folder / MANIFEST).exists():
            raise RecordError(f"{folder} already holds a run; give another --out, or --resume to go on with it.")
        folder.mkdir(parents=True, exist_ok=True)
        store = cls(folder)
        store.write_manifest(manifest)
        return store

    @classmethod
    def reopen(cls, folder: Path, suite_sha256: str) -> RunStore:
        """Go on with an interrupted run of the same suite; what belongs to no sealed cell moves to interrupted.jsonl.

        Raises:
            RecordError: no run there, or a run of another suite.
        """
        if not (folder / MANIFEST).exists():
            raise RecordError(f"{folder} holds no run to resume (no {MANIFEST}); leave --resume out to start one.")
        manifest = cls(folder).manifest()
        if manifest.suite_sha256 != suite_sha256:
            raise RecordError(
                f"{folder} was made from another version of this suite; resume it with that one, or start a new run."
            )
        store = cls(folder, manifest.num_resumed + 1)
        store.note(num_resumed=store.session)
        store._cut_unfinished_lines()
        store._set_unsealed_aside()
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
        _write_whole(self.folder / MANIFEST, text + "\n")

    def note(self, **facts: Any) -> None:
        """Keep facts in the manifest, by its fields."""
        self.write_manifest(self.manifest().noting(**facts))

    def note_engines(self, receipts: Mapping[str, Receipt]) -> None:
        """Keep in the manifest what the engines said of themselves."""
        self.note(engines={**self.manifest().engines, **receipts})

    def append(self, record: BaseModel) -> None:
        """Add one record to its kind's file, on disk when this returns."""
        with (self.folder / FILES[type(record)]).open("ab") as file:
            file.write(record.model_dump_json().encode() + b"\n")

    def write_scores(self, scores: Iterable[ScoreRecord]) -> None:
        """Replace the scores of all answers in one step."""
        _write_whole(self.folder / SCORES, "".join(score.model_dump_json() + "\n" for score in scores))

    def read(self, kind: type[R]) -> tuple[R, ...]:
        """All records of a kind so far."""
        return tuple(read_records(self.folder / FILES[kind], kind))

    def pending(self, cells: Iterable[CellKey]) -> tuple[CellKey, ...]:
        """The cells that are not sealed yet, in their order; a cell that failed is tried again."""
        sealed = {record.cell for record in read_records(self.folder / CELLS, CellRecord) if record.error is None}
        return tuple(cell for cell in cells if cell not in sealed)

    def _cut_unfinished_lines(self) -> None:
        """What was being written when the process was killed would spoil the next record."""
        for name in FILES.values():
            path = self.folder / name
            if path.exists():
                data = path.read_bytes()
                os.truncate(path, data.rfind(b"\n") + 1)

    def _set_unsealed_aside(self) -> None:
        sealed = {record.cell for record in read_records(self.folder / CELLS, CellRecord) if record.error is None}
        kinds: tuple[type[RequestRecord | CellRecord | WindowRecord], ...] = (RequestRecord, CellRecord, WindowRecord)
        for kind in kinds:
            path = self.folder / FILES[kind]
            kept: list[str] = []
            loose: list[str] = []
            for record in read_records(path, kind):
                belongs = record.cell is None or record.cell in sealed
                (kept if belongs else loose).append(record.model_dump_json() + "\n")
            if loose:
                with (self.folder / INTERRUPTED).open("a") as file:
                    file.writelines(loose)
            _write_whole(path, "".join(kept))


def read_records(path: Path, kind: type[R], on_broken: Callable[[str], None] | None = None) -> Iterable[R]:
    """Records of a JSONL file in their order; none if there is no file.

    A last line without its end was being written when the process was killed and is left out.

    Args:
        on_broken: Is told of any other line that is no such record, with file and line; the line is left out.

    Raises:
        RecordError: such a line where there is nobody to tell.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                record = kind.model_validate_json(line)
            except ValidationError as error:
                first = error.errors()[0]
                field = ".".join(map(str, first["loc"]))
                problem = f":{number}: not a {kind.__name__}: {field + ': ' if field else ''}{first['msg']}"
                if on_broken is None:
                    raise RecordError(f"{path}{problem}") from error
                on_broken(path.name + problem)
            else:
                yield record


def _write_whole(path: Path, text: str) -> None:
    partial = path.with_suffix(path.suffix + ".partial")
    partial.write_text(text)
    os.replace(partial, path)
