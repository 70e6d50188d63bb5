"""An EAGLE head on several layers of the target inside SGLang, which has it on the last hidden state alone.

It is PRISM's control: whether turns of modules or the layers help. Shapes: N tokens, D hidden size, L layers.
Source: SGLang 0.5.17, srt/models/llama_eagle.py, whose forward pass this repeats but for the fusion.
"""

from __future__ import annotations

from typing import Any

import torch
from sglang.srt.models.llama_eagle import LlamaModel
from torch import Tensor

from draftbench.harness.runtime.drafts.fusion import FusedDraft, fused, new_fusion, reads


class FusedModel(LlamaModel):
    """EAGLE's layers behind a fusion of the target's."""

    def __init__(self, config: Any, quant_config: Any = None, prefix: str = "") -> None:
        super().__init__(config, quant_config=quant_config, prefix=prefix)
        self.fusion_layer = new_fusion(config)

    def forward(
        self,
        input_ids: Tensor,
        positions: Tensor,
        forward_batch: Any,
        input_embeds: Tensor | None = None,
        pp_proxy_tensors: Any = None,
    ) -> Tensor:
        """Estimated hidden states [N, D] after the target's final norm."""
        embedded_ND = self.embed_tokens(input_ids) if input_embeds is None else input_embeds
        hidden_ND = fused(self.fusion_layer, forward_batch.spec_info.hidden_states)
        out_ND, residual_ND = self.fc(torch.cat((embedded_ND, hidden_ND), dim=-1)), None
        for layer in self.layers:
            out_ND, residual_ND = layer(positions, out_ND, forward_batch, residual_ND)
        found: Tensor = out_ND + residual_ND
        return found


class LlamaForCausalLMEagleFused(FusedDraft):
    """The name under which SGLang loads it."""

    model_class = FusedModel

    def draft_facts(self) -> dict[str, Any]:
        """What the receipt says of this draft."""
        return {"reads": reads(self.config)}


MODELS = (LlamaForCausalLMEagleFused,)
