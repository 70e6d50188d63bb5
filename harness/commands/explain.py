"""Say what a check of the report looks at, why it does, and what to do where it fires; without a name, list all."""

from __future__ import annotations

import argparse

from rich.console import Console

from draftbench.harness.errors import HarnessError
from draftbench.harness.metrics.gates import GATES
from draftbench.harness.suite.strict_yaml import nearest


def arguments(parser: argparse.ArgumentParser) -> None:
    """Perhaps a gate."""
    parser.add_argument(
        "gate", nargs="*", metavar="GATE", help="a check's name, as the report has it; all of them if left out"
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """Say what a gate looks at, why, and what to do; or list them."""
    name = " ".join(args.gate)
    if name and name not in GATES:
        raise HarnessError(f"there is no gate {name}; {nearest(name, sorted(GATES))}")
    for gate, about in GATES.items():
        if gate == name or not name:
            console.print(f"{gate} ({about.severity}, {about.scope})", style="bold", highlight=False, markup=False)
            for text in (about.looks_at, about.why, about.remedy) if name else (about.looks_at,):
                console.print(f"  {text}", highlight=False, markup=False)
    return 0
