"""S2D inside SGLang's STANDALONE: its LLaMA, left at the first exit that is sure.

Only a round's decode passes (draft steps 2, 3, …) leave early: passes over prompts and accepted tokens run all layers,
as what they write is kept. Rows of a pass leave each for itself; where all of them have left, the layers behind write
their keys and values alone and their feed-forward blocks are not computed. A CUDA graph cannot do the latter: it holds
all layers, and the exits decide only which token is drafted.
Source: S2D (arXiv 2407.01955); SGLang 0.5.17, srt/models/llama.py. Shapes: N tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from sglang.srt.distributed import tensor_model_parallel_all_gather
from sglang.srt.models.llama import LlamaForCausalLM, LlamaModel
from torch import Tensor

from draftbench.drafts.s2d.spec import EXITS, THRESHOLDS


class NestedModel(LlamaModel):
    """SGLang's layers with exits; the head is the embedding."""

    def __init__(self, config: Any, quant_config: Any = None, prefix: str = "") -> None:
        super().__init__(config, quant_config=quant_config, prefix=prefix)
        exits, thresholds = getattr(config, EXITS), getattr(config, THRESHOLDS)
        self.thresholds = dict(zip(exits[:-1], thresholds, strict=True))

    def forward(
        self,
        input_ids: Tensor,
        positions: Tensor,
        forward_batch: Any,
        input_embeds: Tensor | None = None,
        pp_proxy_tensors: Any = None,
    ) -> Tensor:
        """Hidden states [N, D], after the final norm, of the exit where each token leaves."""
        x_ND = self.embed_tokens(input_ids) if input_embeds is None else input_embeds
        thresholds = self.thresholds if forward_batch.forward_mode.is_decode() else {}
        left_N1: Tensor | None = None
        for number, layer in enumerate(self.layers, 1):
            if left_N1 is not None and not _recording() and bool(left_N1.all()):
                layer.self_attn(positions, layer.input_layernorm(x_ND), forward_batch)
                continue
            # SGLang's norms write into the residual; those that have left keep theirs.
            out_ND, residual_ND = layer(positions, x_ND if left_N1 is None else x_ND.clone(), forward_batch, None)
            x_ND = out_ND + residual_ND if left_N1 is None else torch.where(left_N1, x_ND, out_ND + residual_ND)
            if (threshold := thresholds.get(number)) is not None:
                sure_N1 = self._confidence_N1(x_ND) >= threshold
                left_N1 = sure_N1 if left_N1 is None else left_N1 | sure_N1
        found: Tensor = self.norm(x_ND)
        return found

    def _confidence_N1(self, x_ND: Tensor) -> Tensor:
        """The probability of the token that is likeliest after these states; every rank has a part of the head."""
        own_NV = torch.matmul(self.norm(x_ND), self.embed_tokens.weight.T)
        logits_NV: Tensor = tensor_model_parallel_all_gather(own_NV)[:, : self.vocab_size]
        return logits_NV.float().softmax(-1).amax(-1, keepdim=True)


class LlamaForCausalLMNested(LlamaForCausalLM):
    """The name under which SGLang loads it."""

    def _init_model(self, config: Any, quant_config: Any = None, prefix: str = "") -> NestedModel:
        return NestedModel(config, quant_config=quant_config, prefix=prefix)

    def draft_facts(self) -> dict[str, Any]:
        """What the receipt says of this draft."""
        return {EXITS: list(getattr(self.config, EXITS)), THRESHOLDS: list(getattr(self.config, THRESHOLDS))}


def _recording() -> bool:
    """Whether a CUDA graph is being recorded, in which nothing may depend on data."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


MODELS = (LlamaForCausalLMNested,)
