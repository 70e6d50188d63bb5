"""One streamed request to an engine: what arrived and when."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
from aiohttp.http_exceptions import HttpProcessingError

from draftbench.harness.records import Chunk

REQUEST_TIMEOUT_S = 600.0
LINE_BYTES = 4 << 20
"""Longest line of a stream: servers may repeat a whole answer, ids and text, in every message."""


@dataclass
class Answer:
    """What one request brought, filled as chunks arrive; `error` is set when it failed."""

    sent_ns: int = 0
    finished_ns: int = 0
    chunks: list[Chunk] = field(default_factory=list)
    output_ids: list[int] = field(default_factory=list)
    finish_reason: str | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    num_tokens: int | None = None
    """Delivered tokens as the server counts them, where it gives no ids; None where it gives them."""
    text: str | None = None
    """What came, where there are no ids."""


Take = Callable[[Answer, dict[str, Any], int], None]
"""Puts one server message into an answer, with the time at which it came."""
JSON: Mapping[str, str] = {"Content-Type": "application/json"}


@asynccontextmanager
async def open_session() -> AsyncIterator[aiohttp.ClientSession]:
    """A client session without a limit on connections and with a long time limit for a request."""
    timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=timeout, trust_env=False, read_bufsize=LINE_BYTES
    ) as session:
        yield session


async def stream_request(
    session: aiohttp.ClientSession,
    url: str,
    request_id: str,
    prompt_ids: tuple[int, ...],
    sampling: dict[str, Any],
    headers: Mapping[str, str] = JSON,
    cumulative: bool = False,
) -> Answer:
    """Send a prompt to SGLang's /generate and collect its stream; failures are returned, never raised.

    Only the time stamps are taken while tokens arrive; a chunk is the tokens of one server message.

    Args:
        cumulative: each message holds all tokens so far, as SGLang sends them unless it is started with
            incremental_streaming_output (managers/tokenizer_manager.py, 0.5.17).
    """
    body = {"rid": request_id, "input_ids": prompt_ids, "sampling_params": sampling, "stream": True}
    return await stream(session, f"{url}/generate", body, take_cumulative if cumulative else take_tokens, headers)


async def stream(
    session: aiohttp.ClientSession, url: str, body: dict[str, Any], take: Take, headers: Mapping[str, str] = JSON
) -> Answer:
    """Send a request and collect its server-sent events; failures are returned, never raised."""
    data = orjson.dumps(body)
    answer = Answer(sent_ns=time.monotonic_ns())
    try:
        async with session.post(url, data=data, headers=headers) as response:
            if response.status != 200:
                answer.error = f"HTTP {response.status}: {(await response.text())[:500]}"
            else:
                await _read_events(response, answer, take)
    except (aiohttp.ClientError, HttpProcessingError, TimeoutError, OSError) as error:
        answer.error = f"{type(error).__name__}: {error}"
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        answer.error = f"the engine's stream could not be read ({type(error).__name__}: {error})"
    answer.finished_ns = time.monotonic_ns()
    if answer.error is None and answer.finish_reason is None:
        answer.error = "the stream ended before the engine finished the request"
    return answer


async def _read_events(response: aiohttp.ClientResponse, answer: Answer, take: Take) -> None:
    async for line in response.content:
        if not line.startswith(b"data: "):
            continue
        at_ns = time.monotonic_ns()
        payload = line[6:].strip()
        if payload == b"[DONE]":
            return
        message = orjson.loads(payload)
        if "error" in message:
            answer.error = str(message["error"])
            return
        take(answer, message, at_ns)


def take_tokens(answer: Answer, message: dict[str, Any], at_ns: int) -> None:
    """SGLang's message with the tokens that are new."""
    tokens = message["output_ids"]
    answer.meta = message["meta_info"]
    if tokens:
        answer.output_ids.extend(tokens)
        answer.chunks.append(Chunk(at_ns=at_ns, num_tokens=len(tokens)))
    reason = answer.meta.get("finish_reason")
    if reason is not None:
        answer.finish_reason = reason["type"]
        if reason["type"] not in ("stop", "length"):
            answer.error = f"the engine ended the request: {reason}"


def take_cumulative(answer: Answer, message: dict[str, Any], at_ns: int) -> None:
    """SGLang's message with all tokens so far."""
    take_tokens(answer, {**message, "output_ids": message["output_ids"][len(answer.output_ids) :]}, at_ns)
