"""Names, shapes and soundness of the tensors in model folders.

Safetensors are read here: their headers say names and shapes. Pickled files are read by torch in a process of its own,
which the harness process does not import:

    python -m draftbench.harness.runtime.tensors [--headers] FOLDER …
        prints JSON: {folder: {name: {"shape": […], "finite": true}}}
    python -m draftbench.harness.runtime.tensors --write FOLDER FILE   writes its tensors under the names from stdin
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from draftbench.harness.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

NOT_WEIGHTS = ("training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.pt", "scaler.pt")
"""What trainers leave beside the weights; SGLang passes them over too (model_loader/weight_utils.py, 0.5.17)."""
EXPONENTS = {
    "F16": ("uint16", 0x7C00),
    "BF16": ("uint16", 0x7F80),
    "F32": ("uint32", 0x7F800000),
    "F64": ("uint64", 0x7FF0000000000000),
}
"""NumPy's type, and the bits that are all set in infinity and NaN, by safetensors' names of types; 8-bit numbers are
not looked into."""
WHOLE_NUMBERS = ("BOOL", "U8", "I8", "I16", "U16", "I32", "U32", "I64", "U64")
VALUES_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class TensorFacts:
    """One tensor of a checkpoint; `finite` is whether it holds neither NaN nor infinity, None if nobody looked."""

    shape: tuple[int, ...]
    finite: bool | None


def read_tensors(folders: Sequence[Path], values: bool = True) -> dict[Path, dict[str, TensorFacts]]:
    """The tensors of every folder.

    Args:
        values: look for NaN and infinity, which reads the files from end to end; else safetensors' headers alone.

    Raises:
        CheckpointError: a file cannot be read, holds more than tensors, or is named in an index and not there.
    """
    found: dict[Path, dict[str, TensorFacts]] = {}
    pickled = []
    for folder in folders:
        files = weight_files(folder)
        if all(file.suffix == ".safetensors" for file in files):
            found[folder] = {name: facts for file in files for name, facts in _safetensors(file, values)}
        else:
            pickled.append(folder)
    if pickled:
        words = [*([] if values else ["--headers"]), *map(str, pickled)]
        told: dict[str, dict[str, dict[str, Any]]] = json.loads(_asked(words))
        for folder in pickled:
            facts = told[str(folder)].items()
            found[folder] = {name: TensorFacts(tuple(fact["shape"]), fact["finite"]) for name, fact in facts}
    return found


def _safetensors(path: Path, values: bool) -> Iterator[tuple[str, TensorFacts]]:
    """A file's tensors. Format: 8 bytes with the header's size, the header as JSON, the values behind it."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > path.stat().st_size:
                raise ValueError(f"its header would take {size} bytes")
            header: dict[str, Any] = json.loads(file.read(size))
            header.pop("__metadata__", None)
            end = 8 + size + max((entry["data_offsets"][1] for entry in header.values()), default=0)
            if path.stat().st_size < end:
                raise ValueError(f"it has {path.stat().st_size} bytes of {end}")
            for name, entry in header.items():
                finite = True if values and entry["dtype"] in WHOLE_NUMBERS else None
                if values and entry["dtype"] in EXPONENTS:
                    file.seek(8 + size + entry["data_offsets"][0])
                    finite = _finite(file, entry["data_offsets"][1] - entry["data_offsets"][0], entry["dtype"])
                yield name, TensorFacts(tuple(entry["shape"]), finite)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise CheckpointError(
            f"{path}: cannot be read as a file of tensors alone: {error}; download or copy it again."
        ) from error


def _finite(file: Any, num_bytes: int, dtype: str) -> bool:
    import numpy as np  # a plan, which looks at no values, does without

    name, exponent = EXPONENTS[dtype]
    kind = np.dtype(name).type
    left = num_bytes // np.dtype(name).itemsize
    while left:
        part = np.fromfile(file, kind, min(left, VALUES_AT_ONCE))
        if ((part & kind(exponent)) == exponent).any():
            return False
        left -= len(part)
    return True


def write_tensors(folder: Path, file: Path, renamed: Mapping[str, str], zeros: Mapping[str, tuple[int, ...]]) -> None:
    """Write a folder's tensors into one file, some under other names, and zeros beside them.

    Raises:
        CheckpointError: they cannot be read or written.
    """
    _asked(["--write", str(folder), str(file)], json.dumps({"renamed": dict(renamed), "zeros": dict(zeros)}))


def _asked(words: list[str], told: str = "") -> str:
    command = [sys.executable, "-m", "draftbench.harness.runtime.tensors", *words]
    done = subprocess.run(command, input=told, capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise CheckpointError(last[0].removeprefix("error: "))
    return done.stdout


def weight_files(folder: Path) -> list[Path]:
    """The files that SGLang loads: safetensors if there are any, else .bin, else .pt; those an index names, if any.

    Raises:
        CheckpointError: an index is no index, or names files that are not there.
    """
    for kind in ("safetensors", "bin", "pt"):
        files = sorted(path for path in folder.glob(f"*.{kind}") if path.name not in NOT_WEIGHTS)
        if files:
            named = named_tensors(folder, kind)
            if named is None:
                return files
            absent = sorted(set(named.values()) - {path.name for path in files})
            if absent:
                raise CheckpointError(
                    f"{folder}: its index names {len(absent)} files that are not there: {', '.join(absent[:3])}"
                    f"{', …' if absent[3:] else ''}. Finish the download."
                )
            return [path for path in files if path.name in named.values()]
    return []


def named_tensors(folder: Path, kind: str = "safetensors") -> dict[str, str] | None:
    """The file of each tensor, as an index of that kind of file says; None where there is none.

    Raises:
        CheckpointError: it is no index.
    """
    path = next(iter(sorted(folder.glob(f"*.{kind}.index.json"))), None)
    if path is None:
        return None
    try:
        return {str(name): str(file) for name, file in json.loads(path.read_text())["weight_map"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: no index of weights ({error!r}); it has to map tensors to files under weight_map. "
            "Download the checkpoint anew."
        ) from error


def _tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  # safe_open is no mapping
                yield name, file.get_tensor(name)
    else:
        import torch

        yield from torch.load(path, map_location="cpu", weights_only=True, mmap=True).items()


def _write(folder: Path, file: Path, told: Mapping[str, Any]) -> int:
    import torch
    from safetensors.torch import save_file

    renamed: dict[str, str] = told["renamed"]
    found = {
        renamed.get(name, name): tensor.clone(memory_format=torch.contiguous_format)  # aliases would share memory
        for path in weight_files(folder)
        for name, tensor in _tensors(path)
    }
    dtype = next((tensor.dtype for tensor in found.values() if tensor.is_floating_point()), torch.float32)
    found |= {name: torch.zeros(shape, dtype=dtype) for name, shape in told["zeros"].items()}
    partial = file.with_suffix(".partial")
    save_file(found, partial, metadata={"format": "pt"})
    partial.rename(file)
    return 0


def main(folders: list[str]) -> int:
    """Print the facts of all folders, or write a folder's tensors anew."""
    import torch

    if folders[:1] == ["--write"]:
        try:
            return _write(Path(folders[1]), Path(folders[2]), json.loads(sys.stdin.read()))
        except Exception as error:  # whatever a damaged file or a full disk makes torch raise
            print(f"error: {folders[1]}: cannot be written anew: {str(error).splitlines()[0]}", file=sys.stderr)
            return 1
    values = folders[:1] != ["--headers"]
    found: dict[str, dict[str, Any]] = {}
    for folder in folders if values else folders[1:]:
        facts = found.setdefault(folder, {})
        try:
            paths = weight_files(Path(folder))
        except CheckpointError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        for path in paths:
            try:
                for name, tensor in _tensors(path):
                    sound = values and (not tensor.is_floating_point() or bool(torch.isfinite(tensor).all()))
                    facts[name] = {"shape": list(tensor.shape), "finite": sound if values else None}
            except Exception as error:  # whatever a damaged file makes a reader raise
                reason = str(error).splitlines()[0]
                print(f"error: {path}: cannot be read as a file of tensors alone: {reason}", file=sys.stderr)
                return 1
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
