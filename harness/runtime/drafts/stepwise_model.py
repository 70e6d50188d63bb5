"""A stepwise draft inside SGLang: the torch module that was trained, with its attention read from the engine's KV pool.

The module is asked for one draft step at a time, as in training: tokens, hidden states and positions in, hidden states
out, and whenever it attends it calls `attend(index, q, k, v)`. Here that call writes keys and values into the slot of
layer `index` and reads what SGLang says the entry may see: prefixes, chunks, branches, cached prefixes and all.

Shapes: N entries of all requests, H heads, C head size, D hidden size, V vocabulary, n tokens that step 1 reads.
"""

from __future__ import annotations

from typing import Any

import torch
from sglang.srt.distributed import (
    get_tensor_model_parallel_rank,
    get_tensor_model_parallel_world_size,
    tensor_model_parallel_all_gather,
)
from sglang.srt.layers.logits_processor import LogitsProcessor
from sglang.srt.layers.radix_attention import RadixAttention
from sglang.srt.layers.vocab_parallel_embedding import VocabParallelEmbedding
from sglang.srt.model_executor.forward_context import get_attn_backend, get_token_to_kv_pool
from torch import Tensor, nn

from draftbench.drafts.stepwise import made
from draftbench.harness.runtime.drafts.steps import StepCounter, SteppedDraftWorker


class Remembered:
    """The token of every slot in the KV pool, for drafts whose first step reads an entry's last tokens.

    Slots are shared by cached prefixes; only where the draft's tokens are the same, since SGLang keys them by pairs.
    """

    def __init__(self, num_read: int) -> None:
        self._num_read = num_read
        self._tokens: Tensor | None = None

    def read(self, input_ids_N: Tensor, positions_N: Tensor, forward_batch: Any) -> Tensor:
        """An entry's own token [N], or its last ones [N, n], the oldest first and a request's first repeated."""
        if self._num_read == 1:
            return input_ids_N
        if self._tokens is None:
            pool = get_token_to_kv_pool()
            self._tokens = torch.zeros(pool.size + pool.page_size, dtype=torch.long, device=input_ids_N.device)
        self._tokens[forward_batch.out_cache_loc] = input_ids_N.long()
        rows_N = forward_batch.req_pool_indices.repeat_interleave(forward_batch.extend_seq_lens)
        back = torch.arange(self._num_read - 1, -1, -1, device=positions_N.device)
        places_Nn = positions_N[:, None] - torch.minimum(back, positions_N[:, None])
        slots_Nn = get_attn_backend().req_to_token[rows_N[:, None], places_Nn]
        return self._tokens[slots_Nn.long()]


class StepwiseDraftModel(nn.Module):
    """Any draft of `draftbench.drafts.stepwise`; the engine's config.json names its maker under `stepwise_factory`."""

    def __init__(self, config: Any, quant_config: Any = None, prefix: str = "") -> None:
        super().__init__()
        self.config = config
        self.draft = made(vars(config))
        ranks, size = get_tensor_model_parallel_world_size(), config.head_dim
        if config.num_attention_heads % ranks:
            raise ValueError(f"{config.num_attention_heads} attention heads cannot be shared by {ranks} devices")
        heads = config.num_attention_heads // ranks
        self.attention = nn.ModuleList(
            RadixAttention(heads, size, size**-0.5, num_kv_heads=heads, layer_id=index)
            for index in range(config.num_hidden_layers)
        )
        self.own_heads = slice(get_tensor_model_parallel_rank() * heads, (get_tensor_model_parallel_rank() + 1) * heads)
        """Every rank runs the whole module, but keeps the keys and values of these heads alone."""
        self.logits_processor = LogitsProcessor(config)
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.steps = StepCounter()
        self.remembered = Remembered(getattr(self.draft, "reads_tokens", 1))
        self.has_wide_states = hasattr(self.draft, "scored")
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
        self.draft.embed_tokens = VocabParallelEmbedding(self.config.vocab_size, self.config.hidden_size)
        self.draft.embed_tokens.weight = nn.Parameter(embed, requires_grad=False)
        self.head.weight = nn.Parameter(head, requires_grad=False)

    def draft_facts(self) -> dict[str, Any]:
        """What the receipt says of this draft."""
        found: dict[str, Any] = self.config.stepwise_facts
        return found

    def forward(self, input_ids: Tensor, positions: Tensor, forward_batch: Any, **_: Any) -> Any:
        """Scores of the next drafts, and the hidden states that the next step reads."""
        step = self.steps.step_of(forward_batch)

        def attend(index: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            own_q, own_k, own_v = (x[:, self.own_heads].transpose(1, 2).flatten(0, 1) for x in (q, k, v))
            if not q.shape[2]:
                slots = forward_batch.out_cache_loc
                get_token_to_kv_pool().set_kv_buffer(self.attention[index], slots, own_k, own_v)
                return q
            flat = [x.flatten(1) for x in (own_q, own_k, own_v)]
            out: Tensor = tensor_model_parallel_all_gather(self.attention[index](*flat, forward_batch))
            return out.view(1, -1, *q.shape[1::2]).transpose(1, 2)

        hidden_ND = forward_batch.spec_info.hidden_states
        tokens = self.remembered.read(input_ids, positions, forward_batch) if step == 1 else input_ids
        state_NW = self.draft(tokens[None], hidden_ND[None], positions[None], attend, step)[0]
        if not self.has_wide_states:
            return self.logits_processor(input_ids, state_NW, self.head, forward_batch)
        scored_ND = self.draft.scored(state_NW, step)
        return self.logits_processor(input_ids, scored_ND, self.head, forward_batch, aux_hidden_states=state_NW)


class StepwiseDraftWorker(SteppedDraftWorker):
    """Captures no graphs for drafts with states of their own: SGLang's buffers are as wide as a hidden state."""

    def _capture_cuda_graphs(self) -> None:
        if self.draft_runner.model.has_wide_states:
            self.cuda_graph_runner = self.cuda_graph_runner_for_draft_extend = None
        else:
            super()._capture_cuda_graphs()


MODELS = (StepwiseDraftModel,)
DRAFT_WORKER = StepwiseDraftWorker
