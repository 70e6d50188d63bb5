"""One process, or several that share each step: `accelerate launch` and torchrun start them, the recipe stays the same.

Every process holds the whole draft, computes its rows of a batch, and the gradients are summed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch import Tensor


class Processes:
    """This process among those that train together."""

    def __init__(self) -> None:
        self._accelerator = Accelerator(cpu=not torch.cuda.is_available())
        self.rank: int = self._accelerator.process_index
        self.world: int = self._accelerator.num_processes
        self.device: torch.device = self._accelerator.device

    @property
    def first(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def wait(self) -> None:
        """Until all are here."""
        self._accelerator.wait_for_everyone()

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by the sum over all processes, in one exchange."""
        if self.world == 1 or not tensors:
            return
        flat = torch.cat([tensor.detach().float().reshape(-1) for tensor in tensors])
        summed = self._accelerator.reduce(flat, "sum")
        begin = 0
        for tensor in tensors:
            tensor.copy_(summed[begin : begin + tensor.numel()].view_as(tensor))
            begin += tensor.numel()

    def total(self, *numbers: float) -> list[float]:
        """The sum of each number over all processes."""
        if self.world == 1:
            return list(numbers)
        held = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        return [float(number) for number in self._accelerator.reduce(held, "sum")]


def rank_in_environment() -> int:
    """This process's number among those that a launcher started, without asking torch."""
    return int(os.environ.get("RANK", "0"))
