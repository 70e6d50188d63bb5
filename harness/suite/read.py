"""Suites read from files, and made to fit another place."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import yaml

from draftbench.harness.errors import SuiteError
from draftbench.harness.suite.arms import NOT_TAKEN
from draftbench.harness.suite.matrix import MATRIX, Point, points_of
from draftbench.harness.suite.problems import suite_problems
from draftbench.harness.suite.profiles import curves_for
from draftbench.harness.suite.schema import Suite
from draftbench.harness.suite.strict_yaml import Section, checked, line_of, refuse, spelled
from draftbench.harness.suite.workload import Workload
from draftbench.harness.suite.yaml_lines import Path_, load_yaml
from draftbench.harness.workloads.sources import COUNTED

AnySection = TypeVar("AnySection", bound=Section)


def load_suite(path: Path, allowed: Collection[str] = ()) -> Suite:
    """Read and check a suite.

    Args:
        path: the file; of one with a matrix `FILE#POINT`.
        allowed: engine arguments that its user permits though they may run code, open ports or load from elsewhere.

    Raises:
        SuiteError: anything wrong with it, with file, line, what was found and what is allowed; a file with a matrix
            of which no point is named.
    """
    points = load_points(path, allowed)
    if len(points) == 1 and not points[0][0]:
        return points[0][1]
    names = ", ".join(name for name, _ in points)
    raise SuiteError(
        f"{path}: it has a matrix of {len(points)} suites; name one of them, as {path}#{points[0][0]}: {names}."
    )


def load_points(path: Path, allowed: Collection[str] = ()) -> list[tuple[str, Suite]]:
    """Every suite of a file by its point in the file's matrix; one alone, without a name, where it has none or one is
    named.

    Raises:
        SuiteError: as `load_suite`, with the name of the point that is wrong; `FILE#POINT` names none.
    """
    wanted = None
    if "#" in path.name and not path.exists():
        name, _, wanted = path.name.partition("#")
        path = path.with_name(name)
    points = points_of(*load_yaml(path), path)
    if wanted is not None:
        names = [point.name for point in points]
        if not wanted or wanted not in names:
            there = f"allowed: {', '.join(names)}" if names != [""] else "it has no matrix, leave # and the name out"
            raise SuiteError(f"{path}: there is no point {wanted} in its matrix; {there}.")
        point = points[names.index(wanted)]
        return [("", _told(point, path, allowed))]
    return [(point.name, _told(point, path, allowed)) for point in points]


def point_text(path: Path) -> str:
    """A suite's file as text; of `FILE#POINT` the suite that the point is.

    Raises:
        SuiteError: as `load_suite`.
    """
    if path.exists() or "#" not in path.name:
        return path.read_text()
    name, _, wanted = path.name.partition("#")
    path = path.with_name(name)
    values = next(point.values for point in points_of(*load_yaml(path), path) if point.name == wanted)
    text: str = yaml.safe_dump(values, sort_keys=False)
    return text


def _told(point: Point, path: Path, allowed: Collection[str]) -> Suite:
    """A point's suite, checked; errors name the point."""
    try:
        return _loaded(point, path, allowed)
    except SuiteError as error:
        raise SuiteError(f"{error}\n(at the matrix's point {point.name})" if point.name else str(error)) from None


def _loaded(point: Point, path: Path, allowed: Collection[str]) -> Suite:
    lines = point.lines
    suite = checked(point.values, lines, path, Suite, "suite")
    suite = _with_curves(suite, path, lines)
    refuse(path, lines, suite_problems(suite, path.parent, allowed))
    suite._allowed = frozenset(allowed)
    if suite.fairness.require:
        suite.fairness._place = f"{path}:{line_of(('fairness', 'require'), lines)}"
    if suite.target.tensor_parallel > 1:
        suite.target._place = f"{path}:{line_of(('target', 'tensor_parallel'), lines)}"
    return _resolved(suite, path.parent)


def _with_curves(suite: Suite, path: Path, lines: dict[Path_, int]) -> Suite:
    """The suite with the curves of the files that arms name for their acceptance.

    Raises:
        SuiteError: a file is no profile, or lacks what an arm needs.
    """
    names, arms, problems = [workload.name for workload in suite.workloads], [], []
    for index, arm in enumerate(suite.arms):
        given, at = arm.simulated_acceptance, ("arms", index, "simulated_acceptance")
        if not isinstance(given, str):
            arms.append(arm)
            continue
        try:
            curves, source = curves_for(given, path.parent, arm.name, names, arm.num_steps)
        except (KeyError, SuiteError) as error:
            problems.append((at, f"{spelled(at)} is {given}: {error.args[0]}"))
            continue
        said = {"simulated_acceptance": curves, "simulated_from": f"{Path(given).name}: {source}"}
        arms.append(arm.model_copy(update=said))
    refuse(path, lines, problems)
    return suite.model_copy(update={"arms": tuple(arms)})


def check_recorded(suite: Suite) -> None:
    """Find out whether a manifest's suite would send anything to another host, or a key of the environment anywhere.

    Raises:
        SuiteError: it would.
    """
    for arm in suite.arms:
        if arm.api_key_env is not None:
            raise SuiteError(f"arm {arm.name}: {arm.api_key_env} would be sent to {arm.endpoint}, and {NOT_TAKEN}.")
        if arm.endpoint is not None and not is_loopback(arm.endpoint):
            raise SuiteError(f"arm {arm.name}: prompts would be sent to {arm.endpoint}, and {NOT_TAKEN}.")


def is_loopback(endpoint: str) -> bool:
    """Whether an address is this host's own."""
    host = urlsplit(endpoint).hostname or ""
    return host == "localhost" or host == "::1" or re.fullmatch(r"127\.\d+\.\d+\.\d+", host) is not None


def suite_schema() -> dict[str, Any]:
    """JSON Schema of suites, for editors; a matrix is of files alone, and of no suite."""
    schema = Suite.model_json_schema()
    schema["properties"][MATRIX] = {
        "type": "array",
        "minItems": 1,
        "items": {"type": "object", "minProperties": 1, "additionalProperties": {"type": "object"}},
        "description": "Axes, each with points by name; a point lays its fields over the suite (arms and workloads by "
        "name, tree over every arm's). Every combination is a suite of its own.",
    }
    return schema


def relocated(suite: Suite, folder: Path) -> Suite:
    """A recorded suite on another machine: files that are not at their recorded paths are taken from a folder.

    They are found there by their names; what is not there either keeps its path, so that its absence is told.
    """

    def here(path: str) -> str:
        found = folder / Path(path).name
        return str(found) if not Path(path).exists() and found.exists() else path

    return _with_files(suite, here)


def anchored(suite: Suite) -> Suite:
    """The suite with absolute paths, for a process in another folder."""
    return _with_files(suite, lambda path: str(Path(path).absolute()))


def _resolved(suite: Suite, folder: Path) -> Suite:
    """The suite with paths that do not depend on where it lies, and without instructions where raw text is sent."""
    suite = _with_files(suite, lambda path: str(folder / path))
    if not suite.rendering.raw:
        return suite
    bare = tuple(
        workload if workload.instruction is not None else workload.model_copy(update={"instruction": ""})
        for workload in suite.workloads
    )
    return suite.model_copy(update={"workloads": bare})


def _with_files(suite: Suite, place: Callable[[str], str]) -> Suite:
    return suite.model_copy(
        update={
            "workloads": tuple(_placed(workload, ("path", "tokenizer"), place) for workload in suite.workloads),
            "rendering": _placed(suite.rendering, ("template",), place),
            "load": tuple(_placed(point, ("trace",), place) for point in suite.load),
            "fairness": _placed(suite.fairness, ("corpus",), place),
        }
    )


def _placed(section: AnySection, fields: Sequence[str], place: Callable[[str], str]) -> AnySection:
    given = {field: getattr(section, field) for field in fields}
    return section.model_copy(update={field: place(path) for field, path in given.items() if path is not None})


def resolved_workloads(workloads: Sequence[Workload], folder: Path) -> tuple[Workload, ...]:
    """Workloads whose paths do not depend on where their file lies."""
    return tuple(_placed(workload, ("path", "tokenizer"), lambda path: str(folder / path)) for workload in workloads)


def with_tokenizer(suite: Suite, folder: Path) -> Suite:
    """The suite whose prompts are counted by a model's tokenizer where they are counted and name none."""
    workloads = tuple(
        workload.model_copy(update={"tokenizer": str(folder)})
        if workload.source in COUNTED and workload.tokenizer is None
        else workload
        for workload in suite.workloads
    )
    return suite.model_copy(update={"workloads": workloads})
