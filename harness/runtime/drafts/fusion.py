"""Several layers of the target in place of its last hidden state, for drafts that read them at their first step.

SGLang hands such layers out under EAGLE3 alone, side by side; a draft's own hidden states, which later steps read, are
as wide as one. So the width tells the step, as in SGLang's EAGLE-3 (0.5.17, srt/models/llama_eagle3.py).
"""

from __future__ import annotations

from typing import Any

from sglang.srt.distributed import get_pp_group
from sglang.srt.layers.logits_processor import LogitsProcessor
from sglang.srt.layers.vocab_parallel_embedding import ParallelLMHead
from sglang.srt.models.llama_eagle import LlamaForCausalLMEagle
from torch import Tensor, nn

from draftbench.drafts.layout import LAST, layers_read


class FusedDraft(LlamaForCausalLMEagle):
    """A draft model as SGLang loads it; embedding and head are put in from the target, as for EAGLE.

    Attributes:
        model_class: what it is besides these.
        hot_token_id, load_lm_head_from_target: what SGLang's EAGLE3 asks of a draft: no vocabulary of its own, the
            target's output head.
    """

    model_class: type[nn.Module]
    hot_token_id = None
    load_lm_head_from_target = True

    def __init__(self, config: Any, quant_config: Any = None, prefix: str = "") -> None:
        nn.Module.__init__(self)
        self.config, self.quant_config = config, quant_config
        self.pp_group = get_pp_group()
        self.model = self.model_class(config, quant_config, "model")
        self.lm_head = ParallelLMHead(config.vocab_size, config.hidden_size)
        self.logits_processor = LogitsProcessor(config)
        self.capture_aux_hidden_states = False


def new_fusion(config: Any) -> nn.Linear | None:
    """The matrix that makes one hidden state of them."""
    num_read, size = len(layers_read(vars(config))), config.hidden_size
    return nn.Linear(num_read * size, size) if num_read else None


def fused(fusion: nn.Linear | None, hidden_NX: Tensor) -> Tensor:
    """Hidden states [N, D], of the layers' outputs [N, L * D] at the first step, as they are at later ones."""
    if fusion is None or hidden_NX.shape[-1] != fusion.in_features:
        return hidden_NX
    out_ND: Tensor = fusion(hidden_NX)
    return out_ND


def reads(config: Any) -> list[int] | str:
    """For the receipt."""
    return layers_read(vars(config)) or LAST
