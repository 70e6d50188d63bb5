"""Event streams as the standard has them, however their bytes are cut."""

from __future__ import annotations

import pytest

from draftbench.harness.load.event_stream import EventStream
from draftbench.harness.load.limits import MESSAGE_BYTES, StreamError

CASES = {
    "a space after the colon is not of the value, a second one is": (
        b"data:a\n\ndata: b\n\ndata:  c\n\n",
        "a|b| c",
    ),
    "several data lines are one event of as many lines": (b"data: a\ndata:\ndata: b\n\n", "a\n\nb"),
    "a field without a colon has an empty value": (b"data\n\n", ""),
    "comments, ids, retries and unknown fields bring nothing": (b": hi\nid: 1\nretry: 5\nfoo: x\ndata: a\n\n", "a"),
    "an event without data is none": (b"event: ping\n\n\n\ndata: a\n\n", "a"),
    "lines end in a return, a line feed, or both": (b"data: a\r\rdata: b\n\ndata: c\r\n\r\ndata: d\r\r\n", "a|b|c|d"),
    "a byte order mark may come first, and nowhere else": (b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n", "a"),
    "what has no empty line after it is no event": (b"data: a\n\ndata: b\n", "a"),
    "a colon may stand in the value": (b"data: a: b\n\n", "a: b"),
    "characters are whole however they are cut": ("data: 日本\n\n".encode(), "日本"),
}


@pytest.mark.parametrize(("body", "found"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_the_standard_holds_wherever_the_bytes_are_cut(body: bytes, found: str, size: int) -> None:
    """WHATWG HTML, "Interpreting an event stream"."""
    stream = EventStream()
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    events = [data.decode() for piece in pieces for _, data in stream.feed(piece)]
    assert "|".join(events) == found
    assert stream.num_events == len(events)


def test_events_have_their_types() -> None:
    """Each its own; it is not kept for the next one."""
    assert list(EventStream().feed(b"event: error\ndata: a\n\ndata: b\n\n")) == [(b"error", b"a"), (b"", b"b")]


@pytest.mark.parametrize("line", [b"data: ", b"data: \ndata: ", b"x"])
def test_an_event_without_end_is_refused(line: bytes) -> None:
    """In one line, in many, and in a line that is no field."""
    stream, piece = EventStream(), b"y" * (1 << 20) + (b"\ndata: " if b"\n" in line else b"")
    list(stream.feed(line))
    pieces = [piece] * (2 * MESSAGE_BYTES >> 20)
    with pytest.raises(StreamError, match="longer than 4 MiB"):
        [list(stream.feed(each)) for each in pieces]
