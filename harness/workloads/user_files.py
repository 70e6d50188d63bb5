"""Records of a user's file, whatever it is called: lines, one list, tables, text, compressed or not."""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal

from draftbench.harness.errors import WorkloadError
from draftbench.harness.workloads.regular import DATA_BYTES, file_problem, read_bytes

PlacedValue = tuple[str, Any]
"""A place, `file:line` or the like, and what stands there: bytes of one line, or a value."""
Layout = Literal["text", "csv", "tsv", "parquet", "json"]
LAYOUTS: dict[str, Layout] = {".txt": "text", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"}
"""By suffix; what has another one is JSON, and its content says in which way."""
TEXT_BYTES = 64 << 20
"""Of a file that is read as one text."""
CELL_CHARS = 64 << 20
"""Longest cell of a table."""
FOREIGN = {
    codecs.BOM_UTF32_LE: "UTF-32", codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16",
}  # fmt: skip


def _zstandard(file: BinaryIO) -> Any:
    import pyarrow

    return pyarrow.CompressedInputStream(file, "zstd")


OPENERS: dict[bytes, tuple[str, Callable[[BinaryIO], Any]]] = {
    b"\x1f\x8b": (".gz", lambda file: gzip.GzipFile(fileobj=file)),
    b"BZh": (".bz2", bz2.BZ2File),
    b"\xfd7zXZ\x00": (".xz", lzma.LZMAFile),
    b"\x28\xb5\x2f\xfd": (".zst", _zstandard),
}
"""By the bytes that such files begin with."""


def layout_of(path: Path) -> Layout:
    """What a file's name says of it, but for its compression."""
    packed = {suffix for suffix, _ in OPENERS.values()}
    name = path.with_suffix("") if path.suffix in packed else path
    return LAYOUTS.get(name.suffix.lower(), "json")


def file_rows(path: Path, column: int | None = None) -> Iterator[PlacedValue]:
    """The records of a file: bytes of a line of text or JSON, or values.

    Args:
        column: of a table without a heading line, the one that holds the prompt, from 1.

    Raises:
        WorkloadError: the file cannot be read, or is not what it is called.
    """
    layout = layout_of(path)
    if layout == "parquet":
        yield from _parquet_rows(path)
        return
    content = _plain(path, read_bytes(path, DATA_BYTES, WorkloadError))
    if layout in ("csv", "tsv"):
        yield from _table_rows(path, content, "," if layout == "csv" else "\t", column)
    elif layout == "text":
        yield from lines_of(path, content)
    else:
        yield from _json_rows(path, content)


def text_of_file(path: Path) -> str:
    """A file's whole text, unpacked, with line feeds as its ends of line.

    Raises:
        WorkloadError: it cannot be read, is no text in UTF-8, or has more than is read as one text.
    """
    content = _plain(path, read_bytes(path, DATA_BYTES, WorkloadError))
    if len(content) > TEXT_BYTES:
        raise WorkloadError(f"{path} has {len(content):,} bytes; as one text at most {TEXT_BYTES:,} are read.")
    try:
        return content.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise WorkloadError(f"{_line_at(path, content, error.start)}: not UTF-8: {error.reason}.") from error


def lines_of(path: Path, content: bytes) -> Iterator[PlacedValue]:
    """Lines that are not empty. A carriage return before the line feed is the line's end, not its text."""
    # Not splitlines(): JSON texts may hold U+2028 and other ends of line that are none to JSONL.
    for number, line in enumerate(content.split(b"\n"), 1):
        if line.strip():
            yield f"{path}:{number}", line.removesuffix(b"\r")


def parsed(text: bytes) -> Any:
    """JSON in which no object has a key twice.

    Raises:
        ValueError: it is none.
        RecursionError: it is nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice} stands twice in one object")
    return found


def _plain(path: Path, content: bytes) -> bytes:
    """The file's text: unpacked, without a byte order mark."""
    if content.startswith(b"PK\x03\x04"):
        raise WorkloadError(f"{path}: a zip file; unpack it and give the file in it.")
    opener = next((opener for magic, (_, opener) in OPENERS.items() if content.startswith(magic)), None)
    if opener is not None:
        try:
            with opener(io.BytesIO(content)) as file:
                content = file.read(DATA_BYTES + 1)
        except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
            raise WorkloadError(f"{path}: cannot be unpacked: {error}.") from error
        if len(content) > DATA_BYTES:
            raise WorkloadError(
                f"{path}: unpacked it has more than {DATA_BYTES} bytes, which is the most that is read."
            )
    foreign = next((name for mark, name in FOREIGN.items() if content.startswith(mark)), None)
    if foreign is None and b"\x00" in content[:4]:
        foreign = "UTF-16 or UTF-32"
    if foreign is not None:
        raise WorkloadError(f"{path}:1: {foreign}; save it as UTF-8 (iconv -f {foreign.split()[0]} -t UTF-8).")
    return content.removeprefix(codecs.BOM_UTF8)


def _json_rows(path: Path, content: bytes) -> Iterator[PlacedValue]:
    """One list of objects, or an object a line, by what the file holds."""
    begin = content[:64].lstrip()
    first = next(lines_of(path, content), (None, b""))[1]
    if begin.startswith(b"[") or (begin.startswith(b"{") and not _is_whole(first)):
        try:
            found = parsed(content)
        except RecursionError:
            if begin.startswith(b"["):
                raise WorkloadError(f"{path}: not JSON: nested too deeply.") from None
        except UnicodeDecodeError as error:
            raise WorkloadError(f"{_line_at(path, content, error.start)}: not UTF-8: {error.reason}.") from error
        except ValueError as error:
            if begin.startswith(b"[") and not _is_whole(first):
                raise WorkloadError(f"{path}: not JSON: {error}.") from error
        else:
            if isinstance(found, list):
                for number, row in enumerate(found):
                    yield f"{path} item {number}", row
                return
            if isinstance(found, dict):
                keys = ", ".join(list(found)[:8])
                raise WorkloadError(
                    f"{path}: one object with the keys {keys}; it must hold one list of objects, or an object a line. "
                    "Write the list that you mean into a file of its own."
                )
    yield from lines_of(path, content)


def _is_whole(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _table_rows(path: Path, content: bytes, delimiter: str, column: int | None) -> Iterator[PlacedValue]:
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise WorkloadError(f"{_line_at(path, content, error.start)}: not UTF-8: {error.reason}.") from error
    csv.field_size_limit(CELL_CHARS)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names: list[str] | None = None
    try:
        for row in reader:
            place = f"{path}:{reader.line_num}"
            if not any(cell.strip() for cell in row):
                continue
            if column is not None:
                if column > len(row):
                    raise WorkloadError(f"{place}: it has {len(row)} columns; field is {column}.")
                yield place, {"prompt": row[column - 1]}
            elif names is None:
                names = row
            elif len(row) != len(names):
                raise WorkloadError(f"{place}: it has {len(row)} columns, the heading {len(names)}.")
            else:
                yield place, dict(zip(names, row, strict=True))
    except csv.Error as error:
        raise WorkloadError(f"{path}:{reader.line_num}: no table: {error}.") from error


def _line_at(path: Path, content: bytes, start: int) -> str:
    line = content.count(b"\n", 0, start) + 1
    return f"{path}:{line}"


def _parquet_rows(path: Path) -> Iterator[PlacedValue]:
    import pyarrow
    import pyarrow.parquet

    if (problem := file_problem(path, DATA_BYTES)) is not None:
        raise WorkloadError(f"{path} {problem}.")
    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise WorkloadError(f"{path}: cannot be read: {error}.") from error
    for number, row in enumerate(rows):
        yield f"{path} row {number}", row
