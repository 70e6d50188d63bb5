"""Medusa heads inside SGLang: no passes and no KV of its own; the tree goes to the verifier that EAGLE's goes to.

The heads look at the target's hidden state of the last verified token. Head 1's candidates are made right after the
verify step, as SGLang's EAGLE worker makes its first step's, the others' when the next round begins.

Source: Medusa (arXiv 2401.10774, section 3.1); SGLang 0.5.17, srt/speculative/eagle_worker_v2.py.

Shapes: B requests, D hidden size, S heads in use (num_steps), T candidates of a head (topk).
"""

from __future__ import annotations

from typing import Any

import torch
from sglang.srt.speculative.eagle_info import EagleDraftInput
from sglang.srt.speculative.eagle_worker_common import build_eagle_verify_input
from sglang.srt.speculative.eagle_worker_v2 import EagleDraftWorker
from torch import Tensor, nn

from draftbench.drafts.medusa.model import ResidualBlock
from draftbench.drafts.medusa.tree import TreeTable, possible_paths


class MedusaHeads(nn.Module):
    """The heads under their published names; whole on every rank."""

    def __init__(self, config: Any, quant_config: Any = None, prefix: str = "") -> None:
        super().__init__()
        self.config = config
        size, vocab, num_blocks = config.hidden_size, config.vocab_size, config.medusa_num_layers
        self.heads = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(size) for _ in range(num_blocks)), nn.Linear(size, vocab, bias=False))
            for _ in range(config.medusa_num_heads)
        )
        self.choices: list[list[int]] | None = config.medusa_choices

    def load_weights(self, weights: Any) -> None:
        """Fill every head; names are checked before."""
        parameters = dict(self.heads.named_parameters())
        for name, tensor in weights:
            parameters[name].data.copy_(tensor)

    def set_embed_and_head(self, embed: Tensor, head: Tensor) -> None:
        """Medusa uses neither."""

    def candidates(self, hidden_BD: Tensor, head: int, topk: int) -> tuple[Tensor, Tensor]:
        """The `topk` likeliest tokens of a head (from 1): probabilities and ids, [B, T] each."""
        top = self.heads[head - 1](hidden_BD).float().softmax(-1).topk(topk)
        return top.values, top.indices

    def draft_facts(self) -> dict[str, Any]:
        """What the receipt says of this draft."""
        return {"num_heads": self.config.medusa_num_heads, "num_blocks": self.config.medusa_num_layers}


class MedusaDraftWorker(EagleDraftWorker):
    """Takes the place of EAGLE's draft worker: the same calls, heads in place of passes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = self.draft_runner.model.choices
        size = (self.speculative_num_steps, self.topk, self.speculative_num_draft_tokens - 1)
        paths = possible_paths(*size) if choices is None else [tuple(path) for path in choices]
        self.table = TreeTable(paths, *size, self.device)

    def init_cuda_graphs(self) -> None:
        """None: the heads are a few kernels, and there is no pass to capture."""
        self.cuda_graph_runner = self.cuda_graph_runner_for_draft_extend = None

    def draft(self, batch: Any) -> Any:
        """The later heads' candidates and the tree."""
        state: EagleDraftInput = batch.spec_info
        model: MedusaHeads = self.draft_runner.model
        tops = [(state.topk_p, state.topk_index)]
        tops += [
            model.candidates(state.hidden_states, head, self.topk) for head in range(2, self.speculative_num_steps + 1)
        ]
        probs_BST = torch.stack([probs for probs, _ in tops], dim=1)
        tokens_BST = torch.stack([ids for _, ids in tops], dim=1)
        tree = build_eagle_verify_input(
            batch,
            state,
            *self.table.select(probs_BST, tokens_BST),
            None,
            target_worker=self.target_worker,
            topk=self.table.stride,
            num_steps=self.speculative_num_steps,
            num_draft_tokens=self.speculative_num_draft_tokens,
            tree_mask_mode=self.tree_mask_mode,
            device=self.device,
        )
        tree.topk = self.topk
        return tree

    def _draft_extend_for_prefill(
        self, batch: Any, target_hidden_states: Tensor, next_token_ids: Tensor, mm_input_embeds: Any = None
    ) -> EagleDraftInput:
        """Head 1's candidates at each request's last token."""
        lengths = torch.as_tensor(batch.extend_lens, device=target_hidden_states.device)
        hidden_BD = target_hidden_states[lengths.cumsum(0) - 1]
        probs_BT, tokens_BT = self.draft_runner.model.candidates(hidden_BD, 1, self.topk)
        return EagleDraftInput(
            topk_p=probs_BT,
            topk_index=tokens_BT,
            hidden_states=hidden_BD,
            bonus_tokens=next_token_ids,
            num_tokens_per_req=1,
            num_tokens_for_logprob_per_req=1,
        )

    def _draft_extend_for_decode(self, batch: Any, batch_result: Any) -> None:
        """Head 1's candidates at the last accepted tokens; SGLang has moved accepted rows to each block's front."""
        lengths_B = batch_result.accept_lens
        first_B = torch.arange(len(lengths_B), device=lengths_B.device) * self.speculative_num_draft_tokens
        hidden_BD = batch_result.logits_output.hidden_states[first_B + lengths_B - 1]
        state = batch_result.next_draft_input
        state.topk_p, state.topk_index = self.draft_runner.model.candidates(hidden_BD, 1, self.topk)
        state.hidden_states = hidden_BD


MODELS = (MedusaHeads,)
DRAFT_WORKER = MedusaDraftWorker
