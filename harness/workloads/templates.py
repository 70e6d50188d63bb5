"""A model folder's chat template: where it stands, which special tokens go into it, and the process that renders it."""

from __future__ import annotations

import atexit
import json
import select
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from draftbench.harness.errors import CheckpointError
from draftbench.harness.workloads.regular import TEMPLATE_BYTES, read_text

STRFTIME = "strftime_now"
"""What templates ask for today's date."""
RENDER_S = 10.0
"""Longest time for one conversation."""
CONFIG_BYTES = 64 << 20


class Renderer:
    """The process that renders, started when it is first needed and again after it had to be ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one request, or an `error` in its place where there is none in time."""
        with self._lock:
            process = self._process or self._start()
            assert process.stdin is not None
            try:
                process.stdin.write(json.dumps(request).encode() + b"\n")
                process.stdin.flush()
                found = self._line(process)
            except BrokenPipeError:
                found = b""
            except BaseException:  # an interrupt: what comes later would be taken for the next answer
                self.close()
                raise
            if not found:
                ended = process.poll() is not None
                self.close()
                return {
                    "error": "it ended the process that renders it"
                    if ended
                    else f"it takes more than {RENDER_S:.0f} s for one conversation"
                }
            answer: dict[str, Any] = json.loads(found)
            return answer

    def _start(self) -> subprocess.Popen[bytes]:
        worker = Path(__file__).with_name("template_worker.py")
        self._process = subprocess.Popen(
            [sys.executable, str(worker)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C is the run's; this one ends with its input
        )
        return self._process

    def _line(self, process: subprocess.Popen[bytes]) -> bytes:
        """One line of its output; nothing where it ended, or does not answer in time."""
        assert process.stdout is not None
        until_s, found = time.monotonic() + RENDER_S, bytearray()
        poll = select.poll()
        poll.register(process.stdout, select.POLLIN)
        while not found.endswith(b"\n"):
            if not poll.poll(max(0.0, 1000 * (until_s - time.monotonic()))):
                return b""
            piece = process.stdout.read1(1 << 16)  # type: ignore[attr-defined]  # a buffered reader
            if not piece:
                process.wait()
                return b""
            found += piece
        return bytes(found)

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


RENDERER = Renderer()
atexit.register(RENDERER.close)


@dataclass(frozen=True)
class Template:
    """A chat template with what it is called in messages and the special tokens of its folder."""

    text: str
    place: str
    special: Mapping[str, str]

    def reads(self, date: str) -> frozenset[str]:
        """The names that it asks for.

        Raises:
            CheckpointError: it is broken.
        """
        return frozenset(self._ask({"date": date})["reads"])

    def render(self, messages: list[dict[str, Any]], date: str, arguments: Mapping[str, Any], go_on: bool) -> str:
        """Its text for a conversation; arguments of the suite go before the folder's special tokens.

        Args:
            go_on: up to where the assistant answers.

        Raises:
            CheckpointError: it refuses such a conversation, fails, takes too long or makes too much of it.
        """
        given = {
            "tools": None,
            "documents": None,
            **self.special,
            **arguments,
            "messages": messages,
            "add_generation_prompt": go_on,
        }
        found = self._ask({"date": date, "arguments": given})
        missing = [name for name in found["undefined"] if name.endswith("_token")]
        if missing:
            raise CheckpointError(
                f"the chat template {self.place} writes {missing[0]}, which no file of its folder names; say what it "
                f"is: rendering: {{template_arguments: {{{missing[0]}: ...}}}}."
            )
        return str(found["text"])

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        found = RENDERER.ask({**request, "template": self.text})
        if "error" in found:
            what = "is broken" if found.get("broken") else "refuses a conversation"
            raise CheckpointError(f"the chat template {self.place} {what}: {_one_line(found['error'])}.")
        return found


def _one_line(text: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:300]


def read_template(folder: Path, given: Path | None, with_tools: bool) -> Template:
    """The template of a model folder, or the one that a suite gives in its place.

    A folder has it in chat_template.jinja, else in tokenizer_config.json, alone or as one of several with names, else
    in chat_template.json; as transformers has it, one named tool_use is taken where there are tools.

    Raises:
        CheckpointError: there is none, or a file that cannot be read.
    """
    config = read_object(folder / "tokenizer_config.json")
    special = special_tokens(folder, config)
    if given is not None:
        if not given.exists():
            raise CheckpointError(f"rendering.template: there is no file {given}; put it there.")
        return Template(read_text(given, TEMPLATE_BYTES, CheckpointError), str(given), special)
    found: Any = config.get("chat_template")
    if isinstance(found, list):
        found = {str(entry.get("name")): entry.get("template") for entry in found if isinstance(entry, dict)}
    file = folder / "chat_template.jinja"
    others = sorted((folder / "additional_chat_templates").glob("*.jinja"))
    if file.exists() or others:
        found = {"default": read_text(file, TEMPLATE_BYTES, CheckpointError)} if file.exists() else {}
        found |= {path.stem: read_text(path, TEMPLATE_BYTES, CheckpointError) for path in others}
    if found is None:
        found = read_object(folder / "chat_template.json").get("chat_template")
    names = {"default": found} if isinstance(found, str) else found or {}
    text = names.get("tool_use") if with_tools and "tool_use" in names else names.get("default")
    if not isinstance(text, str) or not text:
        there = f"only templates named {', '.join(names)}" if names else "no chat template"
        raise CheckpointError(
            f"{folder} has {there} (chat_template.jinja, or chat_template in tokenizer_config.json); put the model's "
            "template there, give a file as rendering.template, or set rendering.raw for a base model."
        )
    return Template(text, str(folder), special)


def special_tokens(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """Special tokens by the names that templates have for them.

    special_tokens_map.json comes before tokenizer_config.json where that lists no added_tokens_decoder, as transformers
    has it (tokenization_utils_base.py, 5.12.1).

    Raises:
        CheckpointError: a file that cannot be read.
    """
    named = dict(config)
    if "added_tokens_decoder" not in config:
        named |= read_object(folder / "special_tokens_map.json")
    extra = named.get("extra_special_tokens")
    named |= extra if isinstance(extra, dict) else {}
    texts = {name: value.get("content") if isinstance(value, dict) else value for name, value in named.items()}
    return {name: text for name, text in texts.items() if name.endswith("_token") and isinstance(text, str)}


def read_object(path: Path) -> dict[str, Any]:
    """A file with one JSON object; empty where there is no file.

    Raises:
        CheckpointError: it holds something else.
    """
    if not path.exists():
        return {}
    try:
        found = json.loads(read_text(path, CONFIG_BYTES, CheckpointError))
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path}:{error.lineno}: not JSON: {error.msg}.") from error
    except RecursionError:
        raise CheckpointError(f"{path}: nested too deeply.") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: not a JSON object.")
    return found
