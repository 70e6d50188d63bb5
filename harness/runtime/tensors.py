"""Names, shapes and soundness of the tensors in model folders, read in a process of its own.

    python -m draftbench.harness.runtime.tensors FOLDER …  prints JSON: {folder: {name: {"shape": […], "finite": true}}}
    python -m draftbench.harness.runtime.tensors --write FOLDER FILE   writes its tensors under the names from stdin

The harness process itself does not import torch.
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


@dataclass(frozen=True)
class TensorFacts:
    """One tensor of a checkpoint; `finite` is whether it holds neither NaN nor infinity."""

    shape: tuple[int, ...]
    finite: bool


def read_tensors(folders: Sequence[Path]) -> dict[Path, dict[str, TensorFacts]]:
    """The tensors of every folder.

    Raises:
        CheckpointError: a file cannot be read, or holds more than tensors.
    """
    if not folders:
        return {}
    found: dict[str, dict[str, dict[str, Any]]] = json.loads(_asked([*map(str, folders)]))
    return {
        Path(folder): {name: TensorFacts(tuple(fact["shape"]), fact["finite"]) for name, fact in tensors.items()}
        for folder, tensors in found.items()
    }


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
    """The files that SGLang loads: safetensors if there are any, else .bin, else .pt; those an index names, if any."""
    for kind in ("safetensors", "bin", "pt"):
        files = sorted(path for path in folder.glob(f"*.{kind}") if path.name not in NOT_WEIGHTS)
        if files:
            indexes = list(folder.glob(f"*.{kind}.index.json"))
            if not indexes:
                return files
            try:
                named = set(json.loads(indexes[0].read_text())["weight_map"].values())
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise CheckpointError(
                    f"{indexes[0]}: no index of weights ({error!r}); it has to map tensors to files under weight_map. "
                    "Download the checkpoint anew."
                ) from error
            return [path for path in files if path.name in named]
    return []


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
    found: dict[str, dict[str, Any]] = {}
    for folder in folders:
        facts = found.setdefault(folder, {})
        try:
            paths = weight_files(Path(folder))
        except CheckpointError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        for path in paths:
            try:
                for name, tensor in _tensors(path):
                    sound = not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())
                    facts[name] = {"shape": list(tensor.shape), "finite": sound}
            except Exception as error:  # whatever a damaged file makes a reader raise
                reason = str(error).splitlines()[0]
                print(f"error: {path}: cannot be read as a file of tensors alone: {reason}", file=sys.stderr)
                return 1
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
