"""The one place that imports transformers for training, made importable beside a CPU build of torch."""

from __future__ import annotations

import torch

if not torch.cuda.is_available():
    # torchvision's compiled operators do not load beside a CPU build of torch, but its Python part, which transformers
    # imports, registers fake kernels for these two: their schemas have to exist. An engine may have defined them.
    _TORCHVISION = torch.library.Library("torchvision", "FRAGMENT")
    for _name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, _name):
            _TORCHVISION.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

Target = LlamaForCausalLM
"""What a target has to look like: `model`, `lm_head`, input embeddings. Other decoders of the hub do too."""

__all__ = ["AutoModelForCausalLM", "LlamaConfig", "LlamaForCausalLM", "Target"]
