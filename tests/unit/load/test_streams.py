"""Answers as servers really give them, and as hostile ones might: each is read right, or one failed request that says
why."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from draftbench.harness.errors import EngineError
from draftbench.harness.load import client, contact, limits
from draftbench.harness.load.endpoint import Endpoint, open_endpoint
from draftbench.harness.load.generator import RoundBook, run_closed_loop
from draftbench.harness.load.limits import Watch
from draftbench.harness.load.requests import Prompt
from draftbench.harness.records import CellKey, RequestRecord, Round
from draftbench.harness.suite import Arm
from tests.fakes.raw_server import RawServer, Script, http, raw_server

CASES = {case["name"]: case for case in json.loads((Path(__file__).parent / "streams.json").read_text())}
"""Handed in with what is right; names are theirs."""
AB = {"chunks": 2, "output_text": "ab", "counted_tokens": 3, "finish_reason": "stop", "engine_prompt_tokens": 5}
FOUND: dict[str, dict[str, Any]] = {
    **dict.fromkeys(
        ("plain", "no done line", "comments", "no space after data:", "crlf", "byte order mark first",
         "event and id lines", "usage chunk without choices", "finish_reason empty text", "finish_reason eos",
         "delta null at the end", "content parts", "input_tokens and output_tokens"), AB,
    ),
    "reasoning delta, then the answer": {
        "chunks": 3, "reasoning_text": "t1t2", "num_reasoning_chunks": 2, "output_text": "answer", "counted_tokens": 3
    },
    "reasoning_content delta": {"chunks": 2, "reasoning_text": "t1", "num_reasoning_chunks": 1},
    "tool calls only": {"chunks": 1, "output_text": None, "counted_tokens": 3, "finish_reason": "stop"},
    "characters split over chunks of bytes": {"output_text": "é日本", "chunks": 2},
    "vLLM acceptance in the last chunk": {
        **AB, "rounds": (Round(0, 3), Round(1, 3)), "rounds_from": "vllm", "engine_verify_ct": 2,
        "engine_accepted_drafts": 1, "engine_proposed_drafts": 6,
    },
}  # fmt: skip
FAILED = {
    "usage of zero tokens with text": "the server counts 0 tokens, its stream held 1 chunks",
    "error object in the middle": "oops",
    "page in place of a stream": "no event came, but text/event-stream: <html>login</html>",
    "answer that is not streamed": "not as a stream, so there are no times",
}


def endpoint_of(url: str, api: str = "openai-chat", **fields: Any) -> Endpoint:
    model = {} if api == "sglang" else {"model": "tiny"}
    return Endpoint(Arm.model_validate({"name": "prod", "endpoint": url, "api": api, **model, **fields}))


def ask(endpoint: Endpoint, num_requests: int = 1, watch: Watch | None = None) -> list[RequestRecord]:
    """Requests one after the other, as a cell sends them."""
    cell = CellKey(launch=0, block=0, arm="prod", workload="w", concurrency=1)
    prompts = [
        Prompt("w", str(number), 0, None, (1, 2, 3), "h", 8, ({"role": "user", "content": "Hello"},))
        for number in range(num_requests)
    ]
    records: list[RequestRecord] = []
    asyncio.run(run_closed_loop(endpoint, cell, prompts, {}, RoundBook(endpoint), records.append, watch))
    return records


def answered(script: Script, api: str = "openai-chat") -> RequestRecord:
    with raw_server(script) as server:
        return ask(endpoint_of(server.url, api))[0]


def sent(body: bytes, size: int = 1 << 20) -> Script:
    """A whole stream, in pieces."""
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return lambda request: [http(), *(step for piece in pieces for step in (piece, 0.0))]


def events(*messages: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(message).encode() + b"\n\n" for message in messages)


def text(content: Any, reason: Any = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": reason}]}


def test_empty_messages_and_white_space_bring_nothing() -> None:
    """Some servers keep a connection alive so, and end their streams with a space after the mark."""
    body = b"data:\n\ndata: \n\n" + events(text("a", "stop"), USAGE) + b"data: [DONE] \n\n"
    record = answered(sent(body))
    assert (record.error, len(record.chunks)) == (None, 1)


def test_every_case_has_a_value() -> None:
    assert set(CASES) == set(FOUND) | set(FAILED)


@pytest.mark.parametrize("size", [1 << 20, 7])
@pytest.mark.parametrize("name", FOUND)
def test_streams_are_read_as_they_are_meant(name: str, size: int) -> None:
    """In whatever pieces they come; nothing is lost and nothing guessed."""
    record = answered(sent(CASES[name]["body"].encode(), size))
    assert record.error is None
    found = {key: len(value) if key == "chunks" else value for key, value in dict(record).items()}
    assert {key: found[key] for key in FOUND[name]} == FOUND[name]
    assert json.loads(record.model_dump_json())["rounds_from"] == FOUND[name].get("rounds_from")


@pytest.mark.parametrize("name", FAILED)
def test_streams_that_say_nothing_fail_with_the_reason(name: str) -> None:
    record = answered(sent(CASES[name]["body"].encode()))
    assert record.finish_reason == "failed"
    assert FAILED[name] in (record.error or "")


USAGE = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([text("a"), text("b", "stop"), text("c"), USAGE], "after the server had ended the request (stop)"),
        ([text("a"), text("b", "stop"), {"usage": {"completion_tokens": "2"}}], "completion_tokens is 2; it must be"),
        ([text("a"), text("b", "stop"), {"usage": {"completion_tokens": -2}}], "completion_tokens is -2; it must be"),
        ([text("a"), text("b", "stop"), {"usage": {"completion_tokens": 1.5}}], "completion_tokens is 1.5; it must"),
        ([text("a"), text("b", "stop"), {"usage": {"completion_tokens": True}}], "completion_tokens is True; it must"),
        ([text("a"), text("b", "stop"), {"usage": [1]}], "usage is [1]; it must be an object"),
        ([text("a"), text("b", "stop"), {"usage": {"completion_tokens": 9}}], "counts 9 tokens, max_tokens is 8"),
        ([text("a"), text("b", "stop")], "the server sent no usage"),
        ([text(7)], "content is 7; it must be a text"),
        ([text([{"type": "image_url"}])], "content holds {'type': 'image_url'}; it must hold texts"),
        ([text("a", ["stop"])], "the server ended the request: ['stop']"),
        ([text("a", "content_filter")], "the server ended the request: content_filter"),
        ([{"choices": {"a": 1}}], "choices is {'a': 1}; it must be a list of objects"),
        ([{"choices": [{"delta": "a"}]}], "delta is a; it must be an object"),
        ([{"choices": None, "error": None}, {"object": "error", "message": "too long"}], "too long"),
        ([{"error": "no memory"}], "the server ended the request: no memory"),
        ([text("", "stop"), USAGE], "counts 2 tokens, its stream held no output"),
        ([text("x" * 80_000)], "its text is longer than 8 tokens can be"),
        ([*([text("a")] * 300)], "messages with output, max_tokens is 8"),
        ([[1]], "a message is [1], no object"),
        (
            [text("a", "stop"), {**USAGE, "metrics": {"speculative_decoding": {"acceptance_histogram": [10**12]}}}],
            "the server counts 1000000000000 verify steps for 2 tokens",
        ),
        (
            [text("a", "stop"), {**USAGE, "sglext": {"spec_tokens_details": {"spec_verify_ct": "x"}}}],
            "spec_verify_ct is x; it must be a count",
        ),
    ],
)
def test_what_cannot_be_is_told(messages: list[Any], said: str) -> None:
    """Every field is checked before it is used; the request fails alone."""
    record = answered(sent(events(*messages)))
    assert record.finish_reason == "failed"
    assert said in (record.error or "")


def ids(tokens: Any, meta: Any = "running") -> dict[str, Any]:
    told = {"finish_reason": None} if meta == "running" else meta
    return {"output_ids": tokens, "meta_info": told}


STOP = {"finish_reason": {"type": "stop"}, "prompt_tokens": 3, "completion_tokens": 2}


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([ids([1]), ids([1, 2.0], STOP)], "output_ids holds 2.0, which is no token id"),
        ([ids([1]), ids([1, -2], STOP)], "output_ids holds -2, which is no token id"),
        ([ids([1]), ids([1, "2"], STOP)], "output_ids holds 2, which is no token id"),
        ([ids([1]), ids([1, True], STOP)], "output_ids holds True, which is no token id"),
        ([ids([1]), ids([1, 1 << 40], STOP)], "which is no token id"),
        ([ids([1], None)], "meta_info is None; it must be an object"),
        ([ids(None)], "output_ids is None; it must be a list"),
        ([{"text": "a"}], "meta_info is None; it must be an object"),
        ([ids([1]), ids([1, 2], {**STOP, "prompt_tokens": "3"})], "prompt_tokens is 3; it must be a count"),
        ([ids([1]), ids([1, 2], {**STOP, "completion_tokens": 3})], "counts 3 tokens, its stream held 2"),
        ([ids([1]), ids([1, 2], {**STOP, "spec_verify_ct": -1})], "spec_verify_ct is -1; it must be a count"),
        ([ids([1]), ids([1, 2], {**STOP, "finish_reason": {"type": "abort"}})], "the engine ended the request"),
        ([ids([1]), ids([1, 2], {**STOP, "finish_reason": 5})], "the engine ended the request: 5"),
        ([ids([1, 2]), ids([1])], "a message holds 1 tokens, the one before held 2"),
        ([ids([1]), ids([7, 2], STOP)], "its last message does not hold the tokens that came before"),
        ([ids([1]), ids([1, 2], STOP), ids([1, 2, 3], STOP)], "after the server had ended the request"),
        ([ids(list(range(9)))], "went on past max_tokens, which is 8"),
        ([ids([1]), {"error": {"message": "out of memory"}}], "out of memory"),
    ],
)
def test_token_ids_are_checked_one_by_one(messages: list[Any], said: str) -> None:
    """What SGLang's interface may say, and nothing else."""
    record = answered(sent(events(*messages)), "sglang")
    assert record.finish_reason == "failed"
    assert said in (record.error or "")


def endless(piece: bytes) -> Script:
    """After the head for ever the same."""

    def script(request: bytes) -> Iterator[bytes]:
        yield http()
        while True:
            yield piece

    return script


@pytest.mark.parametrize("piece", [b": ping\n\n" * 10_000, b"x" * 100_000, b"data: {}\n\n" * 10_000])
def test_gigabytes_are_cut_off(piece: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Comments, a line without end, empty messages: each stream has room for its answer, and no more."""
    monkeypatch.setattr(client, "stream_bytes", lambda max_tokens: 8 << 20)
    with raw_server(endless(piece)) as server:
        record = ask(endpoint_of(server.url))[0]
        assert server.num_sent < 64 << 20
    assert "longer than" in (record.error or "")


def test_an_error_page_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its beginning is told, and little more is read; a server that drips is not waited for."""

    def page(request: bytes) -> Iterator[bytes]:
        yield http(b"x" * 100, "500 No")
        while True:
            yield b"y" * 99_999

    with raw_server(page) as server:
        record = ask(endpoint_of(server.url))[0]
    assert record.error == "HTTP 500: " + "x" * 100 + "y" * 200
    assert record.finished_ns - record.sent_ns < limits.REFUSAL_S * 1e9 / 2, "it was read for as long as it may drip"
    monkeypatch.setattr(client, "REFUSAL_S", 0.3)
    assert answered(lambda request: [http(b"slow", "503 No"), *([0.2, b"y"] * 20)]).error == "HTTP 503: slowy"


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        ("429 No", "Retry-After: 7\r\n", "HTTP 429 (Retry-After: 7): busy"),
        ("307 Go", "Location: http://127.0.0.1:9/x\r\n", "HTTP 307: redirected to http://127.0.0.1:9/x, and redirects"),
        ("400 No", "", "HTTP 400: busy"),
    ],
)
def test_refusals_say_what_the_server_said(status: str, headers: str, said: str) -> None:
    """The status, when to come back, where it points to, the text without control characters."""
    record = answered(lambda request: [http(b"\x1b[31mbusy", status, headers=headers)])
    assert said.replace("busy", "[31mbusy") in (record.error or "")


def redirecting(other: RawServer) -> Script:
    return lambda request: [http(b"", "307 Go", headers=f"Location: {other.url}/generate\r\n")]


def test_keys_and_prompts_follow_no_redirect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither when a server is asked what it is, nor when it is sent a prompt; the reason says where it points to."""
    monkeypatch.setenv("KEY", "sk-secret")
    with raw_server(lambda request: [http(b"{}")]) as thief, raw_server(redirecting(thief)) as server:
        endpoint = endpoint_of(server.url, "sglang", api_key_env="KEY")
        with pytest.raises(EngineError, match=r"redirects to http://127.* give that address as endpoint"):
            endpoint.contact()
        assert "redirected to" in (ask(endpoint)[0].error or "")
        assert b"sk-secret" in server.asked[-1]
        assert thief.asked == []


def dripping(request: bytes) -> Iterable[bytes | float]:
    yield http(b"{", kind="application/json")
    for _ in range(400):
        yield from (b" ", 0.05)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (dripping, "no whole answer within"),
        (endless(b" " * 100_000), "it sends more than 4 MiB"),
        (lambda request: [http(b"[" * 200_000)], "gives no JSON object"),
        (lambda request: [http(b'{"a":' * 200_000)], "gives no JSON object"),
        (lambda request: [http(b"<html>\x1b[2Jlogin")], "gives no JSON object, but <html> [2Jlogin"),
        (lambda request: [b"220 smtp ready\r\n"], "does not answer as it should"),
        (lambda request: [http(b"x", "500 No")], "HTTP 500: x"),
    ],
)
def test_servers_that_cannot_be_asked_are_told_soon(script: Script, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drips, gigabytes, nesting, pages, other protocols."""
    monkeypatch.setattr(contact, "CONTACT_TIMEOUT_S", 1.0)
    with raw_server(script) as server, pytest.raises(EngineError, match="arm prod: ") as caught:
        endpoint_of(server.url, "sglang").contact()
    assert said in str(caught.value)


def test_what_a_server_tells_of_itself_is_kept_short() -> None:
    """Texts without control characters, numbers; nothing that is nested or long."""
    told = {"version": "0.5\x1b[2J", "model_path": "m" * 9999, "dtype": [[[1]]], "tp_size": 2}
    with raw_server(lambda request: [http(json.dumps(told).encode())]) as server:
        endpoint = open_endpoint(Arm.model_validate({"name": "p", "endpoint": server.url, "api": "sglang"}))
    assert endpoint.told.said() == {
        "version": "0.5 [2J", "model_path": "m" * limits.SHOWN, "dtype": "[[[1]]]", "tp_size": 2,
    }  # fmt: skip


@pytest.mark.parametrize("noise", [b"", b": ping\n\n"])
def test_a_silent_server_is_told_and_then_given_up(noise: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """After some seconds a person knows; comments are silence too; later requests are given less time."""
    monkeypatch.setattr(limits, "LOOK_S", 0.05)
    monkeypatch.setattr(limits, "NOTICE_S", 0.2)
    notes: list[str] = []

    def script(request: bytes) -> Iterator[bytes | float]:
        yield http(events(text("a")))
        for _ in range(100):
            yield from (noise, 0.05)

    with raw_server(script) as server:
        records = ask(endpoint_of(server.url), 3, Watch("prod", notes.append, 0.6))
    assert [len(record.chunks) for record in records] == [1, 1, 1]
    assert all("the server was silent for " in (record.error or "") for record in records)
    spent = [(record.finished_ns - record.sent_ns) / 1e9 for record in records]
    assert spent[0] > 0.55 > max(spent[1:])
    assert notes[0].startswith("prod has sent nothing for 0 s, with 1 requests under way; they fail after 1 s")


def test_a_server_that_works_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the whole takes, and however long nobody asks."""
    monkeypatch.setattr(limits, "LOOK_S", 0.05)
    notes: list[str] = []

    def script(request: bytes) -> Iterator[bytes | float]:
        yield http()
        for _ in range(6):
            yield from (events(text("a")), 0.15)
        yield events(text("", "stop"), {"usage": {"prompt_tokens": 3, "completion_tokens": 6}})

    with raw_server(script) as server:
        records = ask(endpoint_of(server.url), 2, Watch("prod", notes.append, 0.5))
    assert [record.error for record in records] == [None, None]
    assert notes == []


def test_a_stream_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request has ended, usage came, and the connection stays open without an end of the stream."""
    monkeypatch.setattr(client, "END_S", 0.3)
    record = answered(lambda request: [http(events(text("a", "stop"), USAGE)), 5.0])
    assert "the stream did not end within 0 s after the request had" in (record.error or "")
