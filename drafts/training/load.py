"""A trained draft's folder back as the module that was trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from draftbench.drafts.eagle.model import new_eagle
from draftbench.drafts.eagle3.model import new_eagle3
from draftbench.drafts.layout import AUX_LAYERS
from draftbench.drafts.medusa.model import new_medusa
from draftbench.drafts.prism.model import new_prism
from draftbench.drafts.standalone.model import new_standalone
from draftbench.drafts.training.hf import LlamaForCausalLM


def load_draft(folder: Path, target: LlamaForCausalLM) -> Any:
    """The draft in fp32, ready to be asked; every tensor of the file is used.

    Raises:
        RuntimeError: tensors are missing or unexpected.
    """
    config = json.loads((folder / "config.json").read_text())
    weights = load_file(folder / "model.safetensors")
    embedding, head = (module.state_dict()["weight"] for module in (target.get_input_embeddings(), target.lm_head))
    layers = (config.get("eagle_config") or {}).get(AUX_LAYERS, ())
    makers: dict[str, Callable[[], Any]] = {
        "LlamaForCausalLM": lambda: new_standalone(config, embedding, 0, config["num_hidden_layers"]),
        "LlamaForCausalLMEagle": lambda: new_eagle(config, embedding, head, 0, config["num_hidden_layers"]),
        "LlamaForCausalLMEagleFused": lambda: new_eagle(
            config, embedding, head, 0, config["num_hidden_layers"], len(layers)
        ),
        "LlamaForCausalLMEagle3": lambda: new_eagle3(
            config,
            weights["d2t"] + torch.arange(len(weights["d2t"])),
            embedding,
            head,
            0,
            len(layers),
        ),
        "LlamaForCausalLMPrism": lambda: new_prism(config, config["step_to_module"], embedding, head, 0, len(layers)),
        "MedusaHeads": lambda: new_medusa(config["medusa_num_heads"], head, 0),
    }
    draft = makers[config["architectures"][0]]()
    draft.load_state_dict(weights)
    return draft.eval().requires_grad_(False)
