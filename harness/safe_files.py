"""Files written with care: they are made, and no link is followed."""

from __future__ import annotations

import contextlib
import errno
import os
from io import FileIO
from pathlib import Path

from draftbench.harness.errors import RecordError

PARTIAL = ".partial"


def write_whole(path: Path, data: str | bytes) -> None:
    """Put a file in its place in one step; a link that stands there is replaced, and its target left alone.

    Raises:
        RecordError: it cannot be written; what stood there before still does.
    """
    partial = path.with_name(path.name + PARTIAL)
    try:
        partial.unlink(missing_ok=True)
        with _new(partial, os.O_WRONLY | os.O_EXCL) as file:
            _write(file, data.encode() if isinstance(data, str) else data)
        os.replace(partial, path)
    except OSError as error:
        raise unwritten(path, error) from error


def append_line(path: Path, line: bytes) -> None:
    """Add a line to a file, made if it is not there; on disk when this returns.

    Raises:
        RecordError: it cannot be written, or is a link; nothing of the line is.
    """
    try:
        with _new(path, os.O_WRONLY | os.O_APPEND) as file:
            size = os.fstat(file.fileno()).st_size
            try:
                _write(file, line + b"\n")
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(file.fileno(), size)
                raise
    except OSError as error:
        raise unwritten(path, error) from error


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
