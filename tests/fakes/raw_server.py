"""A server that sends the bytes that it is given, whatever HTTP or a stream should look like."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

Script = Callable[[bytes], Iterable[bytes | float]]
"""From a request's head and body to what is sent: bytes, and seconds to wait."""


class RawServer:
    """Answers every request as its script says and hangs up; `asked` holds the requests, `num_sent` counts bytes."""

    def __init__(self, script: Script) -> None:
        self.script, self.url = script, ""
        self.asked: list[bytes] = []
        self.num_sent = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next((line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), b":0")
            request = head + await reader.readexactly(int(length.partition(b":")[2]))
            self.asked.append(request)
            for step in self.script(request):
                if isinstance(step, bytes):
                    writer.write(step)
                    await writer.drain()
                    self.num_sent += len(step)
                else:
                    await asyncio.sleep(step)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def start(self) -> None:
        """Listen on the loopback interface."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@contextmanager
def raw_server(script: Script) -> Iterator[RawServer]:
    """A server in a thread of its own until the context is left."""
    server, loop = RawServer(script), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.start(), loop).result()
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(_end_all(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def http(body: bytes = b"", status: str = "200 OK", kind: str = "text/event-stream", headers: str = "") -> bytes:
    """An answer that ends with its connection."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nConnection: close\r\n{headers}\r\n"
    return head.encode() + body
