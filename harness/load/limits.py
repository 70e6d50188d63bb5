"""How much and how long a server may answer, and who watches that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

REQUEST_TIMEOUT_S = 600.0
CONNECT_TIMEOUT_S = 30.0
LOOK_S = 1.0
NOTICE_S = 10.0
"""Silence after which a person is told."""
SILENCE_S = 180.0
"""Silence after which the requests that are under way fail; once that happened, later ones fail after NOTICE_S."""
END_S = 10.0
"""What may pass between a request's last token and the end of its stream, usage and [DONE] included."""
MESSAGE_BYTES = 4 << 20
"""Longest message of a stream: servers may repeat a whole answer, ids and text, in every message."""
REFUSAL_BYTES, REFUSAL_S = 4096, 5.0
"""How much is read of the body that comes with a status other than 200, and for how long."""
SHOWN = 300
"""Characters of what a server said that a reason quotes."""


class StreamError(Exception):
    """What is wrong with an answer; it becomes the reason of a failed request."""


def stream_bytes(max_tokens: int) -> int:
    """Most bytes of a stream for an answer: every message may repeat the answer, with what else it tells."""
    return (64 << 20) + max_tokens * min(MESSAGE_BYTES, (64 << 10) + 64 * max_tokens)


def stream_messages(max_tokens: int) -> int:
    """Most messages with output: a token may come in several, where a server sends single characters."""
    return 16 * max_tokens + 64


def text_chars(max_tokens: int) -> int:
    """Longest text of an answer."""
    return 1024 * max_tokens + (64 << 10)


class Watch:
    """Over a server's silence while requests are under way, whichever of them is answered.

    A request that waits in a server's queue is not silence as long as others get their tokens; comments that keep a
    connection alive are, since they bring nothing.
    """

    def __init__(
        self, name: str = "the server", note: Callable[[str], None] | None = None, limit_s: float | None = None
    ) -> None:
        """
        Args:
            note: told when a server has been silent for some seconds.
            limit_s: after how long requests fail; None leaves that to their own time limit, for requests that are not
                measured: an engine may compile for minutes at its first one.
        """
        self._name, self._note, self._limit_s = name, note, limit_s
        self._heard_ns = 0
        self._under_way: set[asyncio.Timeout] = set()
        self.silent_s: float | None = None
        """For how long it was silent when its requests failed; None where they did not."""

    def heard(self, at_ns: int) -> None:
        """A message came."""
        self._heard_ns = at_ns

    @asynccontextmanager
    async def request(self) -> AsyncIterator[asyncio.Timeout]:
        """While a request is under way; it ends by a TimeoutError where the server is silent."""
        if not self._under_way:
            self._heard_ns = time.monotonic_ns()
        async with asyncio.timeout(None) as timeout:
            self._under_way.add(timeout)
            try:
                yield timeout
            finally:
                self._under_way.discard(timeout)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """While requests are sent."""
        task = asyncio.create_task(self._look())
        try:
            yield
        finally:
            task.cancel()

    async def _look(self) -> None:
        told = False
        while True:
            await asyncio.sleep(LOOK_S)
            silent_s = (time.monotonic_ns() - self._heard_ns) / 1e9 if self._under_way else 0.0
            if silent_s < NOTICE_S:
                told = False
            elif not told:
                told = True
                self._tell()
            if self._limit_s is not None and silent_s >= self._limit_s:
                self.silent_s = silent_s
                self._limit_s = NOTICE_S
                for timeout in self._under_way:
                    if not timeout.expired():
                        timeout.reschedule(asyncio.get_running_loop().time())

    def _tell(self) -> None:
        if self._note is None:
            return
        limit_s = self._limit_s or REQUEST_TIMEOUT_S
        self._note(
            f"{self._name} has sent nothing for {NOTICE_S:.0f} s, with {len(self._under_way)} requests under way; they "
            f"fail after {limit_s:.0f} s"
        )
