"""Suites as a command line names them: a file, one that comes with the project, some of a suite's arms."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Sequence
from pathlib import Path

from draftbench.harness.errors import SuiteError
from draftbench.harness.places import IS_CHECKOUT, SUITES
from draftbench.harness.suite.schema import Suite


def find_suite(path: Path, note: Callable[[str], None]) -> Path:
    """The suite's file: the one named, or else the one of that name that comes with the project, which is then said.

    `suites/quickstart.yaml` and `quickstart.yaml` so mean the same from a checkout and where draftbench is installed.
    """
    shipped = SUITES.joinpath(*path.parts[1:]) if path.parts[:1] == ("suites",) else SUITES / path
    if path.exists() or path.is_absolute() or not shipped.with_name(shipped.name.partition("#")[0]).is_file():
        return path
    note(f"{path} is not here; taken is the suite that comes with draftbench: {shipped}")
    return shipped


def allow_argument(parser: argparse.ArgumentParser) -> None:
    """How a command's user permits what suites may not do by themselves."""
    parser.add_argument(
        "--allow", action="append", default=[], metavar="NAME",
        help="permit an engine argument that may run code, open ports or read elsewhere; may be repeated",
    )  # fmt: skip


def is_shipped(path: Path) -> bool:
    """Whether a suite is one of an installed draftbench's, whose folder is not the user's to write to."""
    return not IS_CHECKOUT and path.resolve().is_relative_to(SUITES)


def suite_text(path: Path) -> str:
    """A suite's file as its user wrote it, whichever of its matrix's points is meant."""
    return (path if path.exists() else path.with_name(path.name.partition("#")[0])).read_text()


def shipped_names() -> tuple[str, ...]:
    """Names of the suites that come with the project, as `find_suite` takes them."""
    return tuple(sorted(f"suites/{path.name}" for path in SUITES.glob("*.yaml")))


def check_looks_like_suite(word: str, commands: Sequence[str]) -> None:
    """A first word that is neither a command nor a YAML file may be a command misspelt.

    Raises:
        SuiteError: it names no file and does not look like one.
    """
    path = Path(word)
    suffix = Path(path.name.partition("#")[0]).suffix
    if suffix not in (".yaml", ".yml") and not path.exists():
        close = difflib.get_close_matches(word, commands, n=1)
        hint = f"did you mean {close[0]}?" if close else "--help lists the commands, a suite's name ends in .yaml."
        raise SuiteError(f"there is no command {word}, nor a suite of that name; {hint}")


def with_only(suite: Suite, names: str | None) -> Suite:
    """The suite with the named arms and the baseline.

    Args:
        names: separated by commas; None for all.

    Raises:
        SuiteError: a name is no arm's.
    """
    if names is None:
        return suite
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    known = [arm.name for arm in suite.arms]
    for name in wanted:
        if name not in known:
            raise SuiteError(f"--only names {name}, which is no arm of {suite.name}; its arms are {', '.join(known)}.")
    kept = tuple(arm for arm in suite.arms if arm.name in wanted or arm.architecture == "vanilla")
    return suite.model_copy(update={"arms": kept})
