"""From the heads' candidates to the tree of most probable paths, without a look at the data on the host.

A path is a list of ranks: which of head 1's candidates, which of head 2's, …; its score is the product of their
probabilities. Source: Medusa (arXiv 2401.10774, section 3.3), with each round's own probabilities in place of averages.

Shapes: B requests, S heads in use (num_steps), T candidates of a head (topk), C paths that a tree may hold, N nodes
without the root.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Path = tuple[int, ...]


def possible_paths(num_steps: int, topk: int, num_nodes: int) -> list[Path]:
    """Paths that can be among the `num_nodes` most probable ones, whatever the probabilities are.

    A path of ranks is no likelier than those that it dominates: its beginnings and itself, with any ranks lowered.
    """
    paths: list[Path] = []
    grown: list[tuple[Path, int, int]] = [((), 1, 0)]
    while grown:
        path, width, dominated = grown.pop()
        for rank in range(topk):
            longer = width * (rank + 1)
            if dominated + longer > num_nodes:
                break
            paths.append((*path, rank))
            if len(path) + 1 < num_steps:
                grown.append(((*path, rank), longer, dominated + longer))
    return paths


class TreeTable:
    """The paths that a tree may hold, by depth and then by rank, as tensors to gather with."""

    def __init__(self, paths: Sequence[Path], num_steps: int, topk: int, num_nodes: int, device: str) -> None:
        paths = sorted(paths, key=lambda path: (len(path), path))
        place = {path: number for number, path in enumerate(paths)}
        self.num_nodes = num_nodes
        # SGLang codes a candidate as place of its parent · stride + rank; the list of parents holds
        # stride · (num_steps - 1) + 1 places, and the last node is nobody's parent.
        room = -(-(num_nodes - 1) // (num_steps - 1)) if num_steps > 1 else 1
        self.stride = max(topk, room)
        self.num_places = self.stride * (num_steps - 1) + 1
        padded = [[head * topk + rank for head, rank in enumerate(path)] for path in paths]
        # Column S · T of the probabilities is 1, so that shorter paths can be multiplied alike.
        padded = [row + [num_steps * topk] * (num_steps - len(row)) for row in padded]
        self.factors_CS = torch.tensor(padded, device=device)
        self.last_C = torch.tensor([(len(path) - 1) * topk + path[-1] for path in paths], device=device)
        self.rank_C = torch.tensor([path[-1] for path in paths], device=device)
        # Place 0 is the root, place i + 1 the table's path i.
        self.parent_C = torch.tensor([place[path[:-1]] + 1 if len(path) > 1 else 0 for path in paths], device=device)

    def select(self, probs_BST: Tensor, tokens_BST: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The most probable paths of each request, in the form of SGLang's `organize_draft_results`.

        Returns:
            Codes of the places' candidates [B, num_places], codes of the nodes [B, N], and the nodes' tokens [B, N].
        """
        batch = probs_BST.shape[0]
        probs = torch.cat((probs_BST.flatten(1), probs_BST.new_ones(batch, 1)), dim=1)
        scores_BC = probs[:, self.factors_CS].prod(-1)
        # Stable: where a head is certain, child and parent tie, and parents stand first in the table.
        chosen_BN = scores_BC.sort(dim=1, descending=True, stable=True).indices[:, : self.num_nodes].sort(dim=1).values
        numbers_BN = torch.arange(1, self.num_nodes + 1, device=chosen_BN.device).expand(batch, -1)
        places_BC = torch.zeros(batch, len(self.parent_C) + 1, dtype=torch.long, device=chosen_BN.device)
        places_BC.scatter_(1, chosen_BN + 1, numbers_BN)
        parents_BN = places_BC.gather(1, self.parent_C[chosen_BN])
        codes_BN = parents_BN * self.stride + self.rank_C[chosen_BN]
        listed = torch.full((batch, self.num_places), -1, dtype=torch.long, device=chosen_BN.device)
        inner = min(self.num_nodes, self.num_places - 1)
        listed[:, 1 : inner + 1] = codes_BN[:, :inner]
        return listed, codes_BN, tokens_BST.flatten(1).gather(1, self.last_C[chosen_BN])
