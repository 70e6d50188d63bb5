"""One streamed request to an OpenAI-compatible server, whose streams hold text and, at their end, counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aiohttp

from draftbench.harness.load.client import Answer, Message, stream
from draftbench.harness.load.limits import StreamError, Watch, text_chars
from draftbench.harness.load.reported_acceptance import of_message
from draftbench.harness.load.requests import Prompt
from draftbench.harness.load.server_fields import count_of, object_of, shown

NO_USAGE = (
    "the server sent no usage, so how many tokens it delivered is not known; it has to support "
    "stream_options.include_usage"
)
ENDS = {
    **dict.fromkeys(("stop", "eos", "eos_token", "stop_sequence", "end_turn", "tool_calls", "function_call"), "stop"),
    **dict.fromkeys(("length", "max_tokens", "max_length", "model_length"), "length"),
}
"""Reasons with which a request ends well, as servers spell them; calls of tools are output as any other."""
ACCEPTANCE = frozenset(("sglext", "metrics", "timings"))
"""Keys of a message under which servers tell of their drafts."""


async def stream_completion(
    session: aiohttp.ClientSession,
    url: str,
    model: str,
    prompt: Prompt,
    sampling: Mapping[str, Any],
    headers: Mapping[str, str],
    chat: bool,
    template_arguments: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
    watch: Watch | None = None,
) -> Answer:
    """Send a prompt to /v1/completions as token ids, or to /v1/chat/completions as messages, and collect its stream.

    A chunk is a message with text in it; its tokens are not counted, the request's are, by the server's `usage`.
    Failures are returned, never raised.

    Args:
        sampling: SGLang's names; top_k is sent only where it is set, since OpenAI itself knows none.
        template_arguments: what the suite gives to the template, where the server renders.
        extra: further fields of the request that this server knows.
    """
    named = {"temperature": sampling.get("temperature"), "top_p": sampling.get("top_p")}
    if sampling.get("top_k", -1) != -1:
        named["top_k"] = sampling["top_k"]
    body: Message = {name: value for name, value in named.items() if value is not None}
    body |= {"model": model, "max_tokens": prompt.max_tokens, "stream": True, "stream_options": {"include_usage": True}}
    body |= extra or {}
    answer = Answer(prompt.max_tokens)
    if chat:
        body["messages"] = list(prompt.messages)
        if template_arguments:
            body["chat_template_kwargs"] = dict(template_arguments)
        await stream(session, f"{url}/v1/chat/completions", body, answer, take_text, headers, watch)
    else:
        body["prompt"] = list(prompt.prompt_ids)
        await stream(session, f"{url}/v1/completions", body, answer, take_text, headers, watch)
    if answer.error is None:
        answer.error = _contradiction(answer)
    return answer


def _contradiction(answer: Answer) -> str | None:
    """Why an answer that ended well cannot be what the server counts."""
    counted, came = answer.num_tokens, len(answer.chunks)
    if counted is None:
        return NO_USAGE
    if counted > answer.max_tokens:
        return f"the server counts {counted} tokens, max_tokens is {answer.max_tokens}"
    if came and not counted:
        return f"the server counts 0 tokens, its stream held {came} chunks of text"
    if not came:
        return f"the server counts {counted} tokens, its stream held no output, so there are no times"
    return None


def take_text(answer: Answer, message: Message, at_ns: int) -> None:
    """A message with new text, the reason of the end, usage, or several of them; chat messages hold text in a delta."""
    choices = message.get("choices")
    usage = message.get("usage")
    if choices:
        if type(choices) is not list or type(choices[0]) is not dict:
            raise StreamError(f"choices is {shown(choices)}; it must be a list of objects")
        choice = choices[0]
        _take_choice(answer, choice, at_ns)
        usage = choice.get("usage") if usage is None else usage
    if usage is not None:
        _take_usage(answer, object_of({"usage": usage}, "usage"))
    if not ACCEPTANCE.isdisjoint(message):
        served = of_message(message, answer.max_tokens if answer.num_tokens is None else answer.num_tokens)
        answer.served = served if served.source is not None else answer.served


def _take_choice(answer: Answer, choice: Mapping[str, Any], at_ns: int) -> None:
    delta = choice.get("delta")
    if type(delta) is dict:
        text, reasoning, other = _delta(delta)
    else:
        if delta is not None:
            raise StreamError(f"delta is {shown(delta)}; it must be an object")
        text, reasoning, other = _text(choice.get("text"), "text")[0], "", False
    if text or reasoning or other:
        answer.add_chunk(at_ns, None)
        answer.num_reasoning_chunks += not (text or other)
        if text:
            answer.text = (answer.text or "") + text
        if reasoning:
            answer.reasoning = (answer.reasoning or "") + reasoning
        if len(answer.text or "") + len(answer.reasoning or "") > text_chars(answer.max_tokens):
            raise StreamError(f"its text is longer than {answer.max_tokens} tokens can be")
    reason = choice.get("finish_reason")
    if reason is not None and reason != "":
        end = ENDS.get(reason) if type(reason) is str else None
        if end is None:
            answer.error = f"the server ended the request: {shown(reason)}"
        answer.finish_reason = end


def _delta(delta: Mapping[str, Any]) -> tuple[str, str, bool]:
    """New text of the answer, of the reasoning, and whether a tool was called.

    vLLM says `reasoning` from 0.16 on and had said `reasoning_content`; releases between say both, with one text.
    """
    text, thought = _text(delta.get("content"), "content")
    reasoning = _text(delta.get("reasoning"), "reasoning")[0]
    reasoning = reasoning or _text(delta.get("reasoning_content"), "reasoning_content")[0]
    called = delta.get("tool_calls") or delta.get("function_call")
    return text or _text(delta.get("refusal"), "refusal")[0], reasoning or thought, bool(called)


def _text(value: Any, name: str) -> tuple[str, str]:
    """A text, or the texts of a list of parts; those of reasoning apart."""
    if value is None or type(value) is str:
        return value or "", ""
    if type(value) is not list:
        raise StreamError(f"{name} is {shown(value)}; it must be a text")
    text, thought = "", ""
    for part in value:
        kind = part.get("type") if type(part) is dict else None
        if kind == "thinking":
            thought += _text(part.get("thinking"), "thinking")[0]
        elif kind in ("text", "output_text"):
            text += _text(part.get("text"), "text")[0]
        else:
            raise StreamError(f"{name} holds {shown(part)}; it must hold texts")
    return text, thought


def _take_usage(answer: Answer, usage: Mapping[str, Any]) -> None:
    """Counts, by OpenAI's names for chats or for responses; a server may repeat them in every message."""
    counted = count_of(usage, "completion_tokens")
    prompt = count_of(usage, "prompt_tokens")
    answer.num_tokens = count_of(usage, "output_tokens") if counted is None else counted
    answer.num_prompt_tokens = count_of(usage, "input_tokens") if prompt is None else prompt
    details = object_of(usage, "prompt_tokens_details") or object_of(usage, "input_tokens_details")
    cached = count_of(details, "cached_tokens")
    answer.num_cached_tokens = count_of(usage, "prompt_cache_hit_tokens") if cached is None else cached
    details = object_of(usage, "completion_tokens_details") or object_of(usage, "output_tokens_details")
    thought = count_of(details, "reasoning_tokens")
    answer.num_reasoning_tokens = count_of(usage, "reasoning_tokens") if thought is None else thought
