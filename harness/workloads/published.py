"""Rows of evaluation sets with their places: from local files, folders laid out like the hub's, or the public home."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from draftbench.harness.errors import WorkloadError
from draftbench.harness.host.provenance import file_sha256
from draftbench.harness.workloads.sources import HubSet, RepositoryFile
from draftbench.harness.workloads.user_files import PlacedValue, file_rows, parsed


def local_rows(path: Path, home: HubSet | RepositoryFile | None, column: int | None = None) -> Iterator[PlacedValue]:
    """Rows of a file, or of a folder that is a copy of the home.

    Args:
        column: as `file_rows` has it.

    Raises:
        WorkloadError: it cannot be read.
    """
    if not path.is_dir():
        yield from file_rows(path, column)
    elif isinstance(home, HubSet):
        yield from _dataset_rows(str(path), home, None)
    else:
        raise WorkloadError(f"{path} is a folder, but this set is one file; give the file.")


def home_rows(home: HubSet | RepositoryFile) -> Iterator[PlacedValue]:
    """Rows of a set from its public home, or from the cache of `datasets` once they were loaded.

    Raises:
        WorkloadError: neither has it, or the file is not the one that was pinned.
    """
    if isinstance(home, HubSet):
        yield from _dataset_rows(home.dataset, home, home.revision)
        return
    yield from file_rows(_download(home))


def record_of(row: Any, place: str, is_text: bool = False) -> dict[str, Any]:
    """A row as a JSON object, or with its text as the prompt.

    Raises:
        WorkloadError: it is not UTF-8, not JSON, or no object.
    """
    if isinstance(row, bytes):
        try:
            row = {"prompt": row.decode()} if is_text else parsed(row)
        except UnicodeDecodeError as error:
            raise WorkloadError(f"{place}: not UTF-8: {error.reason} at byte {error.start + 1}.") from error
        except (ValueError, RecursionError) as error:
            raise WorkloadError(f"{place}: not JSON: {error}.") from error
    if not isinstance(row, dict):
        raise WorkloadError(f"{place}: not a JSON object.")
    return row


def text_of(record: dict[str, Any], key: str, place: str) -> str:
    """A record's text field.

    Raises:
        WorkloadError: it is missing or no text.
    """
    value = record.get(key)
    if not isinstance(value, str):
        found = "missing" if value is None else f"{value!r:.60}"
        raise WorkloadError(f"{place}: {key} is {found}; it must be a text.")
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


def _dataset_rows(name: str, home: HubSet, revision: str | None) -> Iterator[PlacedValue]:
    import datasets

    try:
        rows = datasets.load_dataset(name, home.config, split=home.split, revision=revision)
    except Exception as error:  # the library raises many kinds, network and cache errors among them
        where = f"{name} at revision {revision}" if revision else name
        raise WorkloadError(
            f"{where} is not in the local cache and could not be loaded "
            f"({type(error).__name__}: {str(error).splitlines()[0]}); give a local file with `path:`."
        ) from error
    for number, row in enumerate(rows):
        yield f"{name} row {number}", dict(row)


def _download(home: RepositoryFile) -> Path:
    import datasets

    manager = datasets.DownloadManager(download_config=datasets.DownloadConfig(use_etag=False))
    try:
        path = Path(manager.download(home.url))
    except Exception as error:  # as above
        raise WorkloadError(
            f"{home.url} is not in the local cache and could not be loaded "
            f"({type(error).__name__}: {str(error).splitlines()[0]}); give a local file with `path:`."
        ) from error
    if home.sha256 is not None and (found := file_sha256(path)) != home.sha256:
        raise WorkloadError(
            f"{home.url} has SHA-256 {found}, expected {home.sha256}; "
            f"delete {path} and load it again, or give a local file with `path:`."
        )
    return path
