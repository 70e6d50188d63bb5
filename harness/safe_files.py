"""Files written with care: they are made, and no link is followed."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable
from io import FileIO
from pathlib import Path

from draftbench.harness.errors import RecordError

PARTIAL = ".partial"


def write_whole(path: Path, data: str | bytes) -> None:
    """Put a file in its place in one step; a link that stands there is replaced, and its target left alone.

    Raises:
        RecordError: it cannot be written; what stood there before still does.
    """
    write_parts(path, [data.encode() if isinstance(data, str) else data])


def write_parts(path: Path, parts: Iterable[bytes]) -> None:
    """The same of a file that memory should not hold as a whole.

    Raises:
        RecordError: as `write_whole`.
    """
    partial = path.with_name(path.name + PARTIAL)
    try:
        partial.unlink(missing_ok=True)
        with _new(partial, os.O_WRONLY | os.O_EXCL) as file:
            for part in parts:
                _write(file, part)
        os.replace(partial, path)
    except OSError as error:
        raise unwritten(path, error) from error


def append_line(path: Path, line: bytes) -> None:
    """Add a line to a file, made if it is not there; on disk when this returns.

    Raises:
        RecordError: it cannot be written, or is a link; nothing of the line is.
    """
    try:
        with open_to_append(path) as file:
            size = os.fstat(file.fileno()).st_size
            try:
                _write(file, line + b"\n")
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(file.fileno(), size)
                raise
    except OSError as error:
        raise unwritten(path, error) from error


def open_to_append(path: Path) -> FileIO:
    """A file to which lines are added unbuffered, made if it is not there.

    Raises:
        OSError: it cannot be opened, or is a link.
    """
    return _new(path, os.O_WRONLY | os.O_APPEND)


def make_own_folder(path: Path, levels: int = 1) -> None:
    """A folder with all above it, the last `levels` of which must be no links: what lies elsewhere is not ours.

    Raises:
        RecordError: it cannot be made, or one of these is a link or something else.
    """
    for folder in (path, *path.parents)[:levels]:
        if folder.is_symlink():
            raise RecordError(f"{folder} is a link; remove it.")
    make_folder(path)


def make_folder(path: Path) -> None:
    """A folder with all above it, if it is not there.

    Raises:
        RecordError: it cannot be made, or something else stands there.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritten(path, error) from error


def unwritten(path: Path, error: OSError) -> RecordError:
    """That a file or folder could not be written, and what to do."""
    remedy = {
        errno.ENOSPC: "make space",
        errno.EDQUOT: "make space",
        errno.EACCES: "give yourself the right to write there, or another --out",
        errno.EPERM: "give yourself the right to write there, or another --out",
        errno.EROFS: "give another --out",
        errno.ELOOP: "it is a link; remove it",
        errno.EEXIST: "something else stands there; move it away",
        errno.ENOTDIR: "something else stands there; move it away",
        errno.ENAMETOOLONG: "give a shorter --out",
    }.get(error.errno or 0, "look at the disk")
    why = error.strerror or str(error)
    return RecordError(f"{path} cannot be written ({why}): {remedy}. What was measured is kept; go on with --resume.")


def _new(path: Path, how: int) -> FileIO:
    return FileIO(os.open(path, how | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666), "wb")


def _write(file: FileIO, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
