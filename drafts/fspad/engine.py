"""FSPAD inside SGLang: EAGLE's layer with a sampled input and two output states.

SGLang scores what a draft model returns and hands `aux` hidden states to the next step, as for EAGLE-3: the two states.
Source: FSPAD (arXiv 2408.15562); SGLang 0.5.17, srt/models/llama_eagle.py. Shapes: N tokens, D hidden size.
"""

from __future__ import annotations

from typing import Any

import torch
from sglang.srt.layers.layernorm import RMSNorm
from sglang.srt.layers.linear import RowParallelLinear
from sglang.srt.layers.vocab_parallel_embedding import VocabParallelEmbedding
from sglang.srt.models.llama_eagle import LlamaDecoderLayer
from torch import Tensor, nn

from draftbench.harness.runtime.drafts.fusion import FusedDraft


class EngineFeatureSampling(nn.Module):
    """The gated block that lets the token choose from the state."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.gate = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, embedded_ND: Tensor, x_ND: Tensor) -> Tensor:
        """What is added to the state."""
        out_ND: Tensor = self.down(nn.functional.silu(self.gate(embedded_ND)) * self.up(self.norm(x_ND)))
        return out_ND


class FspadModel(nn.Module):
    """The target's embedding, fusion, sampling, and a layer with two states."""

    def __init__(self, config: Any, quant_config: Any = None, prefix: str = "") -> None:
        super().__init__()
        size = config.hidden_size
        self.embed_tokens = VocabParallelEmbedding(config.vocab_size, size)
        self.fc = nn.Linear(2 * size, size)
        self.sampling = EngineFeatureSampling(config)
        layer = LlamaDecoderLayer(config, 0, quant_config=quant_config, prefix=f"{prefix}.layers.0")
        layer.mlp.down_proj = RowParallelLinear(
            config.intermediate_size,
            2 * size,
            bias=False,
            quant_config=quant_config,
            prefix=f"{prefix}.layers.0.mlp.down_proj",
        )
        self.layers = nn.ModuleList([layer])

    def forward(
        self,
        input_ids: Tensor,
        positions: Tensor,
        forward_batch: Any,
        input_embeds: Tensor | None = None,
        pp_proxy_tensors: Any = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """The state to score [N, D], and the one that the next step reads."""
        embedded_ND = self.embed_tokens(input_ids) if input_embeds is None else input_embeds
        x_ND = self.fc(torch.cat((embedded_ND, forward_batch.spec_info.hidden_states), dim=-1))
        x_ND = x_ND + self.sampling(embedded_ND, x_ND)
        both_NX, residual_ND = self.layers[0](positions, x_ND, forward_batch, None)
        scored_ND, next_ND = (part_ND + residual_ND for part_ND in both_NX.chunk(2, dim=-1))
        return scored_ND, [next_ND]


class LlamaForCausalLMFspad(FusedDraft):
    """The name under which SGLang loads it."""

    model_class = FspadModel

    def __init__(self, config: Any, quant_config: Any = None, prefix: str = "") -> None:
        super().__init__(config, quant_config, prefix)
        self.capture_aux_hidden_states = True


MODELS = (LlamaForCausalLMFspad,)
