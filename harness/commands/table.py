"""Count a corpus's tri-grams into a table, for arms with architecture adaptive_trigram (`checkpoint: FOLDER`).

bench.py table corpus.jsonl --target tiny --out tables/mine
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from draftbench.harness.corpora.trigrams import SUCCESSORS, count_trigrams, read_token_lines
from draftbench.harness.errors import CheckpointError, WorkloadError
from draftbench.harness.host.provenance import file_sha256
from draftbench.harness.models.checkpoints import TOKENIZER, TOKENIZER_SHA256, vocabulary_sha256
from draftbench.harness.models.fairness import LEDGER
from draftbench.harness.models.find import model_folder, read_target


def positive(text: str) -> int:
    """A count from 1.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no whole number from 1")
    return int(text)


def arguments(parser: argparse.ArgumentParser) -> None:
    """A corpus of token ids, whose they are, and where the table goes."""
    parser.add_argument(
        "corpus", type=Path, metavar="CORPUS.jsonl", help="token ids, as `outputs` and `train` write them"
    )
    parser.add_argument(
        "--target", required=True, metavar="MODEL", help="whose token ids: embedded name, hub id or folder"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="the table; a new or empty folder")
    parser.add_argument(
        "--successors",
        type=positive,
        default=SUCCESSORS,
        metavar="N",
        help=f"kept of each pair of tokens, the most frequent; default {SUCCESSORS}",
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """Count a corpus's tri-grams and write the table."""
    folder: Path = args.out
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckpointError(f"--out is {folder}, which is there already; give a new or an empty folder.")
    target = model_folder(args.target, Path.cwd(), needs_weights=False)
    vocab_size = read_target(target, needs_weights=False)["vocab_size"]
    tokenizer = vocabulary_sha256(target)
    if tokenizer is None:
        raise CheckpointError(f"{target} has no {TOKENIZER}, so that nobody could tell whose token ids these are.")
    counts = {"num_samples": 0, "num_tokens": 0}

    def counted() -> Iterator[list[int]]:
        for ids in read_token_lines(args.corpus, vocab_size):
            counts["num_samples"] += 1
            counts["num_tokens"] += len(ids)
            yield ids

    table = count_trigrams(counted(), vocab_size, args.successors)
    if not table.sizes["num_pairs"]:
        raise WorkloadError(f"{args.corpus}: no sample has three tokens; give a corpus with some.")
    corpus_sha256 = file_sha256(args.corpus)
    facts = {"successors": args.successors, TOKENIZER_SHA256: tokenizer, "corpus_sha256": corpus_sha256}
    try:
        table.save(folder, facts)
        ledger = {
            "version": 2,
            "script": "python bench.py table",
            "architecture": "adaptive_trigram",
            "data": {"corpus_sha256": corpus_sha256, **counts},
        }
        (folder / LEDGER).write_text(json.dumps(ledger, indent=1) + "\n")
    except OSError as error:
        raise CheckpointError(f"--out is {folder}, which cannot be written: {error.strerror}.") from error
    size = sum(path.stat().st_size for path in folder.iterdir())
    console.print(
        f"table: {folder}: {table.sizes['num_pairs']:,} pairs with {table.sizes['num_entries']:,} successors of "
        f"{counts['num_tokens']:,} tokens, {size / 1000:,.0f} kB",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    return 0
