"""Check this host: Python, packages, GPU and its libraries, sensors, memory, disk, compiler, architectures, models.

With a suite also what that needs. Each line that begins with MISSING says what mends it; exit code 1 if there is one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from draftbench.harness.host.doctor import diagnose, diagnose_suite
from draftbench.harness.suite import load_suite
from draftbench.harness.suite.named import allow_argument, find_suite


def arguments(parser: argparse.ArgumentParser) -> None:
    """Perhaps a suite."""
    parser.add_argument("suite", type=Path, nargs="?", metavar="SUITE.yaml", help="check what this suite needs too")
    allow_argument(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    """Check this host, and what a suite needs; exit code 1 if something is missing."""
    findings = diagnose()
    if args.suite is not None:
        path = find_suite(args.suite, console.print)
        findings += diagnose_suite(load_suite(path, args.allow), path.parent)
    for finding in findings:
        console.print(("ok      " if finding.ok else "MISSING ") + finding.text, highlight=False, markup=False)
    return 0 if all(finding.ok for finding in findings) else 1
