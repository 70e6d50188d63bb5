"""Conversations in a record, in either of the layouts that are passed around: role and content, from and value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from draftbench.harness.errors import WorkloadError
from draftbench.harness.workloads.prompts import Conversation

ROLES = {
    "system": "system", "user": "user", "assistant": "assistant", "human": "user", "gpt": "assistant",
    "chatgpt": "assistant", "bing": "assistant", "bard": "assistant", "model": "assistant",
}  # fmt: skip
"""As files have them: chats' and ShareGPT's."""


@dataclass(frozen=True)
class Message:
    """One message; its role is system, user or assistant."""

    role: str
    text: str


def messages_of(value: Any, name: str, place: str) -> tuple[Message, ...]:
    """A list of messages.

    Args:
        name: the key under which it stands.

    Raises:
        WorkloadError: it is none, or holds a role or a content that cannot be sent as text.
    """
    if not isinstance(value, list) or not value:
        raise WorkloadError(
            f"{place}: {name} must be a list of messages, objects with `role` and `content` or `from` and `value`."
        )
    return tuple(_message(each, place) for each in value)


def _message(value: Any, place: str) -> Message:
    if not isinstance(value, dict):
        raise WorkloadError(f"{place}: a message is {value!r:.60}; it must be an object.")
    key, content = ("from", "value") if "from" in value and "role" not in value else ("role", "content")
    role = value.get(key)
    if not isinstance(role, str) or role not in ROLES:
        raise WorkloadError(f"{place}: each message needs a {key}, one of {', '.join(ROLES)}; found {role!r:.60}.")
    return Message(ROLES[role], content_of(value, content, place))


def content_of(record: dict[str, Any], key: str, place: str) -> str:
    """A text, or the texts of a list of parts.

    Raises:
        WorkloadError: it is neither, or holds pictures or the like, which are not sent.
    """
    value = record.get(key)
    if isinstance(value, list) and value:
        kinds = [part.get("type", "text") if isinstance(part, dict) else None for part in value]
        texts = [part.get("text") if isinstance(part, dict) else None for part in value]
        if all(kind in ("text", "input_text") for kind in kinds) and all(isinstance(text, str) for text in texts):
            return "".join(map(str, texts))
        raise WorkloadError(f"{place}: {key} has parts {value!r:.60}; only texts can be sent.")
    if not isinstance(value, str):
        found = "missing" if value is None else f"{value!r:.60}"
        raise WorkloadError(f"{place}: {key} is {found}; it must be a text.")
    return value


def conversation_of(
    messages: tuple[Message, ...], prompt_id: str, category: str | None, instruction: str, place: str
) -> Conversation:
    """The user's turns with the system messages where they stand.

    Recorded assistant turns are left out: the target answers, and its answers become the history.

    Raises:
        WorkloadError: there is no turn of the user's, or a system message after the last one.
    """
    turns: list[str] = []
    systems: list[tuple[int, str]] = []
    for message in messages:
        if message.role == "system":
            systems.append((len(turns), message.text))
        elif message.role == "user":
            turns.append(message.text)
    if not turns:
        raise WorkloadError(f"{place}: no message is the user's.")
    if systems and systems[-1][0] == len(turns):
        raise WorkloadError(f"{place}: a system message stands after the user's last one, so nothing would answer it.")
    first = systems[0][1] if systems and systems[0][0] == 0 else None
    later = tuple(systems if first is None else systems[1:])
    return Conversation(prompt_id, category, (instruction + turns[0], *turns[1:]), first, later=later)
