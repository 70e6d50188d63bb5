"""The closed loop against a small server that counts what it is asked."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

import orjson
import pytest
from aiohttp import web

from draftbench.harness.engine import EngineEvents
from draftbench.harness.errors import EngineError
from draftbench.harness.load.generator import RoundBook, run_closed_loop, run_open_loop
from draftbench.harness.load.null_server import load_null, null_engine
from draftbench.harness.load.own_server import OwnServer
from draftbench.harness.load.requests import Prompt
from draftbench.harness.records import CellKey, RequestRecord

CELL = CellKey(launch=0, block=0, arm="a", workload="w", concurrency=2)


class Server(OwnServer):
    """Answers /generate with two chunks and /flush_cache with a status; remembers ids and queries."""

    num_proposed_drafts = None
    flush_status = 200
    num_together: int | None = None
    """Answer nobody before so many have asked."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.flush_queries: list[dict[str, str]] = []
        self.url = ""

    def take_events(self) -> EngineEvents:
        return EngineEvents({}, None)

    def failure(self) -> str | None:
        return None

    async def generate(self, request: web.Request) -> web.StreamResponse:
        self.ids.append((await request.json())["rid"])
        while self.num_together is not None and len(self.ids) < self.num_together:
            await asyncio.sleep(0.001)
        response = web.StreamResponse()
        await response.prepare(request)
        for tokens, reason in (([1], None), ([2, 3], {"type": "length"})):
            meta = {"finish_reason": reason, "cached_tokens": 0}
            await response.write(b"data: " + orjson.dumps({"output_ids": tokens, "meta_info": meta}) + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response

    async def answer_flush(self, request: web.Request) -> web.Response:
        self.flush_queries.append(dict(request.query))
        return web.Response(status=self.flush_status, text="requests are running")

    def run(self, action) -> None:
        async def main() -> None:
            app = web.Application()
            app.router.add_post("/generate", self.generate)
            app.router.add_post("/flush_cache", self.answer_flush)
            runner = web.AppRunner(app)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            try:
                await action()
            finally:
                await runner.cleanup()

        asyncio.run(main())


def test_request_ids_never_come_again_and_none_begins_another():
    """SGLang aborts, two seconds after a stream ended, whatever request's id begins with that stream's id."""
    server = Server()
    prompts = [Prompt("w", str(n), 0, None, (1, 2), "h", 3) for n in range(12)]
    records: list[RequestRecord] = []

    async def twice() -> None:
        for _ in range(2):
            await run_closed_loop(server, CELL, prompts, {}, RoundBook(server), records.append)

    server.run(twice)
    assert [record.output_ids for record in records] == [(1, 2, 3)] * 24
    assert len(set(server.ids)) == 24
    assert not [(a, b) for a in server.ids for b in server.ids if a != b and b.startswith(a)]


@pytest.mark.slow
def test_a_run_of_ten_thousand_requests_loses_none():
    """64 at once, each with its whole answer, on less than a core."""
    records: list[RequestRecord] = []
    with null_engine() as engine:
        began_s = time.perf_counter()
        spent_s = load_null(engine, 64, 10_000, 8, records.append)
        assert spent_s < time.perf_counter() - began_s
    assert len({record.prompt_id for record in records}) == len(records) == 10_000
    assert {(record.error, len(record.chunks)) for record in records} == {(None, 8)}


def test_an_open_loop_waits_for_no_answer():
    """Nobody is answered before the last one has asked; each is due at its arrival and sent no sooner."""
    server = Server()
    server.num_together = 12
    cell = CellKey(launch=0, block=0, arm="a", workload="w", concurrency=None, arrivals="100/s")
    prompts = [Prompt("w", str(n), 0, None, (1, 2), "h", 3) for n in range(12)]
    arrivals_s = [0.01 * n for n in range(12)]
    records: list[RequestRecord] = []
    server.run(lambda: run_open_loop(server, cell, prompts, arrivals_s, {}, RoundBook(server), records.append))
    found = sorted(records, key=lambda record: int(record.prompt_id))
    assert [record.error for record in found] == [None] * 12
    assert {after.due_ns - before.due_ns for before, after in pairwise(found)} == {10_000_000}
    assert all(record.sent_ns >= record.due_ns == record.began_ns for record in found)
    assert max(record.sent_ns for record in found) < min(record.chunks[0].at_ns for record in found)
    assert {record.request_id.rpartition("w-")[2][:6] for record in found} == {"100-s-"}


def test_flushing_waits_for_requests_that_just_ended():
    """The engine is asked to wait; a refusal all the same is an error with its words."""
    server = Server()
    server.run(server.flush)
    assert float(server.flush_queries[0]["timeout"]) >= 10
    server.flush_status = 400
    with pytest.raises(EngineError, match="requests are running"):
        server.run(server.flush)
