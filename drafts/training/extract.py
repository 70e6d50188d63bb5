"""The target's passes: hidden states of samples, many at a time.

Shapes: B batch, T tokens, D hidden size, n tokens of one sample.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from draftbench.drafts.training.hf import Target

TOKENS_AT_ONCE = {"cpu": 2048, "cuda": 16384}
"""Tokens that the target reads at once: on a CPU few enough for its cache."""


@torch.no_grad()
def states_of(
    target: Target, ids: Sequence[np.ndarray], layers: Sequence[int]
) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
    """Every sample's states, samples of like length together.

    Yields:
        A sample's index and its states [n, D]: after the final norm, then the outputs of the layers (from 0).
    """
    device = target.lm_head.weight.device
    lengths = np.array([len(each) for each in ids])
    for chosen in by_length(lengths, TOKENS_AT_ONCE.get(device.type, 2048), np.arange(len(ids))):
        ids_BT = torch.zeros(len(chosen), int(lengths[chosen].max()), dtype=torch.long)
        for row, index in enumerate(chosen):
            ids_BT[row, : lengths[index]] = torch.from_numpy(ids[index].astype(np.int64))
        # Padding stands behind, where causal attention does not look: no mask is needed.
        seen = target.model(input_ids=ids_BT.to(device), use_cache=False, output_hidden_states=bool(layers))
        kept = [seen.last_hidden_state, *(seen.hidden_states[layer + 1] for layer in layers)]
        for row, index in enumerate(chosen):
            yield int(index), tuple(states_BTD[row, : lengths[index]] for states_BTD in kept)


def by_length(lengths: np.ndarray, tokens_at_once: int, order: np.ndarray) -> list[np.ndarray]:
    """Cut samples into groups of at most so many padded tokens; `order` breaks ties of like lengths."""
    ordered = order[np.argsort(lengths[order] // 16, kind="stable")]
    groups: list[np.ndarray] = []
    begin, longest = 0, 0
    for end, index in enumerate(ordered):
        longest = max(longest, int(lengths[index]))
        if end > begin and longest * (end - begin + 1) > tokens_at_once:
            groups.append(ordered[begin:end])
            begin, longest = end, int(lengths[index])
    groups.append(ordered[begin:])
    return [group for group in groups if len(group)]
