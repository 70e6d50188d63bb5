"""One streamed request to an OpenAI-compatible server, whose streams hold text and, at their end, counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aiohttp

from draftbench.harness.load.client import Answer, stream
from draftbench.harness.load.requests import Prompt
from draftbench.harness.records import Chunk

NO_USAGE = (
    "the server sent no usage, so how many tokens it delivered is not known; it has to support "
    "stream_options.include_usage"
)


async def stream_completion(
    session: aiohttp.ClientSession,
    url: str,
    model: str,
    prompt: Prompt,
    sampling: Mapping[str, Any],
    headers: Mapping[str, str],
    chat: bool,
    thinking: bool | None = None,
) -> Answer:
    """Send a prompt to /v1/completions as token ids, or to /v1/chat/completions as messages, and collect its stream.

    A chunk is a message with text in it; its tokens are not counted, the request's are, by the server's `usage`.
    Failures are returned, never raised.

    Args:
        sampling: SGLang's names; top_k is sent only where it is set, since OpenAI itself knows none.
        thinking: the template's enable_thinking, where the suite sets it.
    """
    named = {"temperature": sampling.get("temperature"), "top_p": sampling.get("top_p")}
    if sampling.get("top_k", -1) != -1:
        named["top_k"] = sampling["top_k"]
    body: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    body |= {"model": model, "max_tokens": prompt.max_tokens, "stream": True, "stream_options": {"include_usage": True}}
    if chat:
        body["messages"] = list(prompt.messages)
        if thinking is not None:
            body["chat_template_kwargs"] = {"enable_thinking": thinking}
        answer = await stream(session, f"{url}/v1/chat/completions", body, take_text, headers)
    else:
        body["prompt"] = list(prompt.prompt_ids)
        answer = await stream(session, f"{url}/v1/completions", body, take_text, headers)
    if answer.error is None and answer.num_tokens is None:
        answer.error = NO_USAGE
    return answer


def take_text(answer: Answer, message: dict[str, Any], at_ns: int) -> None:
    """A message with new text, the reason of the end, or usage; chat messages hold their text in a delta."""
    for choice in message["choices"][:1]:
        delta = choice.get("delta")
        text = choice["text"] if delta is None else _delta_text(delta)
        if text:
            answer.text = (answer.text or "") + text
            answer.chunks.append(Chunk(at_ns=at_ns, num_tokens=None))
        reason = choice.get("finish_reason")
        if reason is not None:
            answer.finish_reason = reason
            if reason not in ("stop", "length"):
                answer.error = f"the server ended the request: {reason}"
    usage = message.get("usage")
    if usage is not None:
        answer.num_tokens = usage["completion_tokens"]
        answer.meta = {
            "prompt_tokens": usage.get("prompt_tokens"),
            "cached_tokens": (usage.get("prompt_tokens_details") or {}).get("cached_tokens"),
        }


def _delta_text(delta: Mapping[str, Any]) -> str:
    """Reasoning is output too."""
    return "".join(delta.get(key) or "" for key in ("reasoning_content", "content"))
