"""Renders chat templates as transformers does, in a process of its own: a template is a program of whoever made the
model, and may loop, grow or end the process. Run as a file by `templates.py`; imports nothing of this project.

Source: transformers 5.12.1, utils/chat_template_utils.py, for the environment and the names that templates are given.

Each request is one line of JSON: template, date, and arguments to render it with, or none to be told what it reads.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

import jinja2
import jinja2.meta
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MEMORY_BYTES = 1 << 30
TEXT_CHARS = 16 << 20
"""Longest rendered conversation."""


class Generation(Extension):
    """`{% generation %}` marks what the assistant said, for training; the text is what stands in it."""

    tags = {"generation"}  # noqa: RUF012  # as jinja2 declares it

    def parse(self, parser: Parser) -> nodes.Node:
        """A call whose body is rendered as it is; what it sets does not leave it."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("inside"), [], [], body).set_lineno(line)

    def inside(self, caller: Callable[[], str]) -> str:
        """The body."""
        return caller()


class NamedUndefined(jinja2.Undefined):
    """An undefined name renders as nothing, and which were asked for a text is known afterwards."""

    printed: set[str] = set()  # noqa: RUF012  # of the conversation that is being rendered

    def __str__(self) -> str:
        if self._undefined_exception is not jinja2.UndefinedError:
            self._fail_with_undefined_error()  # what the sandbox does not give
        self.printed.add(str(self._undefined_name))
        return super().__str__()


def refuse(message: str) -> NoReturn:
    """`raise_exception` of templates."""
    raise jinja2.TemplateError(message)


def to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """The filter `tojson`, without jinja2's escapes for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


@lru_cache(maxsize=16)
def compiled(text: str, date: str) -> jinja2.Template:
    """A template whose `strftime_now` tells a fixed date."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols], undefined=NamedUndefined
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = datetime.fromisoformat(date).strftime
    return environment.from_string(text)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """What the template reads, or what it makes of its arguments, or why it does not."""
    try:
        template = compiled(request["template"], request["date"])
    except jinja2.TemplateSyntaxError as error:
        return {"error": f"line {error.lineno}: {error.message}", "broken": True}
    if "arguments" not in request:
        tree = template.environment.parse(request["template"])
        reads = jinja2.meta.find_undeclared_variables(tree)  # without globals
        reads |= {name.name for name in tree.find_all(nodes.Name)} & {"strftime_now"}
        return {"reads": sorted(reads)}
    NamedUndefined.printed.clear()
    pieces, length = [], 0
    for piece in template.generate(request["arguments"]):
        length += len(piece)
        if length > TEXT_CHARS:
            return {"error": f"it makes more than {TEXT_CHARS >> 20} million characters of one conversation"}
        pieces.append(piece)
    return {"text": "".join(pieces), "undefined": sorted(NamedUndefined.printed)}


def main() -> None:
    """Answer line by line until there are no more."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    for line in sys.stdin.buffer:
        try:
            found = answer(json.loads(line))
        except MemoryError:
            found = {"error": f"it needs more than {MEMORY_BYTES >> 30} GiB of memory"}
        except jinja2.TemplateError as error:
            found = {"error": error.message or type(error).__name__}
        except Exception as error:  # a template can make any of them happen
            found = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.buffer.write(json.dumps(found).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
