"""Scores: what counts as right for each kind of answer, and which programs pass. Attacks: tests/unit/faults."""

from __future__ import annotations

import os
import resource
import shutil
from pathlib import Path

import pytest

from draftbench.harness.errors import WorkloadError
from draftbench.harness.suite import Workload
from draftbench.harness.workloads.conversations import load_workload
from draftbench.harness.workloads.prompts import Exact, Formula, Number, Program
from draftbench.harness.workloads.sandbox import check_isolation, run_isolated
from draftbench.harness.workloads.score import program, score

DATA = next(
    (p / "shared" / "data" for p in Path(__file__).parents[4:] if (p / "shared" / "data").exists()), Path("absent")
)


@pytest.fixture(scope="module")
def sandbox():
    """Tests of running programs need bubblewrap, and a kernel that lets it work."""
    try:
        check_isolation()
    except WorkloadError as error:
        pytest.skip(str(error))
    return run_isolated


@pytest.mark.parametrize(
    ("text", "value", "right"),
    [
        ("The answer is 18.", "18", True),
        ("He has $1,234.50 left.", "1234.5", True),
        ("First 3, then 4.", "3", False),
        ("#### -5\n", "-5", True),
        ("Half is .5", "0.5", True),
        ("none", "3", False),
        ("", "3", False),
    ],
)
def test_the_last_number_counts(text, value, right):
    """Commas and trailing dots are writing; an answer without a number is wrong, not missing."""
    assert score(text, Number(value)) is right


@pytest.mark.parametrize(
    ("text", "latex", "right"),
    [
        (r"so \boxed{\frac{1}{2}}", "0.5", True),
        (r"$$x^2+2x+1$$", "(x+1)^2", True),
        (r"\boxed{3}", "4", False),
        ("I do not know.", "4", False),
        ("", r"\frac{1}{2}", False),
    ],
)
def test_formulas_are_compared_as_mathematics(text, latex, right):
    """Equal values in other writing are right."""
    assert score(text, Formula(latex)) is right


def test_exact_answers_and_missing_ones():
    """White space around is ignored; without a reference or leave to run there is no score."""
    assert score(" yes\n", Exact("yes")) is True
    assert score("yes", None) is None
    assert score("x = 1", Program("", None, "assert x == 1")) is None


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("    return 2 * x\n", True),
        ("```python\ndef f(x):\n    return math.floor(2 * x)\n```", True),
        ("Call it so:\n```\nf(1)\n```\n```python\ndef f(x):\n    return 2 * x\n```\nas\n```\nf(3)\n```", True),
        ("```python\ndef f(x):\n    return x\n```", False),
        ("```python\ndef f(x):\n    return 2 * x", True),
        ("I cannot do that.", False),
    ],
)
def test_code_is_found_in_a_continuation_and_in_a_chat_answer(sandbox, text, right):
    """A body that goes on with the prompt, or the fenced block with the function, with the prompt's imports."""
    answer = Program('import math\n\n\ndef f(x):\n    """Twice."""\n', "f", "assert f(2) == 4\n")
    assert sandbox(program(text, answer), answer.tests, answer.prompt, answer.entry_point) is right


def test_what_a_program_prints_is_not_kept(sandbox):
    """Hundreds of megabytes on both streams go nowhere, and the program passes."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    text = "import sys\nfor _ in range(300):\n    for file in (sys.stdout, sys.stderr): file.write('x' * 1_000_000)"
    assert sandbox(text)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_the_authors_solutions_pass(sandbox):
    """HumanEval's and MBPP's own solutions, a few of them; and none passes another's tests."""
    import json

    for source, name, field in (("humaneval", "humaneval.jsonl", "canonical_solution"), ("mbpp", "mbpp.jsonl", "code")):
        path = DATA / name
        if not path.exists():
            pytest.skip(f"needs {name} in ../shared/data")
        records = [json.loads(line) for line in path.read_text().splitlines()]
        solutions = [r[field] for r in records if source == "humaneval" or 11 <= r["task_id"] <= 510]
        answers = [c.answer for c in load_workload(Workload(name="w", source=source, path=str(path)), 0)]
        for index in range(0, len(answers), len(answers) // 6):
            assert score(solutions[index], answers[index], run_programs=True)
            assert score(f"Here:\n```python\n{solutions[index - 1]}\n```", answers[index], run_programs=True) is False


def test_without_bubblewrap_no_program_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that installs it is told."""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(WorkloadError, match=r"not installed, so none was run: apt-get install bubblewrap"):
        run_isolated("")


def test_where_namespaces_are_forbidden_no_program_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As containers forbid them; bubblewrap's own words are told, and what to allow."""
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(WorkloadError, match=r"\(bwrap: No permissions to create new namespace\), so none was run"):
        run_isolated("")
