"""bench.py's small commands, as a user calls them: exit code and what they say."""

from __future__ import annotations

import subprocess
import sys

import pytest

import bench


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
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
    done = subprocess.run([sys.executable, "bench.py", "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "starts nothing" in done.stdout
