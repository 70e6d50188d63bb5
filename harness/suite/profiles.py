"""Acceptance profiles: what drafts accepted at every step, by set, in a file that suites draw from.

    {"version": 1, "source": "…", "what": "…", "curves": {"prism": {"gsm8k": [0.9, 0.85, …], "mt_bench": […]}}}

`simulated_acceptance: FILE#prism` takes one draft's curves; without `#` those of the arm's own name, or the only ones.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from draftbench.harness.errors import SuiteError
from draftbench.harness.suite.strict_yaml import nearest

Share = Annotated[float, Field(ge=0, le=1)]
Curves = dict[str, Annotated[tuple[Share, ...], Field(min_length=1)]]


class Profile(BaseModel):
    """A file of curves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1]
    source: str = Field(min_length=1, description="Where the curves come from: a paper, or a run with its hash.")
    what: str = Field(description="On which target and tree, at which temperature.")
    curves: Annotated[dict[str, Curves], Field(min_length=1)]
    """α_k for k from 1, by draft and set."""

    def of(self, draft: str | None, arm: str) -> Curves:
        """The curves that an arm is given.

        Args:
            draft: behind the `#`; None takes the arm's own, or the only ones.

        Raises:
            KeyError: with a sentence that says what there is.
        """
        wanted = draft or (arm if arm in self.curves or len(self.curves) > 1 else next(iter(self.curves)))
        if wanted not in self.curves:
            raise KeyError(f"has no curves of {wanted}; {nearest(wanted, list(self.curves))}")
        return self.curves[wanted]


def read_profile(path: Path) -> Profile:
    """Read a file of curves.

    Raises:
        SuiteError: it is missing or no profile; with the file, the place in it, and what is wrong.
    """
    try:
        return Profile.model_validate(json.loads(path.read_text()))
    except OSError as error:
        raise SuiteError(f"{path}: cannot be read: {error.strerror}.") from None
    except ValueError as error:
        if isinstance(error, ValidationError):
            found = error.errors()[0]
            place = ".".join(map(str, found["loc"])) or "the file"
            raise SuiteError(f"{path}: {place}: {found['msg']}; no acceptance profile.") from None
        raise SuiteError(f"{path}: no JSON ({error}); an acceptance profile has to be.") from None


def curves_for(
    given: str, folder: Path, arm: str, workloads: Sequence[str], num_steps: int | None
) -> tuple[dict[str, tuple[float, ...]], str]:
    """What a suite's `FILE#DRAFT` gives each of its workloads, no longer than the arm drafts, and the file's source.

    Args:
        folder: where the suite lies.

    Raises:
        SuiteError: the file is no profile.
        KeyError: it lacks the draft, or a workload; with a sentence.
    """
    name, _, draft = given.partition("#")
    profile = read_profile(folder / name)
    try:
        curves = profile.of(draft or None, arm)
    except KeyError as error:
        raise KeyError(f"{folder / name} {error.args[0]}") from None
    missing = [workload for workload in workloads if workload not in curves]
    if missing:
        raise KeyError(f"{folder / name} has no curve for {', '.join(missing)}; {nearest(missing[0], list(curves))}")
    return {workload: curves[workload][:num_steps] for workload in workloads}, profile.source


def profile_text(source: str, what: str, curves: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """A file of curves; a line for each."""
    lines = []
    for draft, sets in curves.items():
        inner = ",\n".join(
            f"   {_text(name)}: {json.dumps([round(share, 5) for share in shares])}" for name, shares in sets.items()
        )
        lines.append(f"  {_text(draft)}: {{\n{inner}\n  }}")
    head = f' "version": 1,\n "source": {_text(source)},\n "what": {_text(what)},\n'
    return "{\n" + head + ' "curves": {\n' + ",\n".join(lines) + "\n }\n}\n"


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
