"""Tri-grams of a corpus as a table: which tokens followed which two, and how often. `bench.py table` makes one.

A table is a folder like a draft's: config.json with hashes of the tokenizer and the corpus, and tensors of whole
numbers. Of each pair the most frequent successors are kept, the rest is only counted.
Source: ADED (arXiv 2407.12021): shares of a corpus's tri-grams, of each pair the likeliest 12
(liuxukun2000/Adaptix at 241dad8, DraftRetriever/src/lib.rs).

Shapes: P pairs, E kept successors of all pairs, one pair's after the other's, V vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from draftbench.harness.errors import CheckpointError, WorkloadError

ARCHITECTURE = "TrigramTable"
SUCCESSORS = 12
AT_ONCE = 1 << 22
"""Tri-grams that are sorted at a time."""
WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class TrigramTable:
    """Counts of tri-grams.

    Attributes:
        pairs_P: first · V + second, ascending.
        starts_P: where a pair's successors begin [P + 1].
        tokens_E: successors, the most frequent first, equal ones by their number.
        counts_E: how often they followed.
        totals_P: how often anything followed a pair, dropped successors included.
    """

    vocab_size: int
    pairs_P: np.ndarray
    starts_P: np.ndarray
    tokens_E: np.ndarray
    counts_E: np.ndarray
    totals_P: np.ndarray

    def successors(self, first: int, second: int) -> dict[int, float]:
        """Shares of the tokens that followed two, the likeliest first; none where the pair never stood."""
        pair = first * self.vocab_size + second
        place = int(np.searchsorted(self.pairs_P, pair))
        if place == len(self.pairs_P) or self.pairs_P[place] != pair:
            return {}
        here = slice(int(self.starts_P[place]), int(self.starts_P[place + 1]))
        shares = self.counts_E[here] / self.totals_P[place]
        return dict(zip(self.tokens_E[here].tolist(), shares.tolist(), strict=True))

    def save(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """Write it; `facts` go into config.json."""
        folder.mkdir(parents=True, exist_ok=True)
        config = {"architectures": [ARCHITECTURE], "vocab_size": self.vocab_size, **self.sizes, **facts}
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        tensors = {name: getattr(self, name) for name in table_shapes(self.sizes)}
        save_file(tensors, folder / WEIGHTS)

    @property
    def sizes(self) -> dict[str, int]:
        """Pairs and kept successors, as config.json has them."""
        return {"num_pairs": len(self.pairs_P), "num_entries": len(self.tokens_E)}


def table_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Tensors of a table by name, from its config.json."""
    pairs, entries = config["num_pairs"], config["num_entries"]
    return {
        "pairs_P": (pairs,), "starts_P": (pairs + 1,), "tokens_E": (entries,), "counts_E": (entries,),
        "totals_P": (pairs,),
    }  # fmt: skip


def load_table(folder: Path) -> TrigramTable:
    """A table as `save` wrote it; its tensors' shapes are checked before a run.

    Raises:
        CheckpointError: its numbers are no table.
    """
    config = json.loads((folder / "config.json").read_text())
    table = TrigramTable(config["vocab_size"], **load_file(folder / WEIGHTS))
    vocab, starts = table.vocab_size, table.starts_P
    sound = (
        len(starts) > 1 and starts[0] == 0 and starts[-1] == len(table.tokens_E) and (np.diff(starts) > 0).all()
        and (np.diff(table.pairs_P) > 0).all() and table.pairs_P[0] >= 0 and table.pairs_P[-1] < vocab**2
        and ((table.tokens_E >= 0) & (table.tokens_E < vocab)).all() and (table.counts_E > 0).all()
        and (np.add.reduceat(table.counts_E.astype(np.int64), starts[:-1]) <= table.totals_P).all()
    )  # fmt: skip
    if not sound:
        raise CheckpointError(f"{folder / WEIGHTS}: no table of tri-grams; make it anew with bench.py table.")
    return table


def count_trigrams(sequences: Iterable[Sequence[int]], vocab_size: int, successors: int = SUCCESSORS) -> TrigramTable:
    """The table of some token sequences, none of which goes on in the next.

    Args:
        successors: kept of each pair.
    """
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    waiting: list[np.ndarray] = []
    num_waiting = 0
    for tokens in sequences:
        ids = np.asarray(tokens, np.int64)
        waiting.append((ids[:-2] * vocab_size + ids[1:-1]) * vocab_size + ids[2:])
        num_waiting += len(waiting[-1])
        if num_waiting >= AT_ONCE:
            parts.append(np.unique(np.concatenate(waiting), return_counts=True))
            waiting, num_waiting = [], 0
    parts.append(np.unique(np.concatenate([*waiting, np.zeros(0, np.int64)]), return_counts=True))
    keys, inverse = np.unique(np.concatenate([keys for keys, _ in parts]), return_inverse=True)
    counts = np.zeros(len(keys), np.int64)
    np.add.at(counts, inverse, np.concatenate([counts for _, counts in parts]))
    pair_of = keys // vocab_size
    order = np.lexsort((keys % vocab_size, -counts, pair_of))
    pairs, first, sizes = np.unique(pair_of, return_index=True, return_counts=True)
    kept = np.arange(len(keys)) - np.repeat(first, sizes) < successors
    starts = np.concatenate(([0], np.cumsum(np.minimum(sizes, successors))))
    return TrigramTable(
        vocab_size=vocab_size,
        pairs_P=pairs,
        starts_P=starts.astype(np.int32),
        tokens_E=(keys % vocab_size)[order][kept].astype(np.int32),
        counts_E=counts[order][kept].astype(np.int32),
        totals_P=np.add.reduceat(counts, first).astype(np.int32) if len(pairs) else counts.astype(np.int32),
    )


def read_token_lines(corpus: Path, vocab_size: int) -> Iterator[list[int]]:
    """Every sample of a corpus of token ids, as `bench.py outputs` writes it: prompts and outputs in one.

    Raises:
        WorkloadError: the file cannot be read, or a line holds no token ids of the target's vocabulary.
    """
    try:
        with corpus.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _ids(line, f"{corpus}:{number}", vocab_size)
    except OSError as error:
        raise WorkloadError(f"{corpus}: cannot be read: {error.strerror}.") from error


def _ids(line: bytes, place: str, vocab_size: int) -> list[int]:
    form = (
        'a line is {"prompt_ids": […], "output_ids": […]} or {"ids": […]} with token ids of the target; bench.py '
        "outputs writes such files."
    )
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise WorkloadError(f"{place}: not JSON ({error}); {form}") from error
    keys = ("ids",) if isinstance(record, dict) and "ids" in record else ("prompt_ids", "output_ids")
    found: list[int] = []
    for key in keys:
        ids = record.get(key) if isinstance(record, dict) else None
        if not isinstance(ids, list) or not all(type(token) is int for token in ids):
            raise WorkloadError(f"{place}: {key} is no list of token ids; {form}")
        found += ids
    if found and not (min(found) >= 0 and max(found) < vocab_size):
        raise WorkloadError(f"{place}: token {max(found)} or {min(found)} is none of the target's {vocab_size}; {form}")
    return found
