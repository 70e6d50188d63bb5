"""Server-sent events, read off a stream of bytes as the standard has them.

Source: WHATWG HTML, 9.2.6 "Interpreting an event stream".
"""

from __future__ import annotations

from collections.abc import Iterator

from draftbench.harness.load.limits import MESSAGE_BYTES, StreamError

BOM = b"\xef\xbb\xbf"


class EventStream:
    """One answer's events, piece after piece of its bytes. What follows the last empty line is no event."""

    def __init__(self) -> None:
        self.num_events = 0
        self._rest = b""
        self._data: list[bytes] = []
        self._type = b""
        self._size = 0
        self._begun = self._after_return = False

    def feed(self, piece: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The events that this piece ends: their types, empty where none is given, and their data.

        Raises:
            StreamError: an event is longer than any answer can be.
        """
        if not self._begun:
            piece = self._rest + piece
            if len(piece) < len(BOM) and BOM.startswith(piece):
                self._rest = piece
                return
            self._rest, self._begun = b"", True
            piece = piece.removeprefix(BOM)
        if b"\r" in piece or self._after_return:
            piece = self._with_newlines(piece)
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if self._size + len(self._rest) > MESSAGE_BYTES:
            raise StreamError(f"a message is longer than {MESSAGE_BYTES >> 20} MiB")
        for line in lines:
            if not line:
                if self._data:
                    self.num_events += 1
                    yield self._type, b"\n".join(self._data)
                self._data, self._type, self._size = [], b"", 0
                continue
            name, _, value = line.partition(b":")
            if name == b"data":
                self._data.append(value[1:] if value.startswith(b" ") else value)
                self._size += len(value)
                if self._size > MESSAGE_BYTES:
                    raise StreamError(f"a message is longer than {MESSAGE_BYTES >> 20} MiB")
            elif name == b"event":
                self._type = value[1:] if value.startswith(b" ") else value
            # A comment has an empty name; id, retry and unknown fields say nothing to us.

    def _with_newlines(self, piece: bytes) -> bytes:
        """The same lines, each ended by a line feed; a return and its line feed may come in two pieces."""
        if self._after_return and piece.startswith(b"\n"):
            piece = piece[1:]
        self._after_return = piece.endswith(b"\r")
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
