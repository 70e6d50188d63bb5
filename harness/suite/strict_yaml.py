"""YAML files as strict frozen models; mistakes name file, line, what was found, what is allowed, the nearest name."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from draftbench.harness.errors import SuiteError
from draftbench.harness.suite.yaml_lines import Path_, load_yaml


class Section(BaseModel):
    """A part of a file: frozen, strict about types and unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Model = TypeVar("Model", bound=Section)
SHOWN, MOST_PROBLEMS = 20, 500
"""Problems of one file that are told, and that are looked at."""
UNSPELLED = "str: "
"""Begins the tags of fields that can be of several kinds; they are no keys of the file."""


def load_strict(path: Path, model: type[Model], what: str) -> tuple[Model, dict[Path_, int]]:
    """Read a file as a model.

    Args:
        what: what such a file is called in messages.

    Returns:
        The model, and the line of each key.

    Raises:
        SuiteError: anything wrong with it.
    """
    values, lines = load_yaml(path, what)
    return checked(values, lines, path, model, what), lines


def checked(values: Any, lines: dict[Path_, int], path: Path, model: type[Model], what: str) -> Model:
    """The values of a file as a model.

    Raises:
        SuiteError: anything wrong with them.
    """
    try:
        return model.model_validate(_with_tuples(values, model))
    except ValidationError as error:
        problems = list(_first_causes(error.errors(include_url=False)[:MOST_PROBLEMS]))
        sentences = [_sentence(found, path, lines, model, what) for found in problems[:SHOWN]]
        raise SuiteError(_told(sentences, len(problems))) from None


def refuse(path: Path, lines: dict[Path_, int], problems: Sequence[tuple[Path_, str]]) -> None:
    """Raise an error that names the line of every problem, if there are any.

    Raises:
        SuiteError: there are.
    """
    if problems:
        sentences = [f"{path}:{line_of(at, lines)}: {text}" for at, text in problems[:SHOWN]]
        raise SuiteError(_told(sentences, len(problems)))


def _told(sentences: list[str], num_problems: int) -> str:
    more = num_problems - len(sentences)
    return "\n".join([*sentences, f"and {more} more." if more else ""]).rstrip()


def nearest(word: str, known: list[str]) -> str:
    """What is allowed, with the nearest name first if one is near."""
    close = difflib.get_close_matches(word, known, n=1) if len(word) < 100 else []
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"allowed: {', '.join(known)}.{hint}"


def line_of(at: Path_, lines: dict[Path_, int]) -> int:
    """The line of a key, or of the nearest one above it."""
    while at not in lines:
        at = at[:-1]
    return lines[at]


def spelled(at: Path_) -> str:
    """A place as it is written: arms[2].topk."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key:.80}" for key in at).lstrip(".")


def _first_causes(errors: Sequence[Any]) -> Iterator[Any]:
    """Without those that a mistake further in brings about: a list whose only entry is wrong is also found empty."""
    for error in errors:
        at = error["loc"]
        inside = any(other["loc"][: len(at)] == at and len(other["loc"]) > len(at) for other in errors)
        if not (inside and error["type"] == "too_short"):
            yield error


def _sentence(found: Any, path: Path, lines: dict[Path_, int], model: type[Section], what: str) -> str:
    at: Path_ = tuple(key for key in found["loc"] if isinstance(key, int) or not key.startswith(("str", "bool")))
    place = f"{path}:{line_of(at, lines)}: "
    name = spelled(at) or f"the {what}"
    kind = found["type"]
    if kind == "extra_forbidden":
        known = sorted(_section_at(model, at[:-1]).model_fields)
        return f"{place}{name} is not known here; {nearest(str(at[-1]), known)}"
    if kind == "missing":
        return f"{place}{name} is missing; it has no default, so the {what} must say it."
    if kind == "too_short":
        allowed = f"allowed: {found['ctx']['min_length']} or more"
        return f"{place}{name} has {found['ctx']['actual_length'] or 'none'}; {allowed}."
    shown = f"{name} is {found['input']!r:.80}; " if not isinstance(found["input"], dict | tuple) and at else ""
    text = found["msg"].removeprefix("Value error, ")
    hint = ""
    if isinstance(found["input"], bool):
        hint = " YAML reads yes, no, on and off as true and false: put a word in quotes."
    elif kind == "literal_error" and isinstance(found["input"], str):
        options = found["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        return f"{place}{shown}{nearest(found['input'], options)}"
    return f"{place}{shown}{text[0].lower() + text[1:]}.{hint}"


def _with_tuples(values: Any, model: type[Section]) -> Any:
    """Lists as tuples where the model's own fields want them, so that messages show values and not lists."""
    if not isinstance(values, dict):
        return values
    return {
        key: tuple(value) if _is_tuple(model, key) and isinstance(value, list) else value
        for key, value in values.items()
    }


def _is_tuple(model: type[Section], key: str) -> bool:
    return key in model.model_fields and str(model.model_fields[key].annotation).startswith("tuple")


def _section_at(model: type[Section], at: Path_) -> type[Section]:
    """The section whose fields stand at a place."""
    for key in at:
        if isinstance(key, str) and key in model.model_fields:
            model = next(_sections(model.model_fields[key].annotation), model)
    return model


def _sections(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for part in get_args(annotation):
        yield from _sections(part)
