"""Let the target alone answer every turn of a suite's workloads, and write token ids as JSONL: a corpus for drafts.

Each line is {"prompt_ids": [...], "output_ids": [...]}, as `train` reads it under `tokens`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from draftbench.harness.corpora.answers import write_outputs
from draftbench.harness.errors import SuiteError
from draftbench.harness.suite import load_suite
from draftbench.harness.suite.named import allow_argument, find_suite


def arguments(parser: argparse.ArgumentParser) -> None:
    """A suite, and the file to write."""
    parser.add_argument("suite", type=Path, metavar="SUITE.yaml", help="whose target, workloads and sampling are used")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the JSONL to write; what it holds is replaced"
    )
    allow_argument(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    """Let the target alone answer every turn of a suite's workloads and write token ids, one object a line."""
    path = find_suite(args.suite, console.print)
    suite = load_suite(path, args.allow)
    suite = suite.model_copy(update={"arms": tuple(arm for arm in suite.arms if not arm.is_endpoint)})
    try:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.open("a").close()
    except OSError as error:
        raise SuiteError(f"--out is {args.out}, which cannot be written ({error.strerror}); give a file.") from error
    with args.out.open("w") as file:
        write_outputs(suite, path.parent, file, console.print)
    console.print(f"outputs: {args.out}", highlight=False, markup=False)
    return 0
