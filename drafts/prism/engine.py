"""PRISM inside SGLang: EAGLE's machinery with one module per draft step.

All modules are built as layer 0, so they share one slot of the draft's KV pool. Which module runs is plain Python that
depends on the call alone, never on data: passes over accepted tokens (prefill, chunked prefill, the extension after a
verify step) are draft step 1, and the decode passes of a round are steps 2, 3, … in their order. SGLang captures a
whole round's passes into one CUDA graph, so the choice is part of the graph. With a fusion matrix step 1 reads several
layers of the target, alike for all modules.

Source: PRISM (arXiv 2602.01762, section 3.2); SGLang 0.5.17, srt/models/llama_eagle.py.
"""

from __future__ import annotations

from typing import Any

import torch
from sglang.srt.layers.vocab_parallel_embedding import VocabParallelEmbedding
from sglang.srt.models.llama_eagle import LlamaDecoderLayer
from torch import Tensor, nn

from draftbench.harness.runtime.drafts.fusion import FusedDraft, fused, new_fusion, reads
from draftbench.harness.runtime.drafts.steps import StepCounter, SteppedDraftWorker


class PrismEngineModule(nn.Module):
    """One fusion matrix and one LLaMA layer without an input norm."""

    def __init__(self, config: Any, quant_config: Any, prefix: str) -> None:
        super().__init__()
        self.fc = nn.Linear(2 * config.hidden_size, config.hidden_size)
        self.layer = LlamaDecoderLayer(config, 0, quant_config=quant_config, prefix=f"{prefix}.layer")

    def forward(self, positions: Tensor, embedded_ND: Tensor, hidden_ND: Tensor, forward_batch: Any) -> Tensor:
        """Fuse the embedding with the hidden state, then the layer."""
        fused_ND = self.fc(torch.cat((embedded_ND, hidden_ND), dim=-1))
        out_ND, residual_ND = self.layer(positions, fused_ND, forward_batch, None)
        return out_ND + residual_ND


class PrismModel(nn.Module):
    """The target's embedding and M modules. Shapes: N tokens, D hidden size."""

    def __init__(self, config: Any, quant_config: Any = None, prefix: str = "") -> None:
        super().__init__()
        self.embed_tokens = VocabParallelEmbedding(config.vocab_size, config.hidden_size)
        self.step_to_module: tuple[int, ...] = tuple(config.step_to_module)
        self.prism_modules = nn.ModuleList(
            PrismEngineModule(config, quant_config, f"{prefix}.prism_modules.{number}")
            for number in range(max(self.step_to_module) + 1)
        )
        self.fusion_layer = new_fusion(config)
        self.steps = StepCounter()

    def forward(
        self,
        input_ids: Tensor,
        positions: Tensor,
        forward_batch: Any,
        input_embeds: Tensor | None = None,
        pp_proxy_tensors: Any = None,
    ) -> Tensor:
        """Estimated hidden states [N, D] after the target's final norm."""
        module = self.prism_modules[self.step_to_module[self.steps.step_of(forward_batch) - 1]]
        embedded_ND = self.embed_tokens(input_ids) if input_embeds is None else input_embeds
        hidden_ND = fused(self.fusion_layer, forward_batch.spec_info.hidden_states)
        out_ND: Tensor = module(positions, embedded_ND, hidden_ND, forward_batch)
        return out_ND


class LlamaForCausalLMPrism(FusedDraft):
    """The name under which SGLang loads it."""

    model: PrismModel
    model_class = PrismModel

    @property
    def steps(self) -> StepCounter:
        """Which draft step it is."""
        return self.model.steps

    def draft_facts(self) -> dict[str, Any]:
        """What the receipt says of this draft."""
        return {
            "num_modules": len(self.model.prism_modules),
            "step_to_module": list(self.model.step_to_module),
            "reads": reads(self.config),
        }


class PrismDraftWorker(SteppedDraftWorker):
    """Named for the receipt."""


MODELS = (LlamaForCausalLMPrism,)
DRAFT_WORKER = PrismDraftWorker
