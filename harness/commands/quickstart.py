"""Run the quickstart: the drafts that come with the project against its tiny target, on this machine.

It needs no download and no GPU and takes a few minutes on two cores. Its figures say how the harness works, not which
architecture is better: the models are tiny.
"""

from __future__ import annotations

import argparse

from rich.console import Console

from draftbench.harness.commands import run as run_command
from draftbench.harness.places import SUITES


def arguments(parser: argparse.ArgumentParser) -> None:
    """As a suite's run has them."""
    run_command.options(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    """Run the suite that comes with the project."""
    path = SUITES / "quickstart.yaml"
    console.print(f"suite: {path}", highlight=False, markup=False, soft_wrap=True)
    return run_command.run(argparse.Namespace(**{**vars(args), "suite": path}), console)
