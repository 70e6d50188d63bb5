"""Say how much of a suite's prompts stands in a training corpus: whole prompts, and 13-grams.

Exit code 1 if a whole prompt does.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from draftbench.harness.corpora.contamination import file_contamination
from draftbench.harness.models.find import model_folder
from draftbench.harness.models.required import ledgers_here
from draftbench.harness.suite import load_suite
from draftbench.harness.suite.named import allow_argument, find_suite
from draftbench.reports.sections import contamination_section
from draftbench.reports.terminal_tables import print_table


def arguments(parser: argparse.ArgumentParser) -> None:
    """A corpus and a suite."""
    parser.add_argument("corpus", type=Path, metavar="CORPUS.jsonl", help="what drafts were trained on")
    parser.add_argument("suite", type=Path, metavar="SUITE.yaml", help="whose prompts are looked for")
    allow_argument(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    """Print how much of a suite's prompts stands in a corpus; exit code 1 if a whole prompt does."""
    path = find_suite(args.suite, console.print)
    suite = load_suite(path, args.allow)
    target = model_folder(suite.target.model, path.parent, suite.target.revision)
    found = file_contamination(suite, target, args.corpus, console)
    section = contamination_section(found, ledgers_here(suite, path.parent)[0])
    print_table(section.title, section.headers, section.lines, console)
    console.print(section.meaning, highlight=False, markup=False)
    exact = [f"{overlap.workload}: {prompt}" for overlap in found.overlaps for prompt in overlap.exact]
    for prompt in exact:
        console.print(f"in the corpus: {prompt}", highlight=False, markup=False, soft_wrap=True)
    return 1 if exact else 0
