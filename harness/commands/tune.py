"""Try trees for every draft, as many for each, on prompts that are not the suite's, and write a suite with the best.

In the first run every tree has one block; the last takes each draft's own tree and its best others, and its speedups
decide. How much is spent is said by `tune` in the suite (docs/fairness.md).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from draftbench.harness.errors import RecordError
from draftbench.harness.manifest import MANIFEST
from draftbench.harness.metrics.row import Row
from draftbench.harness.run import run_suite
from draftbench.harness.run.folder import run_folder
from draftbench.harness.suite import Suite, load_suite
from draftbench.harness.suite.named import allow_argument, find_suite, is_shipped, with_only
from draftbench.harness.tune.search import tune_suite
from draftbench.reports.terminal_tables import print_table, show


def arguments(parser: argparse.ArgumentParser) -> None:
    """A suite, and where results go."""
    parser.add_argument("suite", type=Path, metavar="SUITE.yaml", help="whose drafts are tuned")
    parser.add_argument(
        "--out", type=Path, metavar="TUNED.yaml", help="the tuned suite; default SUITE-tuned.yaml beside the suite"
    )
    parser.add_argument(
        "--only", metavar="ARM,…", help="names of arms, separated by commas; the baseline is always kept"
    )
    parser.add_argument("--runs", type=Path, metavar="DIR", help="the folder of its runs; default runs/tune-NAME-TIME")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted one")
    allow_argument(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    """Try trees for every draft on prompts that are not the suite's, and write a suite with the best of them."""
    path = find_suite(args.suite, console.print)
    suite = with_only(load_suite(path, args.allow), args.only)
    beside = Path() if is_shipped(path) else path.parent
    stem, _, point = path.name.partition("#")
    out = args.out or beside / f"{'-'.join(filter(None, (Path(stem).stem, point)))}-tuned.yaml"
    folder = run_folder(args.runs, args.resume, f"tune-{suite.name}")
    if not args.resume and any(folder.rglob(MANIFEST)):
        raise RecordError(f"{folder} already holds runs; give another --runs, or --resume to go on with them.")

    def measure(stage: Suite, name: str) -> Sequence[Row]:
        found = run_suite(
            stage,
            folder / name,
            suite_folder=path.parent,
            suite_text=stage.model_dump_json(indent=1, exclude_unset=True),
            command=f"python bench.py tune {path.name}",
            resume=(folder / name / MANIFEST).exists(),
            console=console,
        )
        show(found, console)
        return found.rows

    headers, lines = tune_suite(suite, path, out, folder.name, measure, console.print)
    print_table("tuned", headers, lines, console)
    console.print(f"tuned suite: {out}; its runs: {folder}", highlight=False, markup=False, soft_wrap=True)
    return 0
