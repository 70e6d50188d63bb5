"""Chat messages to token ids with the target's own template and tokenizer, without transformers."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from datetime import date
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any

from draftbench.harness.errors import CheckpointError, WorkloadError
from draftbench.harness.suite import Rendering
from draftbench.harness.workloads.regular import file_problem
from draftbench.harness.workloads.templates import STRFTIME, Template, read_template

Messages = Sequence[Mapping[str, str]]
TOKENIZER_BYTES = 512 << 20
OURS = frozenset(("messages", "add_generation_prompt", "raise_exception", STRFTIME))
"""Names of a template that no suite can give."""


class ChatRenderer:
    """The tokenizer of one model folder, and its chat template or the suite's."""

    def __init__(self, folder: Path, rendering: Rendering | None = None) -> None:
        """Read tokenizer.json and the template (the suite's, or the folder's).

        Raises:
            CheckpointError: one of them is missing or broken, or the template does not read what the suite gives it.
        """
        from tokenizers import Tokenizer

        path = folder / "tokenizer.json"
        if not path.exists():
            raise CheckpointError(f"{path} is missing; prompts are rendered with the target's fast tokenizer.")
        if (problem := file_problem(path, TOKENIZER_BYTES)) is not None:
            raise CheckpointError(f"{path} {problem}.")
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises this very type
            raise CheckpointError(
                f"{path} is no fast tokenizer ({str(error)[:200]}); put the model's there."
            ) from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        added = self._tokenizer.get_added_tokens_decoder()
        self._special = frozenset(token for token, about in added.items() if about.special)
        rendering = rendering or Rendering()
        self._raw, self._arguments = rendering.raw, rendering.arguments
        self._date = rendering.date or date.today().isoformat()
        self._shapes: dict[tuple[str, ...], frozenset[str]] = {}
        if not self._raw:
            given = None if rendering.template is None else Path(rendering.template)
            self._template = read_template(folder, given, bool(rendering.template_arguments.get("tools")))
            self._reads = self._template.reads(self._date)
            _check_arguments(self._arguments, self._template, self._reads)

    @property
    def end_of_turn(self) -> str:
        """The text that ends an answer; empty where the tokenizer's configuration names none."""
        return "" if self._raw else self._template.special.get("eos_token", "")

    def render(self, messages: Messages) -> tuple[int, ...]:
        """Token ids of a conversation that the assistant is to continue.

        The template alone adds special tokens; raw text gets those that the tokenizer puts around every text.

        Raises:
            CheckpointError: the template refuses such a conversation, or leaves a part of it out.
            WorkloadError: raw text is to be sent, but there is more than one message; nothing would be sent.
        """
        if self._raw and len(messages) != 1:
            raise WorkloadError(
                f"rendering.raw sends one text, but a conversation has {len(messages)} messages; "
                "choose workloads of one turn without a system prompt."
            )
        asked = messages[-1]["content"]
        if self._raw:
            ids = tuple(self._tokenizer.encode(asked).ids)
        else:
            text = self.prompt_text(messages)
            self._check_special(text)
            ids = self.encode(text)
        if not ids:
            raise WorkloadError(f"the text {asked!r:.60} has no token in the target's tokenizer.")
        return ids

    def prompt_text(self, messages: Messages) -> str:
        """What the template makes of a conversation that the assistant is to continue, each message found in it again.

        Raises:
            CheckpointError: as `render`.
        """
        text = self.text(messages)
        asked = messages[-1]["content"]
        if not text.strip() or not _holds(text, asked):
            raise CheckpointError(
                f"the chat template {self._template.place} does not keep the user's text {asked!r:.80}; give another "
                "one as rendering.template."
            )
        return text

    def _check_special(self, text: str) -> None:
        """A special token that the tokenizer does not know would be sent letter by letter."""
        for name, token in self._template.special.items():
            if name in self._reads and token and token in text and self._tokenizer.token_to_id(token) is None:
                raise CheckpointError(
                    f"the chat template {self._template.place} writes {name} {token!r}, which is no token of "
                    "tokenizer.json; put the model's own there."
                )

    def _find_parts(self, roles: tuple[str, ...]) -> frozenset[str]:
        """The roles whose content such a conversation has to give as a list of parts, as templates for pictures want.

        Raises:
            CheckpointError: the template leaves a message out either way.
        """
        words = [f"draftbenchprobe{number}x" for number in range(len(roles))]
        probes = [{"role": role, "content": word} for role, word in zip(roles, words, strict=True)]
        lost: list[str] = []
        error: CheckpointError | None = None
        for parts in (frozenset[str](), frozenset(roles), frozenset(roles) - {"system"}):
            try:
                text = self._text(probes, parts, go_on=True)
            except CheckpointError as found:
                error = error or found
                continue
            spelled = bool(parts) and "'type'" in text  # as Python writes a list
            missing = [
                f"message {number} ({role})"
                for number, role in enumerate(roles, 1)
                if spelled or words[number - 1] not in text
            ]
            if not missing:
                return parts
            lost = lost or missing
        if error is not None and not lost:
            raise error
        raise CheckpointError(
            f"the chat template {self._template.place} leaves out {', '.join(lost)} of a conversation of "
            f"{', '.join(roles)}; give another one as rendering.template, or other prompts."
        )

    def text(self, messages: Messages, answered: bool = False) -> str:
        """What the template makes of a conversation, up to where the assistant goes on unless it is `answered`.

        Raises:
            CheckpointError: the template refuses such a conversation, or leaves a message out.
        """
        roles = tuple(message["role"] for message in messages)
        if roles not in self._shapes:
            self._shapes[roles] = self._find_parts(roles)
        return self._text(messages, self._shapes[roles], go_on=not answered)

    def _text(self, messages: Messages, parts: frozenset[str], go_on: bool) -> str:
        given: list[dict[str, Any]] = [
            {**message, "content": [{"type": "text", "text": message["content"]}]}
            if message["role"] in parts
            else dict(message)
            for message in messages
        ]
        return self._template.render(given, self._date, self._arguments, go_on)

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of a text as it is."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The texts between the special tokens of a rendered conversation.

        Raises:
            ValueError: these are no token ids.
        """
        if not all(type(token) is int and 0 <= token < 2**31 for token in ids):
            raise ValueError("not all of its ids are token ids")
        groups = groupby(ids, key=self._special.__contains__)
        return [str(self._tokenizer.decode(list(group))) for is_special, group in groups if not is_special]

    def decode(self, ids: Sequence[int], with_special: bool = False) -> str:
        """Text of an output, without special tokens unless they are asked for."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=not with_special))


def prompt_sha256(ids: Sequence[int]) -> str:
    """Hash of token ids as little-endian int32."""
    return sha256(struct.pack(f"<{len(ids)}i", *ids)).hexdigest()


def _check_arguments(arguments: Mapping[str, Any], template: Template, reads: frozenset[str]) -> None:
    """An argument that a template does not read changes nothing, and nobody would notice."""
    known = sorted(reads - OURS)
    for name in arguments:
        if name in OURS or name not in reads:
            where = "rendering.thinking" if name == "enable_thinking" else f"rendering.template_arguments.{name}"
            raise CheckpointError(
                f"{where}: the chat template {template.place} takes no {name} from a suite; it reads "
                f"{', '.join(known) or 'nothing else'}."
            )


def _holds(text: str, content: str) -> bool:
    """Whether a rendered conversation holds a message, but for white space and JSON's escapes."""
    if content.strip() in text:
        return True
    written = "".join(text.split())
    escaped = (json.dumps(content, ensure_ascii=ascii_only)[1:-1] for ascii_only in (False, True))
    return any("".join(form.split()) in written for form in (content, *escaped))
