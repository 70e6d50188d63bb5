"""Run a suite: find its models, measure every cell, write the report.

What is measured is kept whatever happens: Ctrl-C, a dead engine or a full disk leaves a run that --resume goes on with.
A suite with a matrix is run point by point, each in a folder of its own below the run's.
Exit code 0 if some row is valid, 1 if none is, 2 for a mistake that is told before anything starts, 130 for Ctrl-C.

  bench.py suites/quickstart.yaml --only hass,prism
  bench.py my.yaml --out runs/mine --resume
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from draftbench.harness.errors import HarnessError
from draftbench.harness.manifest import MANIFEST
from draftbench.harness.run import apart, measure_suite
from draftbench.harness.run.folder import run_folder
from draftbench.harness.suite import Suite, load_points
from draftbench.harness.suite.named import allow_argument, find_suite, suite_text, with_only


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
    parser.add_argument(
        "--on",
        metavar="WHERE",
        help="spread the launches over identical devices through Ray: `ray` for this host's own, ray://HOST:PORT or "
        "HOST:PORT for a cluster (docs/scale.md)",
    )
    parser.add_argument(
        "--cores", type=int, metavar="N", help="with --on: cores of each device; default all of a node without a GPU"
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """Load a suite, run it, write the report; of a matrix one after the other, and the table over all."""
    path = find_suite(args.suite, console.print)
    points = [(point, with_only(suite, args.only)) for point, suite in load_points(path, args.allow)]
    if len(points) == 1 and not points[0][0]:
        return _run(args, path, points[0][1], run_folder(args.out, args.resume, points[0][1].name), console)
    folder = run_folder(args.out, args.resume, points[0][1].name.removesuffix(f"-{points[0][0]}"))
    codes: list[int] = []
    for point, suite in points:
        console.print(f"\nmatrix: {point}, {len(codes) + 1} of {len(points)}", style="bold", markup=False)
        own = argparse.Namespace(**{**vars(args), "resume": args.resume and (folder / point / MANIFEST).exists()})
        try:
            codes.append(_run(own, path, suite, folder / point, console))
        except HarnessError as error:  # the others are measured all the same
            console.print(f"{point}: {error}", style="red", markup=False, highlight=False)
            codes.append(1)
    return max(*codes, apart.report(folder))


def _run(args: argparse.Namespace, path: Path, suite: Suite, folder: Path, console: Console) -> int:
    command = "python bench.py " + path.name + (f" --only {args.only}" if args.only else "")
    measure_suite(
        suite, folder, path.parent, suite_text(path), command, console,
        resume=args.resume, cold_start=args.cold_start, on=args.on, cores=args.cores,
    )  # fmt: skip
    return apart.report(folder)
