"""Records of evaluation sets: JSON lines from a file, or rows of a public set through `datasets`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.errors import WorkloadError


def read_jsonl(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each object of a JSONL file with its place, `file:line`; empty lines are skipped.

    Raises:
        WorkloadError: no such file, or a line that is no JSON object.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise WorkloadError(f"{path}: cannot be read: {error}.") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise WorkloadError(f"{place}: not JSON: {error.msg}.") from error
        if not isinstance(record, dict):
            raise WorkloadError(f"{place}: not a JSON object.")
        yield place, record


def text_of(record: dict[str, Any], key: str, place: str) -> str:
    """A record's text field.

    Raises:
        WorkloadError: it is missing or no text.
    """
    value = record.get(key)
    if not isinstance(value, str):
        raise WorkloadError(f"{place}: {key} is {'missing' if value is None else repr(value)}; it must be a text.")
    return value


def texts_of(record: dict[str, Any], key: str, place: str) -> tuple[str, ...]:
    """A record's list of texts, not empty.

    Raises:
        WorkloadError: it is missing, empty, or holds something else.
    """
    value = record.get(key)
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        raise WorkloadError(f"{place}: {key} must be a list of texts, with at least one.")
    return tuple(value)


def hub_rows(dataset: str, config: str | None, split: str, revision: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of a public set at a pinned revision, from the local cache or the network.

    Raises:
        WorkloadError: neither has it.
    """
    import datasets

    try:
        rows = datasets.load_dataset(dataset, config, split=split, revision=revision)
    except Exception as error:  # the library raises many kinds, network and cache errors among them
        raise WorkloadError(
            f"{dataset} at revision {revision} is not in the local cache and could not be loaded "
            f"({type(error).__name__}: {str(error).splitlines()[0]}); give a local file with `path:`."
        ) from error
    for number, row in enumerate(rows):
        yield f"{dataset} row {number}", dict(row)
