"""Train the drafts of a recipe on one corpus and one budget (docs/training.md). Exit code 1 if one of them failed.

bench.py train drafts/training/tiny_zoo.yaml --out runs/zoo
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from draftbench.harness.train import train


def arguments(parser: argparse.ArgumentParser) -> None:
    """A recipe, and where drafts go."""
    parser.add_argument("recipe", type=Path, metavar="RECIPE.yaml", help="target, corpus, budget and drafts")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="the folder of the drafts; default the recipe's, or runs/train-NAME"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with an interrupted training, or with more drafts in the recipe"
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """Train the drafts of a recipe; exit code 1 if one of them failed."""
    return train(args.recipe, args.out, args.resume, console)
