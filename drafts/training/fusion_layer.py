"""The matrix that makes one hidden state of several layers' outputs, trained alike whatever the layers' size.

Outputs of a target's layers can be a hundred times as large as its last hidden states, and no norm stands between them
and the matrix (PRISM's authors and SGLang have none): an optimiser's step would throw the hidden states far away. So
while it learns, the matrix reads each layer in a unit of its own. Its state is that of the plain matrix: units are
powers of two, so that nothing is rounded.

Shapes: B batch, T entries, D hidden size, E several layers' outputs side by side, n entries of a sample.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


class Fusion(nn.Linear):
    """Hidden states [B, T, D] of layers' outputs [B, T, E]."""

    def __init__(self, num_read: int, hidden_size: int) -> None:
        super().__init__(num_read * hidden_size, hidden_size)
        self.units_E: Tensor
        self.register_buffer("units_E", torch.ones(num_read * hidden_size), persistent=False)

    def forward(self, x_BTE: Tensor) -> Tensor:
        """The plain matrix's product: its weights are those learned, over the units."""
        return nn.functional.linear(x_BTE / self.units_E.to(x_BTE.dtype), self.weight, self.bias)

    def measure(self, seen: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Take the units from samples' states, their last hidden states [n, D] and the layers' outputs [n, E].

        A layer's unit is its median entry's size over that of the last hidden state, so that a few huge entries, as
        the first of a sequence often is, say nothing.
        """
        hidden_nD, aux_nE = (torch.cat([part.float() for part in parts]) for parts in zip(*seen, strict=True))
        size = hidden_nD.shape[1]
        last = _size(hidden_nD)
        for number, layer_nD in enumerate(aux_nE.split(size, dim=1)):
            unit = 2.0 ** float((_size(layer_nD) / last).clamp_min(1e-6).log2().round())
            self.units_E[number * size : (number + 1) * size] = unit

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}weight"] = destination[f"{prefix}weight"] / self.units_E

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        key = f"{prefix}weight"
        if key in state_dict and state_dict[key].shape == self.weight.shape:
            state_dict[key] = state_dict[key].float() * self.units_E.to(state_dict[key].device)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _size(x_nD: Tensor) -> Tensor:
    """The median entry's root mean square."""
    return x_nD.square().mean(dim=1).sqrt().median()
