"""Acceptance drawn from given α_k in place of the verifier's, for figures of the kind "what if a draft accepted so".

SGLang's own simulation (SGLANG_SIMULATE_ACC_LEN, 0.5.17, speculative/spec_utils.py) draws one length for the whole
batch, and only the two whole numbers around its mean; so what it does to a round is done here, with a length of its own
for every request: the first nodes of the tree count as the accepted path, and one legitimate token stands for all.
Passes, their shapes and the recorder are those of any round.

Shapes: B requests, S draft steps, W width of a round's accepted path (S + 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

TOKEN = 100
"""SGLang's choice for the same purpose."""


def draw_lengths(alphas_S: Tensor, batch: int, generator: torch.Generator) -> Tensor:
    """Accepted drafts of each request [B]: step k is accepted with probability α_k if all steps before it were."""
    drawn_BS = torch.rand(batch, len(alphas_S), generator=generator, device=alphas_S.device)
    return (drawn_BS < alphas_S).long().cumprod(dim=1).sum(dim=1)


def accepted_rows(accept_index_BW: Tensor, lengths_B: Tensor) -> Tensor:
    """SGLang's accepted path [B, W]: each request's root, then its next nodes in their order, -1 behind them."""
    steps_W = torch.arange(accept_index_BW.shape[1], device=accept_index_BW.device)
    path_BW = accept_index_BW[:, :1] + steps_W.to(accept_index_BW.dtype)
    return torch.where(steps_W <= lengths_B[:, None], path_BW, -1)


def simulate_acceptance(alphas: Sequence[float], seed: int) -> None:
    """Let every verify step of this process accept as drawn.

    Callers hold `eagle_sample` by name, so each of their modules gets the wrapped one.
    """
    from sglang.srt.speculative import eagle_utils, eagle_worker_common

    verified = eagle_utils.eagle_sample
    state: dict[str, Any] = {}

    def eagle_sample(verify_input: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        predict, accept_lens, accept_index = verified(verify_input, batch, *args, **kwargs)
        if batch.forward_mode.is_idle():
            return predict, accept_lens, accept_index
        if not state:
            state["alphas"] = torch.tensor(alphas, device=predict.device)
            state["generator"] = torch.Generator(predict.device).manual_seed(seed)
        longest = min(accept_index.shape[1], verify_input.draft_token_num) - 1
        lengths_B = draw_lengths(state["alphas"], len(accept_lens), state["generator"]).clamp(max=longest)
        return (
            torch.full_like(predict, TOKEN),
            (lengths_B + 1).to(accept_lens.dtype),
            accepted_rows(accept_index, lengths_B),
        )

    for module in (eagle_utils, eagle_worker_common):
        module.eagle_sample = eagle_sample
