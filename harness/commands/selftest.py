"""Measure the harness itself: what the client costs at several concurrencies, against a server that only answers, and
whether two equal engines come out equal.

Exit code 1 if equal engines differ, or a check fires on one of them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from draftbench.harness.load.null_server import client_cost
from draftbench.harness.places import SUITES
from draftbench.harness.run import run_suite
from draftbench.harness.run.folder import new_folder
from draftbench.reports.sections import verdict_table
from draftbench.reports.terminal_tables import print_table, show


def arguments(parser: argparse.ArgumentParser) -> None:
    """Where to, and how engines start."""
    parser.add_argument("--out", type=Path, metavar="DIR", help="the run's folder; default runs/selftest-TIME")
    parser.add_argument(
        "--cold-start", action="store_true", help="start every engine as a shell would, each with imports of its own"
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """Measure the client against a null server and two equal engines against each other; exit code 1 if they differ."""
    for concurrency in (1, 8, 64):
        cost = client_cost(concurrency)
        console.print(
            f"client at concurrency {concurrency}: {1e6 * cost.per_chunk_s:.0f} µs of processor time a chunk, "
            f"{1e3 * cost.per_request_s:.2f} ms a request",
            highlight=False,
        )
    found = run_suite(
        SUITES / "selftest.yaml",
        args.out or new_folder("selftest"),
        command="python bench.py selftest",
        cold_start=args.cold_start,
        console=console,
    )
    show(found, console)
    rows = found.rows
    print_table("verdicts", *verdict_table(rows), console)
    findings = [f"{row.arm}: {found.gate.name}: {found.evidence}" for row in rows for found in row.findings]
    for finding in findings:
        console.print(finding, highlight=False, markup=False)
    sound = bool(rows) and not findings
    differ = any(found.is_clear for row in rows for found in row.against.values())
    if differ:
        console.print("equal engines came out different: chance alone does that once in twenty; repeat the selftest")
    elif sound:
        console.print("selftest passed: equal engines, no difference")
    return 0 if sound and not differ else 1
