"""What the load generator itself costs: processor time against a server that only streams, as fast as it is read."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

import orjson
from aiohttp import web

from draftbench.harness.engine import EngineEvents
from draftbench.harness.errors import EngineError
from draftbench.harness.load.generator import RoundBook, run_closed_loop
from draftbench.harness.load.own_server import OwnServer
from draftbench.harness.load.requests import Prompt
from draftbench.harness.records import CellKey, RequestRecord

PROMPT_TOKENS, TOKENS_PER_CHUNK = 100, 3


@dataclass(frozen=True)
class ClientCost:
    """Processor seconds of the harness for one request without its chunks, and for one chunk."""

    concurrency: int
    per_request_s: float
    per_chunk_s: float


class NullEngine(OwnServer):
    """Answers nothing but its address."""

    receipt = pid = num_proposed_drafts = None

    def __init__(self, url: str) -> None:
        self.url = url

    def take_events(self) -> EngineEvents:
        """No rounds."""
        return EngineEvents({}, None)

    def failure(self) -> str | None:
        """Its requests fail."""
        return None

    def stop(self) -> None:
        """`null_engine` does."""


@contextmanager
def null_engine() -> Iterator[NullEngine]:
    """A null server in a process of its own."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=_serve, args=(theirs,), daemon=True)
    server.start()
    try:
        yield NullEngine(f"http://127.0.0.1:{ours.recv()}")
    finally:
        server.kill()
        server.join()


def client_cost(concurrency: int, num_requests: int = 64, num_chunks: int = 200) -> ClientCost:
    """Run the real generator against a null server with few and with many chunks; the difference is the chunks' cost.

    Raises:
        EngineError: a request failed.
    """
    with null_engine() as engine:
        _spent(engine, concurrency, concurrency, 1)  # connections, imports
        few, many = (_spent(engine, concurrency, num_requests, chunks) for chunks in (1, num_chunks))
    per_chunk_s = (many - few) / (num_requests * (num_chunks - 1))
    return ClientCost(concurrency, few / num_requests - per_chunk_s, per_chunk_s)


def load_null(
    engine: NullEngine,
    concurrency: int,
    num_requests: int,
    num_chunks: int,
    on_record: Callable[[RequestRecord], None],
) -> float:
    """Send requests for so many chunks each with the real generator; the processor seconds that it took."""
    prompts = [
        Prompt("w", str(n), 0, None, (1,) * PROMPT_TOKENS, "h", num_chunks * TOKENS_PER_CHUNK)
        for n in range(num_requests)
    ]
    cell = CellKey(launch=0, block=0, arm="null", workload="w", concurrency=concurrency)
    before_s = time.process_time()
    asyncio.run(run_closed_loop(engine, cell, prompts, {}, RoundBook(engine), on_record))
    return time.process_time() - before_s


def _spent(engine: NullEngine, concurrency: int, num_requests: int, num_chunks: int) -> float:
    records: list[RequestRecord] = []
    spent_s = load_null(engine, concurrency, num_requests, num_chunks, records.append)
    wrong = [record for record in records if record.error is not None or len(record.chunks) != num_chunks]
    if wrong:
        raise EngineError(f"{len(wrong)} of {num_requests} requests to the null server failed: {wrong[0].error}")
    return spent_s


def _serve(pipe: Connection) -> None:
    """Stream messages of SGLang's shape, as many as it takes for max_new_tokens."""

    async def generate(request: web.Request) -> web.StreamResponse:
        asked = orjson.loads(await request.read())
        count = asked["sampling_params"]["max_new_tokens"] // TOKENS_PER_CHUNK
        response = web.StreamResponse()
        await response.prepare(request)
        for number in range(count):
            reason = {"type": "length"} if number + 1 == count else None
            meta = {"id": "x", "finish_reason": reason, "prompt_tokens": PROMPT_TOKENS, "cached_tokens": 0}
            message = {"output_ids": [1] * TOKENS_PER_CHUNK, "meta_info": meta}
            await response.write(b"data: " + orjson.dumps(message) + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response

    async def about(request: web.Request) -> web.StreamResponse:
        return web.json_response({"version": "null"})

    async def main() -> None:
        app = web.Application()
        app.router.add_post("/generate", generate)
        app.router.add_get("/server_info", about)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        pipe.send(runner.addresses[0][1])
        await asyncio.sleep(3600)

    asyncio.run(main())
