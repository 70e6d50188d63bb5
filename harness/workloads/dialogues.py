"""Conversations with the answers that their own corpus gives, for training: messages, questions with answers, texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from draftbench.harness.errors import WorkloadError
from draftbench.harness.suite import Workload
from draftbench.harness.workloads import synthetic
from draftbench.harness.workloads.conversations import is_text, rows_of
from draftbench.harness.workloads.messages import messages_of
from draftbench.harness.workloads.prompts import chosen
from draftbench.harness.workloads.published import record_of, text_of
from draftbench.harness.workloads.render import ChatRenderer

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Learnable:
    """Token ids, and the stretches of them that are answers."""

    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]


def dialogues(workload: Workload, seed: int) -> Iterator[tuple[str, Messages | str | WorkloadError]]:
    """A workload's conversations or texts, each with its place; what is malformed comes as its error.

    Raises:
        WorkloadError: the source has no answers of its own, or cannot be read.
    """
    found: list[tuple[str, Messages | str | WorkloadError]] = []
    if workload.source == "synthetic":
        assert workload.family is not None, "the recipe was checked"
        for number, task in enumerate(
            islice(synthetic.generate(workload.family, workload.split, seed), workload.num_prompts)
        ):
            found.append((f"{workload.name} {number}", _pair(task.prompt, task.answer)))
        yield from found
        return
    read = READERS.get(workload.source)
    if read is None:
        raise WorkloadError(
            f"workload {workload.name}: {workload.source} has prompts without answers; let the target answer "
            f"(responses: target), or take one of synthetic, {', '.join(READERS)}."
        )
    for place, row in rows_of(workload):
        try:
            if is_text(workload):
                found.append((place, str(record_of(row, place, is_text=True)["prompt"])))
            else:
                found.append((place, read(record_of(row, place), place)))
        except (WorkloadError, UnicodeDecodeError) as error:
            found.append((place, error if isinstance(error, WorkloadError) else WorkloadError(f"{place}: {error}")))
    yield from chosen(found, workload.num_prompts, seed)


def learnable(dialogue: Messages | str, renderer: ChatRenderer) -> Learnable:
    """A conversation or text as the target's tokens; each answer is encoded apart, as it follows its prompt.

    Raises:
        WorkloadError: there is no answer, or the template writes an answered turn unlike an open one.
    """
    if isinstance(dialogue, str):
        ids = renderer.encode(dialogue + renderer.end_of_turn)
        return Learnable(ids, ((min(1, len(ids)), len(ids)),))
    ids_list: list[int] = []
    spans = []
    written = ""
    for number, message in enumerate(dialogue):
        if message["role"] != "assistant":
            continue
        prompt = renderer.text(dialogue[:number])
        answered = renderer.text(dialogue[: number + 1], answered=True)
        if not (prompt.startswith(written) and answered.startswith(prompt)):
            raise WorkloadError("the template does not write an answered turn as it opens one")
        cut = (
            answered.rfind(renderer.end_of_turn) + len(renderer.end_of_turn) if renderer.end_of_turn else len(answered)
        )
        cut = cut if cut > len(prompt) else len(answered)
        ids_list += renderer.encode(prompt[len(written) :])
        first = len(ids_list)
        ids_list += renderer.encode(answered[len(prompt) : cut])
        spans.append((first, len(ids_list)))
        written = answered[:cut]
    if not spans:
        raise WorkloadError("no message is from the assistant")
    return Learnable(tuple(ids_list), tuple(spans))


def _pair(prompt: str, answer: str) -> Messages:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


def _own(record: dict[str, Any], place: str) -> Messages | str:
    if "text" in record:
        return text_of(record, "text", place)
    if "prompt" in record and "response" in record:
        return _pair(text_of(record, "prompt", place), text_of(record, "response", place))
    return _messages(record, "messages" if "conversations" not in record else "conversations", place)


def _sharegpt(record: dict[str, Any], place: str) -> Messages:
    return _messages(record, "conversations", place)


def _messages(record: dict[str, Any], key: str, place: str) -> Messages:
    if key not in record:
        raise WorkloadError(
            f"{place}: {key} must be a list of messages, `text` or `prompt` and `response` stand alone."
        )
    found = messages_of(record[key], key, place)
    if not any(message.role == "assistant" and message.text.strip() for message in found):
        raise WorkloadError(f"{place}: no answer is in it.")
    return [{"role": message.role, "content": message.text} for message in found]


def _gsm8k(record: dict[str, Any], place: str) -> Messages:
    return _pair(text_of(record, "question", place), text_of(record, "answer", place))


def _alpaca(record: dict[str, Any], place: str) -> Messages:
    given = record.get("input")
    text = text_of(record, "instruction", place)
    return _pair(f"{text}\n\n{given}" if given else text, text_of(record, "output", place))


READERS: Mapping[str, Callable[[dict[str, Any], str], Messages | str]] = {
    "prompts": _own,
    "chat_jsonl": _own,
    "sharegpt": _sharegpt,
    "gsm8k": _gsm8k,
    "alpaca": _alpaca,
}
"""Sources whose records hold answers."""
