"""One streamed request to an engine: what arrived and when.

One module has every way in which a stream can be none.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
from aiohttp.http_exceptions import HttpProcessingError

from draftbench.harness.load.event_stream import EventStream
from draftbench.harness.load.limits import (
    CONNECT_TIMEOUT_S,
    END_S,
    MESSAGE_BYTES,
    REFUSAL_BYTES,
    REFUSAL_S,
    REQUEST_TIMEOUT_S,
    SHOWN,
    StreamError,
    Watch,
    stream_bytes,
    stream_messages,
)
from draftbench.harness.load.reported_acceptance import ReportedAcceptance, of_meta_info
from draftbench.harness.load.server_fields import count_of, shown
from draftbench.harness.records import Chunk

Message = dict[str, Any]


@dataclass
class Answer:
    """What one request brought, filled as chunks arrive; `error` is set when it failed."""

    max_tokens: int
    sent_ns: int = 0
    finished_ns: int = 0
    chunks: list[Chunk] = field(default_factory=list)
    output_ids: list[int] = field(default_factory=list)
    finish_reason: str | None = None
    meta: Message = field(default_factory=dict)
    """SGLang's last meta_info."""
    error: str | None = None
    num_tokens: int | None = None
    """Delivered tokens as the server counts them, where it gives no ids; None where it gives them."""
    text: str | None = None
    """The answer, where there are no ids."""
    reasoning: str | None = None
    """What came before the answer and apart from it, where there are no ids."""
    num_reasoning_chunks: int = 0
    num_reasoning_tokens: int | None = None
    num_prompt_tokens: int | None = None
    num_cached_tokens: int | None = None
    num_retractions: int = 0
    served: ReportedAcceptance = field(default_factory=ReportedAcceptance)
    """What the server says of its draft."""

    def add_chunk(self, at_ns: int, num_tokens: int | None) -> None:
        """Output came.

        Raises:
            StreamError: it came after the end, or there is more of it than can be.
        """
        if self.finish_reason is not None:
            raise StreamError(f"output came after the server had ended the request ({self.finish_reason})")
        self.chunks.append(Chunk(at_ns=at_ns, num_tokens=num_tokens))
        if len(self.output_ids) > self.max_tokens:
            raise StreamError(f"the stream went on past max_tokens, which is {self.max_tokens}")
        if len(self.chunks) > stream_messages(self.max_tokens):
            raise StreamError(
                f"the stream has {len(self.chunks)} messages with output, max_tokens is {self.max_tokens}"
            )


Take = Callable[[Answer, Message, int], None]
"""Puts one server message into an answer, with the time at which it came; raises StreamError."""
JSON: Mapping[str, str] = {
    "Content-Type": "application/json",
    "Accept": "text/event-stream",
    "Accept-Encoding": "identity",  # compressed, messages wait for each other
}


@asynccontextmanager
async def open_session() -> AsyncIterator[aiohttp.ClientSession]:
    """A client session without a limit on connections and with a long time limit for a request."""
    timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=timeout, trust_env=False, read_bufsize=MESSAGE_BYTES
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
    watch: Watch | None = None,
) -> Answer:
    """Send a prompt to SGLang's /generate and collect its stream; failures are returned, never raised.

    Only the time stamps are taken while tokens arrive; a chunk is the tokens of one server message.

    Args:
        cumulative: each message holds all tokens so far, as SGLang sends them unless it is started with
            incremental_streaming_output (managers/tokenizer_manager.py, 0.5.17).
    """
    body = {"rid": request_id, "input_ids": prompt_ids, "sampling_params": sampling, "stream": True}
    take = take_cumulative if cumulative else take_tokens
    answer = Answer(sampling["max_new_tokens"])
    await stream(session, f"{url}/generate", body, answer, take, headers, watch)
    try:
        _take_counts(answer)
    except StreamError as error:
        answer.error = answer.error or str(error)
    return answer


async def stream(
    session: aiohttp.ClientSession,
    url: str,
    body: Message,
    answer: Answer,
    take: Take,
    headers: Mapping[str, str] = JSON,
    watch: Watch | None = None,
) -> None:
    """Send a request and collect its server-sent events; failures are put into the answer, never raised.

    No redirect is followed: another server would be measured, or be given the prompt and the key.
    """
    data, watch = orjson.dumps(body), watch or Watch()
    answer.sent_ns = time.monotonic_ns()
    timeout = None
    try:
        async with (
            watch.request() as timeout,
            session.post(url, data=data, headers=headers, allow_redirects=False) as response,
        ):
            if response.status == 200:
                await _read_events(response, answer, take, watch, timeout)
            else:
                answer.error = await _refusal(response)
    except (StreamError, RecursionError) as error:
        answer.error = f"the engine's stream could not be read: {error}"
    except (aiohttp.ClientError, HttpProcessingError, TimeoutError, OSError) as error:
        answer.error = f"{type(error).__name__}: {error}"
        if timeout is not None and timeout.expired():
            answer.error = (
                f"the stream did not end within {END_S:.0f} s after the request had"
                if answer.finish_reason is not None
                else f"the server was silent for {watch.silent_s:.0f} s"
            )
    answer.finished_ns = time.monotonic_ns()
    if answer.error is None and answer.finish_reason is None:
        answer.error = "the stream ended before the engine finished the request"


async def _read_events(
    response: aiohttp.ClientResponse, answer: Answer, take: Take, watch: Watch, timeout: asyncio.Timeout
) -> None:
    events, begin, room = EventStream(), b"", stream_bytes(answer.max_tokens)
    left, ending = room, False
    async for piece in response.content.iter_any():
        left -= len(piece)
        if left < 0:
            raise StreamError(f"it is longer than {room >> 20} MiB, for at most {answer.max_tokens} tokens")
        if len(begin) < SHOWN:
            begin += piece[:SHOWN]
        for kind, data in events.feed(piece):
            at_ns = time.monotonic_ns()
            text = data.strip()
            if text == b"[DONE]":
                return
            if not text:  # keeps the connection alive, as a comment would
                continue
            watch.heard(at_ns)
            message = _message(data)
            if (error := error_of(message, kind)) is not None:
                answer.error = error
                return
            take(answer, message, at_ns)
            if answer.error is not None:
                return
        if answer.finish_reason is not None and not ending:
            ending = True
            timeout.reschedule(asyncio.get_running_loop().time() + END_S)
    if not events.num_events:
        answer.error = _no_stream(response, begin)


def _message(data: bytes) -> Message:
    try:
        message = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise StreamError(f"a message is no JSON ({error}): {shown(data)}") from None
    if type(message) is not dict:
        raise StreamError(f"a message is {shown(message)}, no object")
    return message


def error_of(message: Message, kind: bytes = b"") -> str | None:
    """What a message says went wrong; None where it says nothing of the kind.

    Servers send `error` as an object or a text, or an object of the kind `error`; a null error is none.
    """
    error = message.get("error")
    if error is None and (kind == b"error" or message.get("object") == "error"):
        error = message
    if error is None or error is False:
        return None
    text = error.get("message") if type(error) is dict else error
    return f"the server ended the request: {shown(error if text is None else text)}"


async def _refusal(response: aiohttp.ClientResponse) -> str:
    """Why a request was refused: the status, where it points to, when to come back, the beginning of its text."""
    text = f"HTTP {response.status}"
    if (place := response.headers.get("Location")) is not None and 300 <= response.status < 400:
        return f"{text}: redirected to {shown(place)}, and redirects are not followed; give that address as endpoint"
    if (after := response.headers.get("Retry-After")) is not None:
        text += f" (Retry-After: {shown(after)})"
    body = b""
    try:
        async with asyncio.timeout(REFUSAL_S):
            while len(body) < REFUSAL_BYTES and (piece := await response.content.read(REFUSAL_BYTES)):
                body += piece
    except TimeoutError:
        pass
    return f"{text}: {shown(body)}"


def _no_stream(response: aiohttp.ClientResponse, begin: bytes) -> str:
    """What came in place of events."""
    kind = response.headers.get("Content-Type", "a body without a type")
    try:
        whole = orjson.loads(begin)
    except orjson.JSONDecodeError:
        whole = None
    if type(whole) is dict and (error := error_of(whole)) is not None:
        return error
    if b'"choices"' in begin or b'"output_ids"' in begin:
        return f"the answer came whole and not as a stream, so there are no times: {shown(begin)}"
    return f"no event came, but {shown(kind)}: {shown(begin)}"


def take_tokens(answer: Answer, message: Message, at_ns: int) -> None:
    """SGLang's message with the tokens that are new."""
    _take(answer, message, at_ns, 0)


def take_cumulative(answer: Answer, message: Message, at_ns: int) -> None:
    """SGLang's message with all tokens so far."""
    _take(answer, message, at_ns, len(answer.output_ids))


def _take(answer: Answer, message: Message, at_ns: int, num_known: int) -> None:
    meta, tokens = message.get("meta_info"), message.get("output_ids")
    if type(meta) is not dict:
        raise StreamError(f"meta_info is {shown(meta)}; it must be an object")
    if type(tokens) is not list:
        raise StreamError(f"output_ids is {shown(tokens)}; it must be a list")
    if len(tokens) < num_known:
        raise StreamError(f"a message holds {len(tokens)} tokens, the one before held {num_known}")
    new = tokens[num_known:] if num_known else tokens
    for token in new:
        if type(token) is not int or not 0 <= token < 1 << 31:
            raise StreamError(f"output_ids holds {shown(token)}, which is no token id")
    answer.meta = meta
    if new:
        answer.output_ids.extend(new)
        answer.add_chunk(at_ns, len(new))
    reason = meta.get("finish_reason")
    if reason is not None:
        kind = reason.get("type") if type(reason) is dict else reason
        if kind not in ("stop", "length"):
            answer.error = f"the engine ended the request: {shown(reason)}"
            return
        if num_known and tokens != answer.output_ids:
            raise StreamError("its last message does not hold the tokens that came before")
        answer.finish_reason = kind


def _take_counts(answer: Answer) -> None:
    """SGLang's counters of the whole request, checked."""
    meta = answer.meta
    answer.num_prompt_tokens = count_of(meta, "prompt_tokens")
    answer.num_cached_tokens = count_of(meta, "cached_tokens")
    answer.num_retractions = count_of(meta, "num_retractions") or 0
    answer.served = of_meta_info(meta, len(answer.output_ids))
    counted = count_of(meta, "completion_tokens")
    if answer.error is None and counted not in (None, len(answer.output_ids)):
        raise StreamError(f"the server counts {counted} tokens, its stream held {len(answer.output_ids)}")
