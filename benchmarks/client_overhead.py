"""What the load generator itself costs: processor time per streamed chunk against a server that only sends.

python benchmarks/client_overhead.py
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import resource
import time
from multiprocessing.connection import Connection

import orjson
from aiohttp import web

from harness.engine import EngineEvents
from harness.load.generator import RoundBook, run_closed_loop
from harness.load.prompts import Prompt
from harness.records import CellKey

NUM_REQUESTS, CHUNKS, CONCURRENCY = 64, 400, 8


class NullEngine:
    """Answers nothing but its address."""

    num_proposed_drafts = None

    def __init__(self, url: str) -> None:
        self.url = url

    def take_events(self) -> EngineEvents:
        """No rounds."""
        return EngineEvents({}, None)


def serve(pipe: Connection) -> None:
    """Stream messages of SGLang's shape, as fast as they are taken."""

    async def generate(request: web.Request) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse()
        await response.prepare(request)
        for number in range(CHUNKS):
            reason = {"type": "length"} if number + 1 == CHUNKS else None
            meta = {
                "id": "x",
                "finish_reason": reason,
                "prompt_tokens": 9,
                "cached_tokens": 0,
                "spec_verify_ct": number,
            }
            await response.write(b"data: " + orjson.dumps({"output_ids": [1, 2, 3], "meta_info": meta}) + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response

    async def main() -> None:
        app = web.Application()
        app.router.add_post("/generate", generate)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        pipe.send(runner.addresses[0][1])
        await asyncio.sleep(3600)

    asyncio.run(main())


def main() -> None:
    """Start the null server, run the real generator against it, print the cost."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    engine = NullEngine(f"http://127.0.0.1:{ours.recv()}")
    prompts = [Prompt("w", str(n), 0, None, tuple(range(100)), "h", CHUNKS) for n in range(NUM_REQUESTS)]
    cell = CellKey(launch=0, block=0, arm="null", workload="w", concurrency=CONCURRENCY)
    records = []
    began, cpu = time.perf_counter(), time.process_time()
    asyncio.run(run_closed_loop(engine, cell, prompts, {}, RoundBook(engine), records.append))  # type: ignore[arg-type]
    cpu, wall = time.process_time() - cpu, time.perf_counter() - began
    server.terminate()
    chunks = sum(len(record.chunks) for record in records)
    assert not [record.error for record in records if record.error]
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{chunks} chunks: {1e6 * cpu / chunks:.0f} µs of processor time each, {1e6 * wall / chunks:.0f} µs wall")
    print(f"resident at most {resident:.0f} MB, load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
