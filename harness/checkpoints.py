"""A draft's checkpoint between its folder and the engine: read, compared with its layout, handed on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drafts.api import Checkpoint, DraftSpec, Loadable, Options, Tree
from harness.errors import CheckpointError
from harness.runtime.tensors import TensorFacts, weight_files

NAMES_SHOWN = 6


def load_draft(
    spec: DraftSpec,
    folder: Path,
    config: Mapping[str, Any],
    target: Mapping[str, Any],
    tensors: Mapping[str, TensorFacts],
    options: Options,
    tree: Tree,
) -> Loadable:
    """What the engine is to load from a draft's folder, after every check that needs no engine.

    Args:
        config: the draft's config.json; `target`: the target's.

    Raises:
        CheckpointError: the configuration does not fit, or tensors are missing, unexpected, misshapen or not finite.
    """
    shapes = {name: facts.shape for name, facts in tensors.items()}
    try:
        loadable = spec.read(Checkpoint(folder, config, shapes, target), options, tree)
    except KeyError as error:
        raise CheckpointError(
            f"{folder / 'config.json'}: {error.args[0]} is missing here or in the target's; {spec.name} needs it."
        ) from error
    if loadable.expected is not None:
        _compare(folder, spec.name, shapes, loadable)
    unsound = [name for name, facts in tensors.items() if not facts.finite]
    if unsound:
        raise CheckpointError(f"{folder}: NaN or infinity in {_listed(unsound)}; the weights are damaged.")
    return loadable


def _compare(folder: Path, architecture: str, shapes: Mapping[str, tuple[int, ...]], loadable: Loadable) -> None:
    expected = loadable.expected or {}
    misshapen = [
        f"{name} has shape {list(shapes[name])}, expected {list(shape)}"
        for name, shape in expected.items()
        if name in shapes and shapes[name] != shape
    ]
    missing = [name for name in expected if name not in shapes]
    unexpected = [name for name in shapes if name not in expected and not name.endswith(loadable.unused)]
    findings = [
        *(f"missing: {_listed(names)}" for names in [missing] if names),
        *(f"unexpected: {_listed(names)}" for names in [unexpected] if names),
        *misshapen[:NAMES_SHOWN],
    ]
    if findings:
        raise CheckpointError(
            f"{folder}: these are not the weights of {architecture} for this target: {'; '.join(findings)}. "
            "Check the arm's architecture and checkpoint, and the sizes in config.json."
        )


def _listed(names: list[str]) -> str:
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def lay_out(loadable: Loadable, source: Path, folder: Path) -> Path:
    """A folder with the configuration that the engine is to see and links to the weights; the source stays as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    (folder / "config.json").write_text(json.dumps(dict(loadable.config), indent=1) + "\n")
    for path in [*weight_files(source), *source.glob("*.index.json")]:
        (folder / path.name).symlink_to(path.resolve())
    return folder
