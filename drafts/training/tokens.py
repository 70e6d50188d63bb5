"""A corpus as token ids on disk: read once from JSONL, what cannot be learned from left out and counted.

A line is {"prompt_ids": [...], "output_ids": [...]}, as `bench.py outputs` writes it, or {"ids": [...], "spans":
[[first, end], ...]} where several stretches are answers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from draftbench.drafts.training.features import Example, learned_entries
from draftbench.harness.errors import TrainingError

IDS, ANSWERS, SAMPLES = "ids.bin", "answers.bin", "samples.npy"


@dataclass
class Skipped:
    """Lines that were left out: how many for each reason, and where the first of each stood."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, reason: str, place: str) -> None:
        """Count one."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        self.examples.setdefault(reason, place)

    def lines(self) -> list[str]:
        """A sentence for each reason."""
        return [f"skipped {n} {reason}, the first at {self.examples[reason]}" for reason, n in self.counts.items()]


class TokenFiles:
    """Token ids and answer marks of all samples in two flat files; per sample only three numbers stay in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.table_N3: np.ndarray = np.load(folder / SAMPLES)
        """First token, number of tokens and learned entries of each sample."""

    @property
    def num_tokens(self) -> int:
        """Tokens of all samples."""
        return int(self.table_N3[:, 1].sum())

    def read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids and answer marks of one sample. The mapping ends with the call, so that no pages stay resident."""
        start, size = int(self.table_N3[index, 0]), int(self.table_N3[index, 1])
        ids = np.memmap(self.folder / IDS, np.int32, "r", offset=4 * start, shape=(size,))
        answers = np.memmap(self.folder / ANSWERS, np.uint8, "r", offset=start, shape=(size,))
        return np.array(ids), np.array(answers) > 0


def read_samples(path: Path) -> list[Example]:
    """A small corpus in memory: its last answers with what stands before them.

    Raises:
        TrainingError: a line is no sample, with file and line.
    """
    samples = []
    for place, line in _lines(path):
        found = _sample(line)
        if isinstance(found, str):
            raise TrainingError(
                f"{place}: {found}; each line has to be an object with prompt_ids and output_ids, lists of token ids."
            )
        ids, spans = found
        first, end = spans[-1] if spans else (len(ids), len(ids))
        samples.append(Example(tuple(ids[:first]), tuple(ids[first:end])))
    return samples


def write_tokens(corpus: Path, folder: Path, vocab_size: int, max_tokens: int) -> Skipped:
    """Write a corpus's samples as flat files, line after line.

    Raises:
        TrainingError: none of its lines can be learned from.
    """
    folder.mkdir(parents=True, exist_ok=True)
    skipped, table, start = Skipped(), [], 0
    with (folder / IDS).open("wb") as ids_file, (folder / ANSWERS).open("wb") as answers_file:
        for place, line in _lines(corpus):
            found = _sample(line)
            if isinstance(found, str):
                skipped.add("malformed", f"{place} ({found})")
                continue
            ids, answers = _marked(*found)
            learned = int(learned_entries(answers).sum()) if len(ids) > 2 else 0
            if learned == 0:
                skipped.add("without an answer of two tokens", place)
            elif len(ids) > max_tokens:
                skipped.add(f"longer than {max_tokens} tokens", place)
            elif ids.min() < 0 or ids.max() >= vocab_size:
                skipped.add("with ids that the target does not have", place)
            else:
                ids.astype(np.int32).tofile(ids_file)
                answers.astype(np.uint8).tofile(answers_file)
                table.append((start, len(ids), learned))
                start += len(ids)
    if not table:
        raise TrainingError(
            f"{corpus}: no sample can be learned from; {'; '.join(skipped.lines()) or 'it is empty'}. "
            "Write the corpus anew."
        )
    np.save(folder / SAMPLES, np.array(table, dtype=np.int64))
    return skipped


def _lines(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield f"{path}:{number}", line
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read: {error}.") from error


def _sample(line: bytes) -> tuple[list[int], list[tuple[int, int]]] | str:
    """Ids and spans of a line, or what is wrong with it."""
    try:
        record: Any = json.loads(line)
    except ValueError as error:
        return f"not JSON: {error}"
    if not isinstance(record, dict):
        return "not a JSON object"
    if "ids" in record:
        ids, spans = record["ids"], record.get("spans")
        if not isinstance(spans, list) or not all(_span(span) for span in spans):
            return "spans is no list of [first, end]"
        return (ids, [(first, end) for first, end in spans]) if _ids(ids) else "ids is no list of token ids"
    for key in ("prompt_ids", "output_ids"):
        if not _ids(record.get(key)):
            return f"{key} is no list of token ids"
    prompt, output = record["prompt_ids"], record["output_ids"]
    return prompt + output, [(len(prompt), len(prompt) + len(output))]


def _ids(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int for item in value)


def _span(value: Any) -> bool:
    return _ids(value) and len(value) == 2 and 0 <= value[0] <= value[1]


def _marked(ids: list[int], spans: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    answers = np.zeros(len(ids), dtype=bool)
    for first, end in spans:
        answers[first:end] = True
    return np.array(ids, dtype=np.int64), answers
