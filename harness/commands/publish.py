"""Redact a run, show what was replaced, and put it into the folder of published runs once that is agreed to.

Names of users and hosts, secrets, addresses and absolute paths are replaced; prompts are left out (ids and hashes stay)
and token ids of outputs renumbered. Arm, workload and category names stay: look at what is shown.

From a checkout the folder is its reports/published; else ./reports/published of the current folder.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from draftbench.reports.publish import prepare
from draftbench.reports.secrets_in import has_detector


def arguments(parser: argparse.ArgumentParser) -> None:
    """A run, its name, and further words to replace."""
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder that a run wrote")
    parser.add_argument("--name", help="under which it is published; default the folder's name")
    parser.add_argument(
        "--redact", action="append", default=[], metavar="WORD", help="a further word to replace; may be repeated"
    )
    parser.add_argument("--yes", action="store_true", help="publish without asking")


def run(args: argparse.Namespace, console: Console) -> int:
    """Redact a run, show what was replaced, and put it into reports/published once that is agreed to."""
    draft = prepare(args.run, args.name or args.run.resolve().name, tuple(args.redact))
    try:
        for before, after, count in draft.replaced:
            console.print(f"{count:6} × {before} → {after}", highlight=False, markup=False, soft_wrap=True)
        console.print(
            f"{draft.num_prompts} prompts are left out (ids and hashes stay); the token ids of {draft.num_outputs} "
            "outputs are renumbered, prompt by prompt. Arm, workload and category names and all numbers stay.",
            highlight=False,
        )
        if not has_detector():
            console.print("detect-secrets is not installed (make setup): keys were looked for by our own list alone.")
        for mismatch in draft.verdict.mismatches:
            console.print(mismatch, highlight=False, markup=False, soft_wrap=True)
        agreed = args.yes or (sys.stdin.isatty() and input(f"publish as {draft.target}? [y/N] ").lower() == "y")
        if not agreed or draft.verdict.mismatches:
            console.print("nothing was published; --yes publishes without asking.", highlight=False)
            return 1
        console.print(f"published: {draft.publish()}", highlight=False, markup=False)
        return 0
    finally:
        if draft.folder.exists():
            draft.drop()
