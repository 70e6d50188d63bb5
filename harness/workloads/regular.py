"""Reading files that users name: regular ones alone, up to a size, as UTF-8, as JSON."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from draftbench.harness.errors import HarnessError

DATA_BYTES = 2 << 30
"""Largest file with prompts, also after it is decompressed."""
TEMPLATE_BYTES = 1 << 20
JSON_BYTES = 256 << 20
"""Largest configuration, tokenizer, ledger or manifest."""


def file_problem(path: Path, limit: int) -> str | None:
    """Why a file is not read; None where it is. A pipe or a device would not end, or not begin."""
    try:
        found = path.stat()
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    if not stat.S_ISREG(found.st_mode):
        return "is not a regular file; copy what it gives into one"
    if found.st_size > limit:
        return f"has {found.st_size} bytes; at most {limit} are read"
    return None


def read_bytes(path: Path, limit: int, error: type[HarnessError]) -> bytes:
    """A file's content.

    Raises:
        error: it cannot be read, is no regular file, or too large.
    """
    problem = file_problem(path, limit)
    if problem is not None:
        raise error(f"{path} {problem}.")
    try:
        return path.read_bytes()
    except OSError as reason:
        raise error(f"{path} cannot be read: {reason.strerror or reason}.") from reason


def read_text(path: Path, limit: int, error: type[HarnessError]) -> str:
    """A file's text, without a byte order mark.

    Raises:
        error: as `read_bytes`, or it is not UTF-8.
    """
    try:
        return read_bytes(path, limit, error).decode("utf-8-sig")
    except UnicodeDecodeError as reason:
        raise error(f"{path} is not UTF-8: {reason.reason} at byte {reason.start + 1}.") from reason


def read_json(path: Path, limit: int, error: type[HarnessError]) -> Any:
    """What a file of JSON holds.

    Raises:
        error: as `read_text`, or it is no JSON, or nested more deeply than it can be read.
    """
    text = read_text(path, limit, error)
    try:
        return json.loads(text)
    except json.JSONDecodeError as reason:
        raise error(f"{path}:{reason.lineno}: not JSON: {reason.msg}.") from reason
    except (RecursionError, ValueError) as reason:  # a number of thousands of digits
        raise error(f"{path}: not read as JSON: {str(reason)[:200]}.") from reason
