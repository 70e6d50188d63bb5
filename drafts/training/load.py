"""A draft's folder as the torch module that was trained, by any architecture's spec."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from draftbench.drafts.api import Checkpoint, DraftError, Loadable, Tree, discover
from draftbench.drafts.installed import named
from draftbench.drafts.layout import text_fields
from draftbench.drafts.training.hf import Target
from draftbench.harness.errors import CheckpointError

ONE_STEP = Tree(1, 1, 2)


def load_draft(
    architecture: str,
    folder: Path,
    target: Target,
    tree: Tree = ONE_STEP,
    options: Mapping[str, Any] | None = None,
) -> Any:
    """The draft (`draftbench.drafts.training.draft.Draft`) in fp32, read as a run reads it, ready to be asked.

    Args:
        tree: that it is to draft; `options` as an arm's.

    Raises:
        DraftError: the architecture has no weights, or is not installed.
        CheckpointError: tensors are missing, unexpected or misshapen.
    """
    spec = discover().get(architecture)
    if spec is None or spec.model is None:
        raise DraftError(f"{architecture} is no architecture with a model to load; see bench.py list.")
    config, weights = json.loads((folder / "config.json").read_text()), _weights(folder)
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    found = Checkpoint(folder, config, shapes, text_fields(target.config.to_dict()))
    loadable = spec.read(found, spec.options.model_validate(dict(options or {})), tree)
    draft = named(spec.model)(loadable.config)
    draft.adopt(*(module.state_dict()["weight"] for module in (target.get_input_embeddings(), target.lm_head)))
    named_in_engine = {loadable.renamed.get(name, name): tensor for name, tensor in weights.items()}
    # What the engine does not read is not read here either: the target's embedding stays, not the file's copy of it.
    state = {name: tensor for name, tensor in named_in_engine.items() if _is_read(name, loadable)}
    state |= {name: torch.zeros(shape) for name, shape in loadable.zeros.items()}
    try:
        missing, unexpected = draft.load_state_dict(state, strict=False)
    except RuntimeError as error:  # shapes differ
        raise CheckpointError(f"{folder}: {error}") from error
    lacking = [name for name in missing if loadable.expected is None or name in loadable.expected]
    if unexpected or lacking:
        raise CheckpointError(f"{folder}: its module lacks {lacking} and does not know {unexpected}.")
    return draft.eval().requires_grad_(False)


def _is_read(name: str, loadable: Loadable) -> bool:
    return name in (loadable.expected or ()) or not (loadable.among_others or name.endswith(loadable.unused))


def _weights(folder: Path) -> dict[str, Tensor]:
    """Every tensor of a folder's safetensors, or of its pickled files where there are none."""
    files = sorted(folder.glob("*.safetensors"))
    if files:
        return {name: tensor for file in files for name, tensor in load_file(file).items()}
    pickled = sorted((*folder.glob("*.bin"), *folder.glob("*.pt")))
    return {name: t for file in pickled for name, t in torch.load(file, map_location="cpu", weights_only=True).items()}
