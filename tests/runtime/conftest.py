"""What tests on the real engine have in common: the environment of engines, and the command line in this process."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from draftbench.bench import main
from draftbench.harness.runtime import fleet, launch

HERE = Path(__file__).parent
PLUGINS = (HERE / "probe", HERE / "naughty")


@pytest.fixture(scope="module", autouse=True)
def equal_environments() -> Iterator[None]:
    """Engines of equal environments are forked from one preloaded process, whose imports take eight seconds. So all of
    them see the tests' plugins, which do nothing unasked, and none the name of the test, which pytest writes there."""

    def environment(has_gpu: bool, exact: bool) -> dict[str, str]:
        found = launch.engine_environment(has_gpu, exact)
        found.pop("PYTEST_CURRENT_TEST", None)
        path = os.pathsep.join(filter(None, (found.get("PYTHONPATH"), *map(str, PLUGINS))))
        return {**found, "PYTHONPATH": path}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fleet, "engine_environment", environment)
        yield


@contextmanager
def descriptors_to(file: int) -> Iterator[None]:
    """What child processes print goes to this file."""
    kept = {number: os.dup(number) for number in (1, 2)}
    try:
        for number in kept:
            os.dup2(file, number)
        yield
    finally:
        for number, own in kept.items():
            os.dup2(own, number)
            os.close(own)


@pytest.fixture(scope="session")
def command() -> Callable[..., tuple[int, str]]:
    """Calls bench.py in this process, so that SGLang is not imported anew; gives the exit code and what was printed."""

    def call(*words: str) -> tuple[int, str]:
        with tempfile.TemporaryFile("w+") as printed, redirect_stdout(printed), redirect_stderr(printed):
            with descriptors_to(printed.fileno()):  # a run's report is written by a process of its own
                code = main(list(words))
            printed.flush()
            printed.seek(0)
            return code, printed.read()

    return call
