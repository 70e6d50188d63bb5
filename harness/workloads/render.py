"""Chat messages to token ids with the target's own template and tokenizer, without transformers."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any, NoReturn

from draftbench.harness.errors import CheckpointError, WorkloadError
from draftbench.harness.suite import Rendering


class ChatRenderer:
    """The tokenizer of one model folder, and its chat template or the suite's."""

    def __init__(self, folder: Path, rendering: Rendering | None = None) -> None:
        """Read tokenizer.json and the template (the suite's, chat_template.jinja, or in tokenizer_config.json).

        Raises:
            CheckpointError: one of them is missing or broken.
        """
        from jinja2 import TemplateError
        from jinja2.ext import loopcontrols
        from jinja2.sandbox import ImmutableSandboxedEnvironment
        from tokenizers import Tokenizer

        path = folder / "tokenizer.json"
        if not path.exists():
            raise CheckpointError(f"{path} is missing; prompts are rendered with the target's fast tokenizer.")
        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        added = self._tokenizer.get_added_tokens_decoder()
        self._special = frozenset(token for token, about in added.items() if about.special)
        config_path = folder / "tokenizer_config.json"
        config: dict[str, Any] = json.loads(config_path.read_text()) if config_path.exists() else {}
        rendering = rendering or Rendering()
        self._raw = rendering.raw
        self._options = {} if rendering.thinking is None else {"enable_thinking": rendering.thinking}
        if self._raw:
            return
        if rendering.template and not Path(rendering.template).exists():
            raise CheckpointError(f"rendering.template: there is no file {rendering.template}; put it there.")
        template_path = Path(rendering.template) if rendering.template else folder / "chat_template.jinja"
        text = template_path.read_text() if template_path.exists() else config.get("chat_template")
        if isinstance(text, list):
            text = next((entry["template"] for entry in text if entry.get("name") == "default"), None)
        if not isinstance(text, str):
            raise CheckpointError(
                f"{folder} has no chat template (chat_template.jinja, or chat_template in tokenizer_config.json); "
                "put the model's template there, give one as rendering.template, or set rendering.raw for a base model."
            )
        # The settings and names that transformers gives to templates (utils/chat_template_utils.py, 5.12).
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        self._names = {
            name: value["content"] if isinstance(value, dict) else value
            for name, value in config.items()
            if name.endswith("_token") and value is not None
        }
        try:
            self._template = environment.from_string(text)
        except TemplateError as error:
            raise CheckpointError(f"the chat template {rendering.template or folder} is broken: {error}.") from error

    @property
    def end_of_turn(self) -> str:
        """The text that ends an answer; empty where the tokenizer's configuration names none."""
        return str(self._names.get("eos_token", "")) if not self._raw else ""

    def render(self, messages: Sequence[dict[str, str]]) -> tuple[int, ...]:
        """Token ids of a conversation that the assistant is to continue.

        The template alone adds special tokens; raw text gets those that the tokenizer puts around every text.

        Raises:
            CheckpointError: the template refuses such a conversation.
            WorkloadError: raw text is to be sent, but there is more than one message.
        """
        if self._raw:
            if len(messages) != 1:
                raise WorkloadError(
                    f"rendering.raw sends one text, but a conversation has {len(messages)} messages; "
                    "choose workloads of one turn without a system prompt."
                )
            return tuple(self._tokenizer.encode(messages[0]["content"]).ids)
        return self.encode(self.text(messages))

    def text(self, messages: Sequence[dict[str, str]], answered: bool = False) -> str:
        """What the template makes of a conversation, up to where the assistant goes on unless it is `answered`.

        Raises:
            CheckpointError: the template refuses such a conversation.
        """
        from jinja2 import TemplateError

        try:
            return str(
                self._template.render(
                    messages=list(messages), add_generation_prompt=not answered, **self._options, **self._names
                )
            )
        except TemplateError as error:
            raise CheckpointError(f"the target's chat template refuses a conversation: {error}.") from error

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

    def decode(self, ids: Sequence[int]) -> str:
        """Text of an output, without special tokens."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))


def prompt_sha256(ids: Sequence[int]) -> str:
    """Hash of token ids as little-endian int32."""
    return sha256(struct.pack(f"<{len(ids)}i", *ids)).hexdigest()


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> NoReturn:
    from jinja2 import TemplateError

    raise TemplateError(message)
