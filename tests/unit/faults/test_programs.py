"""Programs of models that attack: what they may do is nothing, whoever runs them, and a wrong one does not pass."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from draftbench.harness.errors import WorkloadError
from draftbench.harness.workloads.sandbox import check_isolation, run_isolated

TESTS = "assert f(3) == 4\nassert f([1]) == [1, 2]\n"
RIGHT = "def f(x):\n    return x + 1 if isinstance(x, int) else [*x, 2]\n"
WRONG = "def f(x):\n    return None\n"
NOBODY = 65534

ATTACKS = yaml.safe_load(Path(__file__).with_name("attacks.yaml").read_text())


@pytest.fixture(scope="module", autouse=True)
def bubblewrap() -> None:
    """Attacks need the sandbox that they attack."""
    try:
        check_isolation()
    except WorkloadError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def host_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("host") / "file"
    path.write_text("whole")
    path.chmod(0o666)
    return path


def spelled(program: str, host_file: Path) -> str:
    return f"HOST_FILE = {str(host_file)!r}\n{program}\n"


def test_what_is_right_passes_and_what_is_wrong_does_not() -> None:
    """Values, and an object of the program's own that the tests hold."""
    assert run_isolated(RIGHT, TESTS)
    assert not run_isolated(WRONG, TESTS)
    node = (
        "class Node:\n def __init__(self, x): self.x, self.next = x, None\n"
        "def total(n): return n.x + (total(n.next) if n.next else 0)"
    )
    setup = "root = Node(1)\nroot.next = Node(2)\n"
    assert run_isolated(node, setup + "assert total(root) == 3\n")
    assert not run_isolated(node, setup + "assert total(root) == 4\n")


@pytest.mark.parametrize("attack", ATTACKS["passing though wrong"])
def test_a_wrong_program_does_not_pass(attack: str, host_file: Path) -> None:
    """The tests run in a process that it cannot look into, and only values come out of its own."""
    assert run_isolated(spelled(ATTACKS["passing though wrong"][attack], host_file), TESTS) is False


@pytest.mark.parametrize("attack", ATTACKS["harming"])
def test_a_program_does_no_harm(attack: str, host_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would pass if it could do what it tries."""
    monkeypatch.setenv("DRAFTBENCH_SECRET", "x")
    assert run_isolated(spelled(ATTACKS["harming"][attack], host_file)) is False
    assert host_file.read_text() == "whole"
    assert not Path("/tmp/draftbench-harmed").exists()


@pytest.mark.parametrize("attack", ATTACKS["endless"])
def test_a_program_without_end_is_ended(attack: str, host_file: Path) -> None:
    """Within its time, and without filling this process's memory."""
    began_s, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tests = "assert list(f(3)) == [3]\n" if "yield" in ATTACKS["endless"][attack] else TESTS
    assert run_isolated(spelled(ATTACKS["endless"][attack], host_file), tests, time_s=1.5) is False
    assert time.monotonic() - began_s < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_abs_of_the_programs_own_is_not_the_tests() -> None:
    """Builtins of the tests stay; a function that is called like one is tested as it is."""
    wrong = "abs = lambda x: 0\nround = lambda *x: 4\ndef f(x): return 100.0"
    assert not run_isolated(wrong, "assert abs(f(3) - 4) < 1e-6\n")
    assert run_isolated("def sum(a, b): return a + b", "assert sum(10, 15) == 25\n")
    assert not run_isolated("def sum(a, b): return a", "assert sum(10, 15) == 25\n")


def test_arguments_that_are_changed_are_changed_for_the_tests() -> None:
    """A function may work in place."""
    tests = "x = [3, 1, 2]\nf(x)\nassert x == [1, 2, 3]\ny = {1: 2}\ng(y)\nassert y == {}\n"
    assert run_isolated("def f(x): x.sort()\ndef g(x): x.clear()", tests)


def test_the_sets_own_helpers_are_not_the_programs() -> None:
    """What the prompt defines beside the function is used by the tests as the set has it."""
    prompt = "def half(x):\n    return x / 2\n\n\ndef f(x):\n    '''Twice.'''\n"
    program = prompt + "    return 1\ndef half(x):\n    return 1\n"
    assert not run_isolated(program, "assert half(f(4)) == 4\n", prompt, "f")
    assert run_isolated(prompt + "    return 2 * x\n", "assert half(f(4)) == 4\n", prompt, "f")


def test_nothing_is_left_running() -> None:
    """Neither after an answer nor after time was up."""
    before = children()
    run_isolated(RIGHT, TESTS)
    run_isolated("while True: pass", TESTS, time_s=0.5)
    assert children() == before


def children() -> set[str]:
    listed = subprocess.run(["ps", "-o", "pid=,comm=", "--ppid", str(os.getpid())], capture_output=True, text=True)
    return {line for line in listed.stdout.splitlines() if "ps" not in line}


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_a_user_without_rights_is_as_safe(host_file: Path) -> None:
    """The same attacks, run as nobody; as root they are run above."""
    python = next(filter(None, map(of_nobody, (sys.executable, "/usr/local/bin/python3", "/usr/bin/python3"))), None)
    if python is None:
        pytest.skip("nobody may run no Python here that is new enough and find the project")
    programs = {name: spelled(program, host_file) for name, program in ATTACKS["harming"].items()}
    code = (
        "import json, sys\nright, tests, programs = json.load(sys.stdin)\nassert run_isolated(right, tests)\n"
        "print([name for name, program in programs.items() if run_isolated(program)])\n"
    )
    done = as_nobody(python, code, json.dumps([RIGHT, TESTS, programs]))
    assert done.stdout.strip() == "[]", done.stderr
    assert host_file.read_text() == "whole"


def of_nobody(python: str) -> str | None:
    """The interpreter, if nobody can run a program with it."""
    try:
        done = as_nobody(python, "print(run_isolated(''))", "")
    except OSError:
        return None
    return python if done.stdout.strip() == "True" else None


def as_nobody(python: str, code: str, given: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-c", "from draftbench.harness.workloads.sandbox import run_isolated\n" + code],
        input=given, capture_output=True, text=True, cwd="/", user=NOBODY, group=NOBODY, extra_groups=[],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path.cwd())},
    )  # fmt: skip
