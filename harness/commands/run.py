"""Run a suite: find its models, measure every cell, write the report.

What is measured is kept whatever happens: Ctrl-C, a dead engine or a full disk leaves a run that --resume goes on with.
Exit code 0 if some row is valid, 1 if none is, 2 for a mistake that is told before anything starts, 130 for Ctrl-C.

  bench.py suites/quickstart.yaml --only hass,prism
  bench.py my.yaml --out runs/mine --resume
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from draftbench.harness.run import apart, measure_suite
from draftbench.harness.run.folder import run_folder
from draftbench.harness.suite import load_suite
from draftbench.harness.suite.named import allow_argument, find_suite, with_only


def arguments(parser: argparse.ArgumentParser) -> None:
    """A suite, and how it is run."""
    parser.add_argument("suite", type=Path, metavar="SUITE.yaml", help="the suite (docs/suites.md)")
    options(parser)


def options(parser: argparse.ArgumentParser) -> None:
    """How a suite is run, whichever."""
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="the run's folder; default runs/NAME-TIME, with --resume the newest one"
    )
    parser.add_argument(
        "--only", metavar="ARM,…", help="names of arms, separated by commas; the baseline is always kept"
    )
    allow_argument(parser)
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run: sealed cells stay")
    parser.add_argument(
        "--cold-start",
        action="store_true",
        help="start every engine as a shell would, each with imports of its own; else engines are forked from a "
        "process that has imported SGLang once",
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """Load a suite, run it, write the report."""
    path = find_suite(args.suite, console.print)
    suite = with_only(load_suite(path, args.allow), args.only)
    folder = run_folder(args.out, args.resume, suite.name)
    command = "python bench.py " + path.name + (f" --only {args.only}" if args.only else "")
    measure_suite(
        suite, folder, path.parent, path.read_text(), command, console, resume=args.resume, cold_start=args.cold_start
    )
    return apart.report(folder)
