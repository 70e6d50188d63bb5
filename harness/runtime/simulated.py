"""Acceptance drawn from given α_k in place of the verifier's, for figures of the kind "what if a draft accepted so".

SGLang's own simulation (SGLANG_SIMULATE_ACC_LEN, 0.5.17, speculative/spec_utils.py) draws one length for the whole
batch, and only the two whole numbers around its mean; so what it does to a round is done here, with a length of its own
for every request: the first nodes of the tree count as the accepted path, and one legitimate token stands for all.
Passes, their shapes and the recorder are those of any round.

Where α_k are given by workload, a request's id says whose it takes: it begins with its cell's slug. Requests that are
not measured (warm-up, reference, health checks) take the first workload's.

Shapes: B requests, S draft steps, W width of a round's accepted path (S + 1), N workloads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

TOKEN = 100
"""SGLang's choice for the same purpose."""
MEASURED = re.compile(r"l\d+-b\d+-(.*)-\d+-[0-9a-f]{8}")
"""The id of a request that is measured: launch, block, then arm, workload and load point, its number, chance. Passes
that are not measured have blocks below zero."""


GOLDEN = 0.6180339887498949
"""(√5 − 1) / 2: points so far apart on a circle lie evenly, however many they are."""


def draw_lengths(alphas: Tensor, chances_B: Tensor) -> Tensor:
    """Accepted drafts of each request [B]: step k is accepted with probability α_k if all steps before it were.

    Args:
        alphas: of all requests [S], or of each [B, S].
        chances_B: evenly distributed from 0 to 1; a round reaches step k where its chance is below α_1 · … · α_k.
    """
    return (chances_B[:, None] < alphas.cumprod(dim=-1)).long().sum(dim=1)


class Chances:
    """Each request's chance, round after round: the first is drawn, every later one lies a golden section on.

    So already few rounds accept nearly as many drafts as the α_k give: the mean of 60 independent draws around an
    acceptance length of 4 would be off by 6%, these by 1%.
    """

    def __init__(self, seed: int, device: Any) -> None:
        self._generator = torch.Generator(device).manual_seed(seed)
        self._ids: tuple[str, ...] = ()
        self._chances_B = torch.empty(0, device=device)

    def next(self, ids: Sequence[str]) -> Tensor:
        """The requests' chances [B]. In a batch of other requests than the last one all begin anew."""
        if tuple(ids) != self._ids:
            self._ids, device = tuple(ids), self._chances_B.device
            self._chances_B = torch.rand(len(ids), generator=self._generator, device=device)
        else:
            self._chances_B = (self._chances_B + GOLDEN) % 1
        return self._chances_B


class AlphasByRequest:
    """Chooses the α_k of a batch's requests by the workloads that their ids name.

    Args:
        alphas: of each workload.
        points: workload by what the slugs of its cells have in common (`point_slug`).
    """

    def __init__(self, alphas: Mapping[str, Sequence[float]], points: Mapping[str, str], device: Any) -> None:
        self._number = {workload: number for number, workload in enumerate(alphas)}
        self._points = points
        self._alphas_NS = torch.tensor(list(alphas.values()), device=device)
        self._chosen: dict[tuple[int, ...], Tensor] = {}

    def of(self, ids: Sequence[str]) -> Tensor:
        """α_k of each request [B, S]. Kept by combination, so that the device is not waited for at every round.

        Raises:
            RuntimeError: a measured request of a cell that is not in the suite.
        """
        numbers = tuple(self._number_of(name) for name in ids)
        if numbers not in self._chosen:
            self._chosen[numbers] = self._alphas_NS[list(numbers)]
        return self._chosen[numbers]

    def _number_of(self, name: str) -> int:
        found = MEASURED.fullmatch(name)
        if found is None:
            return 0
        if found[1] not in self._points:
            raise RuntimeError(f"acceptance is simulated by workload, and request {name} is of none: {found[1]}")
        return self._number[self._points[found[1]]]


def request_ids(batch: Any, num_requests: int) -> list[str]:
    """The ids of the requests that are verified, in their order.

    Raises:
        RuntimeError: the batch does not say them, so nobody knows whose acceptance is drawn.
    """
    found = [request.rid for request in getattr(batch, "reqs", None) or ()]
    if len(found) != num_requests:
        raise RuntimeError(
            f"acceptance is simulated by request, but {type(batch).__name__} names {len(found)} requests at a verify "
            f"step of {num_requests}"
        )
    return found


def accepted_rows(accept_index_BW: Tensor, lengths_B: Tensor) -> Tensor:
    """SGLang's accepted path [B, W]: each request's root, then its next nodes in their order, -1 behind them."""
    steps_W = torch.arange(accept_index_BW.shape[1], device=accept_index_BW.device)
    path_BW = accept_index_BW[:, :1] + steps_W.to(accept_index_BW.dtype)
    return torch.where(steps_W <= lengths_B[:, None], path_BW, -1)


def simulate_acceptance(
    alphas: Sequence[float] | Mapping[str, Sequence[float]], seed: int, points: Mapping[str, str]
) -> None:
    """Let every verify step of this process accept as drawn, with α_k of all requests or of each workload.

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
            if isinstance(alphas, Mapping):
                state["by request"] = AlphasByRequest(alphas, points, predict.device)
            else:
                state["alphas"] = torch.tensor(alphas, device=predict.device)
            state["chances"] = Chances(seed, predict.device)
        ids, by_request = request_ids(batch, len(accept_lens)), state.get("by request")
        drawn_from = state["alphas"] if by_request is None else by_request.of(ids)
        longest = min(accept_index.shape[1], verify_input.draft_token_num) - 1
        lengths_B = draw_lengths(drawn_from, state["chances"].next(ids)).clamp(max=longest)
        return (
            torch.full_like(predict, TOKEN),
            (lengths_B + 1).to(accept_lens.dtype),
            accepted_rows(accept_index, lengths_B),
        )

    for module in (eagle_utils, eagle_worker_common):
        module.eagle_sample = eagle_sample
