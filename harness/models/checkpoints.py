"""A draft's checkpoint between its folder and the engine: read, compared with its layout, handed on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from draftbench.drafts.api import Checkpoint, DraftSpec, Loadable, Options, Tree
from draftbench.drafts.layout import llama_model, text_fields
from draftbench.harness.errors import CheckpointError
from draftbench.harness.models.find import read_config, read_target
from draftbench.harness.models.served import unserved
from draftbench.harness.runtime.tensors import TensorFacts, named_tensors, weight_files, write_tensors
from draftbench.harness.safe_files import make_own_folder, write_whole
from draftbench.harness.suite import Arm
from draftbench.harness.workloads.regular import JSON_BYTES, read_json

NAMES_SHOWN = 6
TOKENIZER = "tokenizer.json"
WRITTEN = "model.safetensors"
TOKENIZER_SHA256 = "tokenizer_sha256"
"""Key of a draft's config.json: the hash of the vocabulary that it was made for, where it has no tokenizer of its own.
"""


def load_arms_draft(
    arm: Arm, spec: DraftSpec, draft: Path, target: Path, tensors: Mapping[str, TensorFacts]
) -> Loadable:
    """What an arm's engine is to load; a run, `plan` and `doctor` all ask here.

    Args:
        tensors: of the draft's folder.

    Raises:
        CheckpointError: it does not fit, with the arm's name.
    """
    assert arm.tree is not None
    configs = read_config(draft), read_target(target, needs_weights=False)
    try:
        check_tokenizer(draft, target, configs[0].get(TOKENIZER_SHA256))
        found = load_draft(spec, draft, *configs, tensors, spec.options.model_validate(arm.options), arm.tree)
        if (reason := unserved(configs[1], spec, found)) is not None:
            raise CheckpointError(reason)
        return found
    except CheckpointError as error:
        raise CheckpointError(f"arm {arm.name}: {error}") from error


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
        config: the draft's config.json; `target`: the target's, its fields nested or not.

    Raises:
        CheckpointError: the configuration does not fit, or tensors are missing, unexpected, misshapen or not finite.
    """
    shapes = {name: facts.shape for name, facts in tensors.items()}
    try:
        loadable = spec.read(Checkpoint(folder, config, shapes, text_fields(target)), options, tree)
    except KeyError as error:
        raise CheckpointError(
            f"{folder / 'config.json'}: {error.args[0]} is missing here or in the target's; {spec.name} needs it."
        ) from error
    if loadable.expected is not None:
        named = {loadable.renamed.get(name, name): shape for name, shape in shapes.items()}
        _compare(folder, spec.name, {**named, **loadable.zeros}, loadable)
    _check_sound(folder, tensors)
    return loadable


def check_target(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, TensorFacts]) -> None:
    """Refuse a target whose weights are not whole, before an engine loads them for minutes.

    Args:
        config: its config.json.

    Raises:
        CheckpointError: tensors are missing or not finite.
    """
    indexed = named_tensors(folder) or {}
    missing = [name for name in indexed if name not in tensors]
    if config.get("architectures") == ["LlamaForCausalLM"] and not config.get("quantization_config"):
        missing += [name for name in llama_model(config) if name not in tensors and name not in missing]
    if missing:
        raise CheckpointError(f"{folder}: the target's weights are not whole; missing: {_listed(missing)}.")
    _check_sound(folder, tensors)


def _check_sound(folder: Path, tensors: Mapping[str, TensorFacts]) -> None:
    unsound = [name for name, facts in tensors.items() if facts.finite is False]
    if unsound:
        raise CheckpointError(f"{folder}: NaN or infinity in {_listed(unsound)}; the weights are damaged.")


def _compare(folder: Path, architecture: str, shapes: Mapping[str, tuple[int, ...]], loadable: Loadable) -> None:
    expected = loadable.expected or {}
    misshapen = [
        f"{name} has shape {list(shapes[name])}, expected {list(shape)}"
        for name, shape in expected.items()
        if name in shapes and shapes[name] != shape
    ]
    missing = [name for name in expected if name not in shapes]
    unknown = [name for name in shapes if name not in expected] if not loadable.among_others else []
    unexpected = [name for name in unknown if not name.endswith(loadable.unused)]
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
    """A folder with the configuration that the engine is to see and links to the weights; the source stays as it is.

    Where names in the file are not the engine's, or tensors are to be zeros, the weights are written anew, once.

    Raises:
        CheckpointError: they cannot be.
    """
    make_own_folder(folder, levels=3)
    files = weight_files(source)
    made = {
        "from": [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in files],
        "renamed": dict(loadable.renamed),
        "zeros": {name: list(shape) for name, shape in loadable.zeros.items()},
    }
    record, written = folder / "written.json", folder / WRITTEN
    keep = not loadable.as_filed and record.exists() and written.exists() and json.loads(record.read_text()) == made
    for old in folder.iterdir():
        if not (keep and old in (record, written)):
            old.unlink()
    write_whole(folder / "config.json", json.dumps(dict(loadable.config), indent=1) + "\n")
    if loadable.as_filed:
        for path in [*files, *source.glob("*.index.json")]:
            (folder / path.name).symlink_to(path.resolve())
    elif not keep:
        write_tensors(source, written, loadable.renamed, loadable.zeros)
        write_whole(record, json.dumps(made))
    return folder


def check_tokenizer(draft: Path, target: Path, said_sha256: str | None = None) -> None:
    """Refuse a draft whose folder has a tokenizer that maps tokens otherwise than the target's, of equal size or not.

    Where one of them has none there is nothing to compare. Special tokens are renamed between versions of a model and
    do not count, unless one name stands for two numbers.

    Args:
        said_sha256: what the draft's config.json says of the target's vocabulary (`vocabulary_sha256`).

    Raises:
        CheckpointError: a token has another number, or a number another token.
    """
    if said_sha256 is not None and said_sha256 != vocabulary_sha256(target):
        raise CheckpointError(
            f"{draft / 'config.json'}: {TOKENIZER_SHA256} is not that of {target / TOKENIZER}; it was made for the "
            "token ids of another target. Make it for this one."
        )
    ours, theirs = _vocabulary(draft), _vocabulary(target)
    if ours is None or theirs is None or draft == target:
        return
    numbers = {number: token for token, number in theirs.plain.items()}
    for token, number in ours.whole.items():
        known = theirs.whole.get(token, number)
        if known != number:
            found = f"{token!r} is {number}, but the target's is {known}"
        elif token in ours.plain and numbers.get(number, token) != token:
            found = f"{number} is {token!r}, but the target's is {numbers[number]!r}"
        else:
            continue
        raise CheckpointError(
            f"{draft / TOKENIZER}: token {found}; a draft must share its target's tokenizer. If the file is a leftover "
            "and the draft was trained on the target's tokens, remove it."
        )


def vocabulary_sha256(folder: Path) -> str | None:
    """Hash of every token's number; None where the folder has no tokenizer."""
    found = _vocabulary(folder)
    if found is None:
        return None
    return hashlib.sha256(json.dumps(dict(found.whole), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class _Vocabulary:
    """Numbers of tokens: `plain` without those that were added, `whole` with them."""

    plain: Mapping[str, int]
    whole: Mapping[str, int]


def _vocabulary(folder: Path) -> _Vocabulary | None:
    path = folder / TOKENIZER
    if not path.exists():
        return None
    try:
        data = read_json(path, JSON_BYTES, CheckpointError)
        model, added = data["model"]["vocab"], {entry["content"]: entry["id"] for entry in data.get("added_tokens", ())}
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: no tokenizer ({error!r}); download it anew.") from error
    plain = dict(model) if isinstance(model, dict) else {entry[0]: number for number, entry in enumerate(model)}
    plain = {token: number for token, number in plain.items() if token not in added}
    return _Vocabulary(plain, {**plain, **added})
