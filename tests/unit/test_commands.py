"""bench.py's small commands, as a user calls them: exit code and what they say."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from draftbench import bench

COMMANDS = sorted(path.stem for path in Path("harness/commands").glob("[!_]*.py"))


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["pla", "suites/quickstart.yaml"], 2, "there is no command pla, nor a suite of that name; did you mean plan?"),
        (["measure"], 2, "--help lists the commands"),
        (["suites/quickstrat.yaml"], 2, "there is no such file"),
        (["plan", "quickstart.yaml"], 0, "taken is the suite that comes with draftbench"),
        (["list"], 0, "suites/quickstart.yaml"),
        (["--version"], 0, "draftbench 0."),
        (["--help"], 0, "run a suite (the word can be left out)"),
        ([], 2, "usage:"),
        (["none.yaml"], 2, "there is no such file"),
        (["suites/quickstart.yaml", "--only", "hasss"], 2, "hasss, which is no arm"),
        (["report", "suites"], 2, "holds no run"),
        (["plan", "suites/quickstart.yaml"], 0, "72 cells"),
        (["list"], 0, "EAGLE-2"),
        (["schema"], 0, "launches"),
        (["doctor"], 0, "sglang 0.5.17"),
    ],
)
def test_commands_answer(words, code, said, capsys):
    """Each command's exit code and what it says."""
    assert bench.main(words) == code
    printed = capsys.readouterr()
    assert said in printed.out + printed.err


def test_it_is_a_program():
    """Started by its file, it says how it is called."""
    done = subprocess.run([sys.executable, "bench.py", "--help"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "starts nothing" in done.stdout


def test_the_table_of_contents_is_complete():
    """Every module of harness/commands stands in it, and nothing else."""
    assert sorted(bench.COMMANDS) == COMMANDS
    assert len(Path("bench.py").read_text().splitlines()) <= 150


@pytest.mark.parametrize("words", ["--help", "run --help", "explain", "list"])
def test_who_has_read_enough_may_hang_up(words):
    """As `head` does: no traceback, and the exit code of a program that was told so."""
    command = f"(sleep 0.2; {sys.executable} bench.py {words}; echo $? >&2) | true"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=300, env=environment)
    assert done.stderr.split() == ["141"]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_commands_help_is_its_own(name, capsys):
    """It says what the command does and explains every argument, and names no other command's."""
    with pytest.raises(SystemExit) as done:
        bench.main([name, "--help"])
    assert done.value.code == 0
    told = capsys.readouterr().out
    assert f"{name} [-h]" in told
    assert bench.CONTENTS["Measure"]["plan"] not in told
    parser = argparse.ArgumentParser()
    command = import_module(f"draftbench.harness.commands.{name}")
    command.arguments(parser)
    assert all(action.help for action in parser._actions)
    assert str(command.__doc__).splitlines()[0] in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compare", "one"], "the following arguments are required: RUN_B"),
        (["compare", "one", "two", "--fail-on-regression", "5"], "allowed: a percentage"),
        (["suites/quickstart.yaml", "--resumee"], "unrecognized arguments: --resumee"),
        (["--only", "hass"], "the following arguments are required: SUITE.yaml"),
    ],
)
def test_a_wrong_call_is_told_with_the_commands_own_usage(words, said, capsys):
    """Exit code 2, a few lines, no list of all commands."""
    with pytest.raises(SystemExit) as done:
        bench.main(words)
    assert done.value.code == 2
    told = capsys.readouterr().err
    assert said in told
    assert len(told.splitlines()) < 8
