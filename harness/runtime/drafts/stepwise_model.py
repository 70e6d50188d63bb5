"""A stepwise draft inside SGLang: the torch module that was trained, with its attention read from the engine's KV pool.

The module is asked for one draft step at a time, as in training: tokens, hidden states and positions in, hidden states
out, and whenever it attends it calls `attend(index, q, k, v)`. Here that call writes keys and values into the slot of
layer `index` and reads what SGLang says the entry may see: prefixes, chunks, branches, cached prefixes and all.

Shapes: N entries of all requests, H heads, C head size, D hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import Any

from sglang.srt.layers.logits_processor import LogitsProcessor
from sglang.srt.layers.radix_attention import RadixAttention
from torch import Tensor, nn

from draftbench.drafts.stepwise import made
from draftbench.harness.runtime.drafts.steps import StepCounter, SteppedDraftWorker


class StepwiseDraftModel(nn.Module):
    """Any draft of `draftbench.drafts.stepwise`; the engine's config.json names its maker under `stepwise_factory`."""

    def __init__(self, config: Any, quant_config: Any = None, prefix: str = "") -> None:
        super().__init__()
        self.config = config
        self.draft = made(vars(config))
        heads, size = config.num_attention_heads, config.head_dim
        self.attention = nn.ModuleList(
            RadixAttention(heads, size, size**-0.5, num_kv_heads=heads, layer_id=index)
            for index in range(config.num_hidden_layers)
        )
        self.logits_processor = LogitsProcessor(config)
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.steps = StepCounter()
        # What SGLang asks of drafts that read several layers: no vocabulary of their own, the target's head.
        self.hot_token_id = None
        self.load_lm_head_from_target = True

    def load_weights(self, weights: Any) -> None:
        """Fill the module; its names were compared before."""
        state = self.draft.state_dict()
        for name, tensor in weights:
            if name in state:
                state[name].copy_(tensor)

    def set_embed_and_head(self, embed: Tensor, head: Tensor) -> None:
        """The target's embedding and output head."""
        self.draft.embed_tokens.weight = nn.Parameter(embed, requires_grad=False)
        self.head.weight = nn.Parameter(head, requires_grad=False)

    def draft_facts(self) -> dict[str, Any]:
        """What the receipt says of this draft."""
        return {"factory": self.config.stepwise_factory}

    def forward(self, input_ids: Tensor, positions: Tensor, forward_batch: Any, **_: Any) -> Any:
        """Scores of the next drafts, and the hidden states that the next step reads."""
        step = self.steps.step_of(forward_batch)

        def attend(index: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            flat = [x.transpose(1, 2).flatten(0, 1).flatten(1) for x in (q, k, v)]
            out: Tensor = self.attention[index](*flat, forward_batch)
            return out.view(1, -1, *q.shape[1::2]).transpose(1, 2)

        hidden_ND = forward_batch.spec_info.hidden_states
        out_ND = self.draft(input_ids[None], hidden_ND[None], positions[None], attend, step)[0]
        return self.logits_processor(input_ids, out_ND, self.head, forward_batch)


MODELS = (StepwiseDraftModel,)
DRAFT_WORKER = SteppedDraftWorker
