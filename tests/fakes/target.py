"""A target of two layers with random weights, small enough to train drafts for it within seconds."""

from __future__ import annotations

from typing import Any

import torch

from draftbench.drafts.training.features import Example
from draftbench.drafts.training.hf import LlamaConfig, LlamaForCausalLM

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "num_hidden_layers": 2,
    "max_position_embeddings": 64,
    "model_type": "llama",
}


def new_target(num_layers: int = 2, seed: int = 0) -> LlamaForCausalLM:
    """Random weights; its hidden states are scaled up, so that it is sure of its next tokens."""
    torch.manual_seed(seed)
    config = LlamaConfig(**{**CONFIG, "num_hidden_layers": num_layers}, tie_word_embeddings=True)
    model = LlamaForCausalLM(config)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data.normal_(0.0, 0.3)
    model.lm_head.weight.data.mul_(2.0)
    return model.eval().requires_grad_(False)


@torch.no_grad()
def own_answers(target: LlamaForCausalLM, count: int, size: int = 10) -> list[Example]:
    """The target's greedy answers to random prompts of four tokens."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(2, 64, (count, 4), generator=generator)
    for _ in range(size):
        ids = torch.cat((ids, target(ids).logits[:, -1:].argmax(-1)), dim=1)
    return [Example(tuple(row[:4]), tuple(row[4:])) for row in ids.tolist()]
