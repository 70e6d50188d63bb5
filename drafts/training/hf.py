"""The one place that imports transformers for training, made importable beside a CPU build of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from draftbench.drafts.layout import draft_fields
from draftbench.harness.errors import TrainingError

if not torch.cuda.is_available():
    # torchvision's compiled operators do not load beside a CPU build of torch, but its Python part, which transformers
    # imports, registers fake kernels for these two: their schemas have to exist. An engine may have defined them.
    _TORCHVISION = torch.library.Library("torchvision", "FRAGMENT")
    for _name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, _name):
            _TORCHVISION.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

Target = LlamaForCausalLM
"""What a target has to look like: `model`, `lm_head`, input embeddings. Other decoders of the hub do too."""

ROPE_KINDS = ("default", "linear", "dynamic", "llama3", "yarn")
"""Scalings of rotary frequencies that transformers and SGLang's LLaMA layers compute alike."""


def rotary_of(config: Mapping[str, Any]) -> tuple[Tensor, float]:
    """What a draft's heads are rotated by: angles a position [C / 2], and the factor of cosine and sine.

    `dynamic` frequencies are those of the longest sequence, which SGLang takes for all (0.5.17, rotary_embedding).

    Raises:
        TrainingError: rope_scaling is of another kind.
    """
    fields = draft_fields(config)
    described: Any = LlamaConfig(**fields)
    kind = described.rope_parameters.get("rope_type", "default")
    if kind not in ROPE_KINDS:
        raise TrainingError(
            f"the target's rope_scaling is {kind}, which drafts cannot be trained with; allowed: "
            f"{', '.join(ROPE_KINDS)}."
        )
    if kind == "dynamic":
        longest = int(described.rope_parameters["factor"] * described.max_position_embeddings)
        angles, scale = ROPE_INIT_FUNCTIONS["dynamic"](described, torch.device("cpu"), longest)
        return angles, float(scale)
    rotary: Any = LlamaRotaryEmbedding(described)
    return rotary.inv_freq, float(rotary.attention_scaling)


__all__ = ["AutoModelForCausalLM", "LlamaConfig", "LlamaForCausalLM", "Target", "rotary_of"]
