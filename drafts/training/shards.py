"""The target's hidden states of a corpus on disk: computed once, in shards of many samples, mapped when they are read.

A shard holds, for the last hidden state and for each chosen layer, one file of raw numbers [tokens, D]. It is finished
once its description lies beside it, so an interrupted run goes on with the first shard that is not; several processes
take turns. `index.json` is written last and names everything: shapes, type, layers, hashes.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from draftbench.drafts.training.extract import states_of
from draftbench.drafts.training.features import ExampleStates
from draftbench.drafts.training.hf import Target
from draftbench.drafts.training.tokens import TokenFiles
from draftbench.harness.errors import TrainingError

SHARD_BYTES = 64 << 20
"""Size of a shard's file, about."""
ELEMENT_BYTES = 2
SPARE_BYTES = 256 << 20
"""Room that has to stay on the disk for checkpoints and curves."""
INDEX = "index.json"


@dataclass(frozen=True)
class Origin:
    """What features are made from; other origins need features of their own."""

    target_sha256: str
    corpus_sha256: str
    target_dtype: str
    dtype: str
    """Of the numbers on disk: float16, or bfloat16 where the target computes in it."""
    hidden_size: int
    layers: tuple[int, ...]


@dataclass(frozen=True)
class Shard:
    """Consecutive samples."""

    number: int
    first: int
    end: int
    num_tokens: int

    def path(self, folder: Path, layer: int | None) -> Path:
        """The file of a layer's outputs, or of the last hidden states."""
        name = "hidden" if layer is None else f"layer-{layer:03}"
        return folder / f"{self.number:05}-{name}.bin"

    def seal(self, folder: Path) -> Path:
        """The description that is written when the shard's files are complete."""
        return folder / f"{self.number:05}.json"


def features_bytes(num_tokens: int, origin: Origin) -> int:
    """What the states of so many tokens take on disk."""
    return num_tokens * (1 + len(origin.layers)) * origin.hidden_size * ELEMENT_BYTES


def check_room(folder: Path, needed: int) -> None:
    """Refuse to begin what the disk cannot hold.

    Raises:
        TrainingError: too little room, with what is needed and what is there.
    """
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE_BYTES:
        raise TrainingError(
            f"the target's hidden states take {needed / 1e9:.2f} GB, but {folder} has {free / 1e9:.2f} GB free (and "
            f"{SPARE_BYTES / 1e9:.2f} GB have to stay). Give another --out, a smaller corpus, or drafts "
            "that read fewer layers."
        )


def plan_shards(tokens: TokenFiles, origin: Origin) -> list[Shard]:
    """Cut the samples, in their order, into shards of about `SHARD_BYTES` a file."""
    limit = max(1, SHARD_BYTES // (origin.hidden_size * ELEMENT_BYTES))
    shards: list[Shard] = []
    first = size = 0
    lengths = tokens.table_N3[:, 1]
    for index, length in enumerate(lengths):
        if size and size + length > limit:
            shards.append(Shard(len(shards), first, index, size))
            first, size = index, 0
        size += int(length)
    return [*shards, Shard(len(shards), first, len(lengths), size)]


def is_complete(folder: Path, origin: Origin) -> bool:
    """Whether all features of this origin are there; those of more layers hold them too.

    Raises:
        TrainingError: there are features of something else.
    """
    path = folder / INDEX
    if not path.exists():
        return False
    found, wanted = json.loads(path.read_text())["origin"], json.loads(json.dumps(asdict(origin)))
    differ = [key for key, value in wanted.items() if key != "layers" and found.get(key) != value]
    if not set(wanted["layers"]) <= set(found["layers"]):
        differ.append("layers")
    if differ:
        raise TrainingError(f"{folder} holds features of another {', '.join(differ)}; give another --out or remove it.")
    return True


def write_shards(
    target: Target, tokens: TokenFiles, folder: Path, origin: Origin, mine: slice, done: Callable[[int], None]
) -> None:
    """Compute those shards that are not there yet.

    Args:
        mine: which of the shards this process computes.
        done: told the number of tokens after each batch of the target's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for shard in plan_shards(tokens, origin)[mine]:
        if shard.seal(folder).exists():
            found = json.loads(shard.seal(folder).read_text())
            if found.get("origin") == json.loads(json.dumps(asdict(origin))):
                done(shard.num_tokens)
                continue
        _write_shard(target, tokens, folder, origin, shard, done)


def _write_shard(
    target: Target, tokens: TokenFiles, folder: Path, origin: Origin, shard: Shard, done: Callable[[int], None]
) -> None:
    kinds = (None, *origin.layers)
    shape = (shard.num_tokens, origin.hidden_size)
    unfinished = [shard.path(folder, layer).with_suffix(".part") for layer in kinds]
    maps = [np.memmap(path, np.uint16, "w+", shape=shape) for path in unfinished]
    ids = [tokens.read(index)[0] for index in range(shard.first, shard.end)]
    starts = np.concatenate(([0], np.cumsum([len(each) for each in ids])))
    for index, states in states_of(target, ids, origin.layers):
        for memory, state in zip(maps, states, strict=True):
            memory[starts[index] : starts[index + 1]] = _to_disk(state, origin.dtype)
        done(len(ids[index]))
    hashes = {}
    for path, memory, layer in zip(unfinished, maps, kinds, strict=True):
        memory.flush()
        hashes[shard.path(folder, layer).name] = sha256(memory.data).hexdigest()
        path.replace(shard.path(folder, layer))
    seal = {"origin": asdict(origin), "num_tokens": shard.num_tokens, "shape": shape, "sha256": hashes}
    write_atomically(shard.seal(folder), json.dumps(seal).encode())


def write_index(folder: Path, tokens: TokenFiles, origin: Origin) -> None:
    """Name all shards, once each is finished."""
    shards = plan_shards(tokens, origin)
    seals = [json.loads(shard.seal(folder).read_text()) for shard in shards]
    digest = sha256("".join(value for seal in seals for value in seal["sha256"].values()).encode()).hexdigest()
    index: dict[str, Any] = {
        "version": 1,
        "origin": asdict(origin),
        "sha256": digest,
        "num_samples": len(tokens.table_N3),
        "num_tokens": tokens.num_tokens,
        "shards": [
            asdict(shard) | {"shape": seal["shape"], "sha256": seal["sha256"]}
            for shard, seal in zip(shards, seals, strict=True)
        ],
    }
    write_atomically(folder / INDEX, (json.dumps(index, indent=1) + "\n").encode())


class Shards:
    """The features of a corpus as they lie on disk. Mappings last for one read, so memory does not grow."""

    def __init__(self, folder: Path, tokens: TokenFiles) -> None:
        index = json.loads((folder / INDEX).read_text())
        self._folder, self._tokens = folder, tokens
        self._dtype = getattr(torch, index["origin"]["dtype"])
        self._width = int(index["origin"]["hidden_size"])
        self._shards = [
            Shard(*(each[key] for key in ("number", "first", "end", "num_tokens"))) for each in index["shards"]
        ]
        self._firsts = np.array([shard.first for shard in self._shards])
        self.sha256 = str(index["sha256"])
        self.layers = tuple(index["origin"]["layers"])
        self.lengths_N = tokens.table_N3[:, 1]
        self.learned_N = tokens.table_N3[:, 2]

    def read(self, index: int, layers: Sequence[int]) -> ExampleStates:
        """One sample, with the outputs of these layers side by side."""
        ids, answers = self._tokens.read(index)
        shard = self._shards[int(np.searchsorted(self._firsts, index, side="right")) - 1]
        begin = int(self._tokens.table_N3[index, 0] - self._tokens.table_N3[shard.first, 0])
        hidden = self._states(shard.path(self._folder, None), begin, len(ids))
        outputs = [self._states(shard.path(self._folder, layer), begin, len(ids)) for layer in layers]
        return ExampleStates(ids, answers, hidden, torch.cat(outputs, dim=-1) if outputs else hidden[:, :0])

    def _states(self, path: Path, begin: int, size: int) -> Tensor:
        offset = begin * self._width * ELEMENT_BYTES
        memory = np.memmap(path, np.int16, "r", offset=offset, shape=(size, self._width))
        return torch.from_numpy(np.array(memory)).view(self._dtype)


def _to_disk(state: Tensor, dtype: str) -> np.ndarray:
    numbers: np.ndarray = state.to("cpu", getattr(torch, dtype)).view(torch.int16).numpy().view(np.uint16)
    return numbers


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is either there as a whole or not."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
