"""Servers that run already, as arms: both protocols against a small server that speaks them, and what goes wrong."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from draftbench import bench
from draftbench.harness.errors import EngineError, SuiteError
from draftbench.harness.host import doctor
from draftbench.harness.load.endpoint import Endpoint, open_endpoint
from draftbench.harness.load.generator import RoundBook, run_closed_loop
from draftbench.harness.load.limits import MESSAGE_BYTES
from draftbench.harness.load.requests import Prompt
from draftbench.harness.metrics.latency import chunk_gaps, itl_chunk_s, itl_token_s, tpot_s, ttft_s
from draftbench.harness.metrics.throughput import output_tokens_per_s, steady_tokens_per_s
from draftbench.harness.models.required import needs_of
from draftbench.harness.records import CellKey, RequestRecord
from draftbench.harness.suite import Arm, load_suite

KEY = "sk-very-secret"
MESSAGES = ({"role": "user", "content": "Hello"},)


class Server:
    """Answers every prompt with the tokens 11, 12, 13, 14, which read "a b c d", in three messages.

    `fault` says what goes wrong; the bodies and keys that it was sent are kept.
    """

    def __init__(self) -> None:
        self.fault = ""
        self.incremental = False
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.url = ""

    async def server_info(self, request: web.Request) -> web.Response:
        self.keys.append(request.headers.get("Authorization"))
        if self.fault == "locked":
            return web.Response(status=401)
        return web.json_response(
            {"version": "0.5.17", "model_path": "tiny", "api_key": KEY, "speculative_algorithm": "EAGLE",
             "incremental_streaming_output": self.incremental}
        )  # fmt: skip

    async def models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "tiny"}]})

    async def generate(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        messages: list[Any] = []
        for before, after in ((0, 1), (1, 3), (3, 4)):
            ids = [11, 12, 13, 14][before if self.incremental else 0 : after]
            meta = {
                "finish_reason": {"type": "stop"} if after == 4 else None, "prompt_tokens": len(body["input_ids"]),
                "cached_tokens": 2, "completion_tokens": after, "spec_verify_ct": 2,
            }  # fmt: skip
            messages.append({"text": "…", "output_ids": ids, "meta_info": meta})
        if self.fault.startswith("text of "):
            messages[1]["text"] = "x" * int(self.fault.removeprefix("text of "))
        return await self._stream(request, messages)

    async def completions(self, request: web.Request) -> web.StreamResponse:
        texts: list[dict[str, Any]] = [{"text": text, "finish_reason": None} for text in ("a", " b c", "")]
        return await self._openai(request, [*texts, {"text": " d", "finish_reason": "stop"}])

    async def chat(self, request: web.Request) -> web.StreamResponse:
        deltas = [{"role": "assistant", "content": ""}, {"reasoning_content": "a"}, {"content": " b c"}]
        choices: list[dict[str, Any]] = [{"delta": delta, "finish_reason": None} for delta in deltas]
        return await self._openai(request, [*choices, {"delta": {"content": " d"}, "finish_reason": "stop"}])

    async def _openai(self, request: web.Request, choices: list[dict[str, Any]]) -> web.StreamResponse:
        if self.fault == "filtered":
            choices[-1]["finish_reason"] = "content_filter"
        messages: list[Any] = [{"choices": [choice], "usage": None} for choice in choices]
        usage = {"prompt_tokens": 3, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 1}}
        if self.fault != "no usage":
            messages.append({"choices": [], "usage": usage})
        return await self._stream(request, messages)

    async def _stream(self, request: web.Request, messages: list[Any]) -> web.StreamResponse:
        self.bodies.append(await request.json())
        self.keys.append(request.headers.get("Authorization"))
        if self.fault == "status":
            return web.Response(status=503, text="overloaded")
        if self.fault == "error event":
            messages[1] = {"error": {"message": "out of memory"}}
        if self.fault == "no object":
            messages[1] = 7
        response = web.StreamResponse()
        await response.prepare(request)
        for number, message in enumerate(messages):
            if self.fault == "cut" and number == 1:
                return response
            text = "{" if self.fault == "broken" and number == 1 else json.dumps(message)
            await response.write(f": comment\n\ndata: {text}\n\n".encode())
            await asyncio.sleep(0.002)
        await response.write(b"data: [DONE]\n\n")
        return response


@pytest.fixture
def server() -> Iterator[Server]:
    """Running in a thread of its own until the test ends."""
    served, ready, loop = Server(), threading.Event(), asyncio.new_event_loop()

    async def start() -> None:
        app = web.Application()
        app.router.add_get("/server_info", served.server_info)
        app.router.add_get("/v1/models", served.models)
        app.router.add_post("/generate", served.generate)
        app.router.add_post("/v1/completions", served.completions)
        app.router.add_post("/v1/chat/completions", served.chat)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        served.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        ready.set()

    def serve() -> None:
        loop.run_until_complete(start())
        loop.run_forever()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    ready.wait()
    yield served
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def arm(server: Server, api: str = "sglang", **changes: Any) -> Arm:
    model = {} if api == "sglang" else {"model": "tiny"}
    return Arm.model_validate({"name": "prod", "endpoint": server.url, "api": api, **model, **changes})


def ask(endpoint: Endpoint, sampling: dict[str, Any] | None = None) -> RequestRecord:
    """One request, sent as a cell sends it."""
    cell = CellKey(launch=0, block=0, arm="prod", workload="w", concurrency=1)
    prompts = [Prompt("w", "p", 0, None, (1, 2, 3), "h", 8, MESSAGES)]
    records: list[RequestRecord] = []
    sampling = {"temperature": 0.0} if sampling is None else sampling
    asyncio.run(run_closed_loop(endpoint, cell, prompts, sampling, RoundBook(endpoint), records.append))
    return records[0]


@pytest.mark.parametrize("incremental", [False, True])
def test_sglang_gives_token_ids_however_it_streams(server: Server, incremental: bool) -> None:
    """SGLang repeats all tokens in every message unless it was started otherwise; either way each counts once."""
    server.incremental = incremental
    record = ask(open_endpoint(arm(server)))
    assert record.error is None
    assert record.output_ids == (11, 12, 13, 14)
    assert [chunk.num_tokens for chunk in record.chunks] == [1, 2, 1]
    assert (record.engine_prompt_tokens, record.num_cached_tokens, record.engine_verify_ct) == (3, 2, 2)
    assert (record.finish_reason, record.rounds, record.counted_tokens) == ("stop", None, None)
    assert server.bodies[0]["input_ids"] == [1, 2, 3]
    assert server.bodies[0]["sampling_params"] == {"temperature": 0.0, "max_new_tokens": 8}


@pytest.mark.parametrize(
    ("api", "sent"), [("openai", {"prompt": [1, 2, 3]}), ("openai-chat", {"messages": [*MESSAGES]})]
)
def test_openai_counts_tokens_as_a_whole(server: Server, api: str, sent: dict[str, Any]) -> None:
    """Messages with text are chunks, the first of one token; what needs each chunk's count is left out."""
    record = ask(open_endpoint(arm(server, api)))
    assert record.error is None
    assert (record.output_ids, record.counted_tokens) == ((), 4)
    assert (record.reasoning_text or "") + (record.output_text or "") == "a b c d"
    assert record.reasoning_text == ("a" if api == "openai-chat" else None)
    assert [chunk.num_tokens for chunk in record.chunks] == [None, None, None]
    assert (record.engine_prompt_tokens, record.num_cached_tokens) == (3, 1)
    body = server.bodies[0]
    assert body.items() >= {**sent, "model": "tiny", "max_tokens": 8, "temperature": 0.0, "stream": True}.items()
    assert body["stream_options"] == {"include_usage": True}
    assert "top_k" not in body
    spent = (record.chunks[-1].at_ns - record.chunks[0].at_ns) / 1e9
    assert tpot_s(record) == pytest.approx(spent / 3)
    assert output_tokens_per_s([record]) == pytest.approx(4 / ((ttft_s(record) or 0) + spent))
    gaps = chunk_gaps([record])
    assert itl_chunk_s(gaps) == pytest.approx(spent / 2)
    assert itl_token_s(gaps) is None
    assert steady_tokens_per_s([record] * 4, 2) is None


def test_sampling_is_sent_by_openais_names(server: Server) -> None:
    """top_k, which OpenAI itself does not know, only where it does something."""
    endpoint = Endpoint(arm(server, "openai"))
    ask(endpoint, {"temperature": 0.7, "top_p": 0.9, "top_k": -1})
    ask(endpoint, {"temperature": 0.7, "top_p": 0.9, "top_k": 20})
    assert [(body["temperature"], body["top_p"], body.get("top_k")) for body in server.bodies] == [
        (0.7, 0.9, None),
        (0.7, 0.9, 20),
    ]


@pytest.mark.parametrize("api", ["sglang", "openai", "openai-chat"])
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("status", "HTTP 503: overloaded"),
        ("broken", "stream could not be read"),
        ("no object", "stream could not be read"),
        ("cut", "the stream ended before the engine finished the request"),
        ("error event", "out of memory"),
    ],
)
def test_failures_are_records(server: Server, api: str, fault: str, said: str) -> None:
    """With the reason, and with what had come until then."""
    server.fault = fault
    record = ask(Endpoint(arm(server, api)))
    assert record.finish_reason == "failed"
    assert said in (record.error or "")


def test_messages_that_repeat_a_long_answer_are_read(server: Server) -> None:
    """Tens of thousands of tokens and their text in one message; what no answer can be fails its request alone."""
    server.fault = "text of 2000000"
    assert ask(open_endpoint(arm(server))).output_ids == (11, 12, 13, 14)
    server.fault = f"text of {2 * MESSAGE_BYTES}"
    assert "a message is longer than 4 MiB" in (ask(open_endpoint(arm(server))).error or "")


def test_a_stream_that_is_not_what_the_server_counts_is_told(server: Server) -> None:
    """A server that streams otherwise than it says would lose tokens silently."""
    endpoint = open_endpoint(arm(server))
    server.incremental = True
    assert "a message holds 1 tokens, the one before held 2" in (ask(endpoint).error or "")


@pytest.mark.parametrize("api", ["openai", "openai-chat"])
@pytest.mark.parametrize(("fault", "said"), [("no usage", "sent no usage"), ("filtered", "content_filter")])
def test_tokens_are_not_guessed_and_ends_not_taken_for_granted(server: Server, api: str, fault: str, said: str) -> None:
    """A server that does not count is of no use; an answer that was cut by a filter is none."""
    server.fault = fault
    assert said in (ask(Endpoint(arm(server, api))).error or "")


def test_a_server_that_is_gone_fails_its_requests() -> None:
    """One that ran when the run began, too."""
    record = ask(Endpoint(Arm.model_validate({"name": "p", "endpoint": "http://127.0.0.1:9", "api": "sglang"})))
    assert "ClientConnectorError" in (record.error or "")


def test_keys_come_from_the_environment_and_are_never_kept(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are sent with every request; what the server tells of itself is kept without its own."""
    with pytest.raises(EngineError, match="the environment has no PROD_KEY, which api_key_env names; set it"):
        Endpoint(arm(server, api_key_env="PROD_KEY"))
    monkeypatch.setenv("PROD_KEY", KEY)
    endpoint = open_endpoint(arm(server, api_key_env="PROD_KEY"))
    record = ask(endpoint)
    assert server.keys == [f"Bearer {KEY}"] * 2
    assert endpoint.told.speculative_algorithm == "EAGLE"
    assert KEY not in record.model_dump_json() + endpoint.told.model_dump_json()


def test_what_cannot_be_measured_is_told_at_once(server: Server) -> None:
    """Nobody there, another model, a key that is missing, no SGLang: with the address and what to do."""
    gone = Arm.model_validate({"name": "prod", "endpoint": "http://127.0.0.1:9", "api": "sglang"})
    with pytest.raises(EngineError, match=r"arm prod: http://127.0.0.1:9 does not answer .*start the server"):
        open_endpoint(gone)
    with pytest.raises(EngineError, match="serves tiny, not huge"):
        open_endpoint(arm(server, "openai", model="huge"))
    with pytest.raises(EngineError, match="it is no SGLang server"):
        open_endpoint(arm(server, endpoint=f"{server.url}/elsewhere"))
    server.fault = "locked"
    with pytest.raises(EngineError, match=r"HTTP 401; api_key_env names the variable"):
        open_endpoint(arm(server))


SUITE = """\
version: 1
name: served
target: {model: tiny, dtype: float32}
arms:
  - {name: native, endpoint: URL, api: sglang}
  - {name: chat, endpoint: URL/v1, api: openai-chat, model: tiny}
workloads:
  - {name: sums, source: synthetic, family: arithmetic, num_prompts: 4}
sampling: {temperature: 0, max_tokens: 8, seed: 0}
load: [{concurrency: 2}, {rate: 100}]
blocks: 2
"""


def write(tmp_path: Path, text: str, url: str = "http://127.0.0.1:9") -> Path:
    path = tmp_path / "served.yaml"
    path.write_text(text.replace("URL", url))
    return path


def test_a_suite_of_endpoints_alone_runs_without_an_engine(server: Server, tmp_path: Path) -> None:
    """No reference, no speedups; every row is marked and says what could not be checked."""
    path = write(tmp_path, SUITE, server.url)
    assert bench.main([str(path), "--out", str(tmp_path / "run")]) in (0, 1)
    rows = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [(row["arm"], row["load"]) for row in rows] == [
        ("native", "c=2"), ("chat", "c=2"), ("native", "100/s"), ("chat", "100/s"),
    ]  # fmt: skip
    for row in rows:
        assert (row["architecture"], row["num_requests"], row["num_failed"]) == ("endpoint", 8, 0)
        assert row["speedup"] is row["latency_ratio"] is row["acceptance_length"] is row["lossless_share"] is None
        assert row["output_tokens_per_s"] > 0
        found = {finding["gate"]: finding["evidence"] for finding in row["detail"]["findings"]}
        assert "no vanilla reference for losslessness" in found["not checked"]
        assert "warm endpoint" in found
    assert rows[0]["valid"]
    assert rows[0]["detail"]["engine_acceptance_length"] == 2
    assert rows[0]["detail"]["against"] == {}  # the server counts other prompt tokens for chat: its row is invalid
    assert "prompt tokens" in rows[1]["reason"]
    report = (tmp_path / "run" / "report.md").read_text()
    assert "| native ‡ |" in report
    assert "‡: an endpoint, a server that ran already" in report
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["endpoints"]["native"]["version"] == "0.5.17"
    assert "engines" not in manifest or not manifest["engines"]
    assert not (tmp_path / "run" / "engines").exists()
    assert bench.main(["verify", str(tmp_path / "run")]) == 0


def test_a_server_that_does_not_answer_is_told_before_a_run_begins(tmp_path: Path, capsys: Any) -> None:
    """Nothing is written."""
    assert bench.main([str(write(tmp_path, SUITE)), "--out", str(tmp_path / "run")]) == 2
    assert "does not answer" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_later_turns_need_vanillas_answers(server: Server, tmp_path: Path, capsys: Any) -> None:
    """Endpoints alone have no reference pass to write the history of a second turn."""
    (tmp_path / "two.jsonl").write_text('{"turns": ["a", "b"]}\n')
    two = SUITE.replace("source: synthetic, family: arithmetic, num_prompts: 4", "source: prompts, path: two.jsonl")
    assert bench.main([str(write(tmp_path, two, server.url)), "--out", str(tmp_path / "run")]) == 2
    assert "Add a vanilla arm, or take prompts of one turn" in " ".join(capsys.readouterr().err.split())


def test_plan_and_doctor_tell_endpoints(server: Server, tmp_path: Path) -> None:
    """The plan does not contact them and needs no memory for them; the doctor does."""
    suite = load_suite(write(tmp_path, SUITE))
    needs = needs_of(suite, tmp_path)
    assert "endpoint native: http://127.0.0.1:9, sglang" in needs
    assert "target tiny: its tokenizer alone; no engine is started" in needs
    findings = doctor.diagnose_suite(suite, tmp_path)
    assert [finding.ok for finding in findings if "does not answer" in finding.text] == [False, False]
    findings = doctor.diagnose_suite(load_suite(write(tmp_path, SUITE, server.url)), tmp_path)
    assert any("endpoint native answers: version 0.5.17" in finding.text for finding in findings)
    assert all(finding.ok for finding in findings)


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        (", api: sglang", "", 5, "arms[0].api is missing; allowed: sglang, openai, openai-chat."),
        ("api: sglang", "api: sglan", 5, "Did you mean sglang?"),
        ("endpoint: URL, api", "endpoint: 'localhost:30000', api", 5, "arms[0].endpoint is 'localhost:30000'"),
        ("api: sglang", "api: sglang, model: tiny", 5, "model means nothing for sglang"),
        ("api: sglang", "api: openai", 5, "arms[0].model is missing"),
        ("api: sglang", "api: sglang, num_steps: 3", 5, "num_steps means nothing for an endpoint"),
        ("api: sglang", "api: sglang, architecture: eagle", 5, "an endpoint drafts with its own; leave it out"),
        ("endpoint: URL, api: sglang", "architecture: endpoint", 5, "arms[0].endpoint is missing"),
        ("endpoint: URL, api: sglang", "num_steps: 3", 5, "arms[0].architecture is missing; allowed: "),
        ("endpoint: URL, api: sglang", "architecture: vanilla, api: sglang", 5, "api means nothing without endpoint"),
        ("blocks: 2", "blocks: 2\nrendering: {raw: true}", 6, "with rendering.raw take openai"),
    ],
)
def test_mistakes_are_told_with_file_and_line(tmp_path: Path, old: str, new: str, line: int, said: str) -> None:
    """What is missing, what means nothing, what is allowed."""
    assert old in SUITE
    path = write(tmp_path, SUITE.replace(old, new, 1))
    with pytest.raises(SuiteError) as caught:
        load_suite(path)
    assert said in str(caught.value)
    assert f"{path}:{line}: " in str(caught.value)
