"""Features on disk: what is written is what the target computes, in bounded room and memory, and goes on."""

from __future__ import annotations

import json
import resource
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from draftbench.drafts.training import shards
from draftbench.drafts.training.features import Example, Features, features_of
from draftbench.drafts.training.shards import (
    Origin,
    Shards,
    check_room,
    features_bytes,
    is_complete,
    write_index,
    write_shards,
)
from draftbench.drafts.training.tokens import TokenFiles, read_samples, write_tokens
from draftbench.harness.errors import TrainingError

LAYERS = (0, 3)


def origin(dtype: str = "float16") -> Origin:
    return Origin("t", "c", "float32", dtype, 32, LAYERS)


def stored(target: Any, target_folder: Path, folder: Path, corpus: Path | None = None) -> Shards:
    """All features of a corpus, written and opened."""
    write_tokens(corpus or target_folder / "answers.jsonl", folder, 64, 64)
    tokens = TokenFiles(folder)
    write_shards(target, tokens, folder, origin(), slice(None), lambda count: None)
    write_index(folder, tokens, origin())
    return Shards(folder, tokens)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several samples to a shard, several shards to the corpus."""
    monkeypatch.setattr(shards, "SHARD_BYTES", 100 * 32 * 2)


def test_batches_from_disk_are_those_from_memory(
    answers: tuple[Any, list[Example]], target_folder: Path, tmp_path: Path
) -> None:
    """Hidden states, chosen layers, learned entries and the target's likeliest tokens, for any choice of samples."""
    target, samples = answers
    store = stored(target, target_folder, tmp_path)
    assert len(list(tmp_path.glob("?????.json"))) > 3
    for layers in ((), (3,), (3, 0)):
        disk = Features(store, target.lm_head.weight.data, layers).batch([0, 7, 19])
        memory = features_of(target, samples, layers).batch([0, 7, 19])
        for name in ("tokens_BT", "hidden_BTD", "next_hidden_BTD", "aux_BTE", "learned_BT", "top_ids_BTK"):
            torch.testing.assert_close(getattr(disk, name), getattr(memory, name), rtol=2e-3, atol=2e-3)


def test_files_are_no_larger_than_what_they_hold(
    answers: tuple[Any, list[Example]], target_folder: Path, tmp_path: Path
) -> None:
    """1.1 × tokens × layers × width × 2 bytes for states; ids and marks take 5 bytes a token beside."""
    store = stored(answers[0], target_folder, tmp_path)
    tokens = int(store.lengths_N.sum())
    states = sum(path.stat().st_size for path in tmp_path.glob("?????-*.bin"))
    assert states == features_bytes(tokens, origin()) == tokens * 3 * 32 * 2
    assert sum((tmp_path / name).stat().st_size for name in ("ids.bin", "answers.bin")) == 5 * tokens
    index = json.loads((tmp_path / "index.json").read_text())
    assert index["origin"]["layers"] == list(LAYERS)
    assert index["num_tokens"] == tokens
    assert [shard["shape"][1] for shard in index["shards"]] == [32] * len(index["shards"])


def test_an_interrupted_extraction_goes_on_with_the_missing_shards(
    answers: tuple[Any, list[Example]], target_folder: Path, tmp_path: Path
) -> None:
    """Finished shards are not computed again; the whole is what an uninterrupted run writes."""
    whole = stored(answers[0], target_folder, tmp_path / "whole")
    write_tokens(target_folder / "answers.jsonl", tmp_path, 64, 64)
    tokens, seen = TokenFiles(tmp_path), []

    class Killed(Exception):
        pass

    def killed(count: int) -> None:
        seen.append(count)
        if len(seen) == 12:
            raise Killed

    with pytest.raises(Killed):
        write_shards(answers[0], tokens, tmp_path, origin(), slice(None), killed)
    sealed = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*-hidden.bin")}
    assert 0 < len(sealed) < len(list((tmp_path / "whole").glob("*-hidden.bin")))
    write_shards(answers[0], tokens, tmp_path, origin(), slice(None), lambda count: None)
    assert all(path.stat().st_mtime_ns == before for path, before in sealed.items())
    write_index(tmp_path, tokens, origin())
    assert Shards(tmp_path, tokens).sha256 == whole.sha256


def test_processes_share_the_shards(answers: tuple[Any, list[Example]], target_folder: Path, tmp_path: Path) -> None:
    """Each computes every second shard; together they are all."""
    write_tokens(target_folder / "answers.jsonl", tmp_path, 64, 64)
    tokens = TokenFiles(tmp_path)
    for rank in (0, 1):
        write_shards(answers[0], tokens, tmp_path, origin(), slice(rank, None, 2), lambda count: None)
    write_index(tmp_path, tokens, origin())
    assert Shards(tmp_path, tokens).sha256 == stored(answers[0], target_folder, tmp_path / "one").sha256


def test_features_of_something_else_are_refused(
    answers: tuple[Any, list[Example]], target_folder: Path, tmp_path: Path
) -> None:
    """A folder's features are used only for the corpus and target that they were made from, and its layers."""
    stored(answers[0], target_folder, tmp_path)
    assert is_complete(tmp_path, origin())
    assert is_complete(tmp_path, replace(origin(), layers=(3,)))
    assert is_complete(tmp_path, replace(origin(), layers=()))
    with pytest.raises(TrainingError, match="another layers"):
        is_complete(tmp_path, replace(origin(), layers=(0, 2)))
    with pytest.raises(TrainingError, match="another target_sha256"):
        is_complete(tmp_path, Origin("other", "c", "float32", "float16", 32, LAYERS))


def test_too_little_room_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is needed, what is free, and what to do."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2e9, 1e9, 1e9))
    check_room(tmp_path, 500_000_000)
    with pytest.raises(TrainingError, match=r"take 0\.90 GB.* has 1\.00 GB free .*Give another --out"):
        check_room(tmp_path, 900_000_000)


def test_reading_leaves_no_pages_resident(tmp_path: Path) -> None:
    """Sixteen times the corpus, read as a whole, does not raise the memory that stays resident."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    lines, width = 64, 1 << 14
    shard = shards.Shard(0, 0, lines, lines * 100)
    ids = np.zeros(lines * 100, np.int32)
    ids.tofile(tmp_path / "ids.bin")
    np.ones(lines * 100, np.uint8).tofile(tmp_path / "answers.bin")
    np.save(tmp_path / "samples.npy", np.array([(100 * n, 100, 98) for n in range(lines)]))
    np.memmap(shard.path(tmp_path, None), np.uint16, "w+", shape=(lines * 100, width))  # sparse: takes no room
    index = {
        "origin": {"dtype": "float16", "hidden_size": width, "layers": []},
        "sha256": "h",
        "shards": [{"number": 0, "first": 0, "end": lines, "num_tokens": lines * 100}],
    }
    (tmp_path / "index.json").write_text(json.dumps(index))
    store = Shards(tmp_path, TokenFiles(tmp_path))
    for number in range(4):
        store.read(number, ())
    before = resident()
    for number in range(lines):
        store.read(number, ())
    assert resident() - before < 100 * width * 2 * 4  # the whole corpus is 64 samples


BAD = {
    '{"prompt_ids": [1], "output_ids": [2, "x"]}': "malformed",
    "[1, 2]": "malformed",
    '{"prompt_ids": [1], "output': "malformed",
    '{"ids": [1, 2], "spans": [[2, 1]]}': "malformed",
    '{"prompt_ids": [1, 2], "output_ids": []}': "without an answer of two tokens",
    '{"prompt_ids": [], "output_ids": []}': "without an answer of two tokens",
    '{"prompt_ids": [1], "output_ids": [64, 1, 1]}': "with ids that the target does not have",
    json.dumps({"prompt_ids": [1] * 60, "output_ids": [2] * 5}): "longer than 64 tokens",
}


def test_samples_that_cannot_be_learned_from_are_counted_and_shown(tmp_path: Path) -> None:
    """Empty, over-long and malformed ones are left out; each reason says how many and where the first stands."""
    corpus = tmp_path / "corpus.jsonl"
    good = '{"prompt_ids": [1, 2], "output_ids": [3, 4, 5]}'
    turns = '{"ids": [1, 2, 3, 4, 5, 6, 7, 8], "spans": [[1, 4], [5, 8]]}'
    corpus.write_text("\n".join([good, *BAD, "", turns]) + "\n")
    skipped = write_tokens(corpus, tmp_path, 64, 64)
    expected: dict[str, int] = {}
    for reason in BAD.values():
        expected[reason] = expected.get(reason, 0) + 1
    assert skipped.counts == expected
    assert f"skipped 4 malformed, the first at {corpus}:2" in skipped.lines()[0]
    tokens = TokenFiles(tmp_path)
    assert tokens.table_N3[:, 1:].tolist() == [[5, 2], [8, 4]]
    assert tokens.read(1)[1].tolist() == [False, True, True, True, False, True, True, True]


def test_a_corpus_with_nothing_to_learn_is_refused(tmp_path: Path) -> None:
    """With the reasons."""
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("\n".join(BAD) + "\n")
    with pytest.raises(TrainingError, match=r"no sample can be learned from; skipped 4 malformed"):
        write_tokens(corpus, tmp_path, 64, 64)
    with pytest.raises(TrainingError, match="cannot be read"):
        write_tokens(tmp_path / "none.jsonl", tmp_path, 64, 64)


def test_held_out_answers_that_are_malformed_say_where(tmp_path: Path) -> None:
    """A line without output_ids is named by file and number."""
    path = tmp_path / "heldout.jsonl"
    path.write_text('{"prompt_ids": [1], "output_ids": [2, 3]}\n{"prompt_ids": [1]}\n')
    with pytest.raises(TrainingError, match=r"heldout\.jsonl:2: .*output_ids"):
        read_samples(path)
