"""The operator that SGLang's n-gram worker imports from `sgl_kernel.speculative`, in plain torch."""

from __future__ import annotations

import torch


def reconstruct_indices_from_tree_mask(
    tree_mask: torch.Tensor,
    verified_seq_len: torch.Tensor,
    positions: torch.Tensor,
    retrive_index: torch.Tensor,
    retrive_next_token: torch.Tensor,
    retrive_next_sibling: torch.Tensor,
    batch_size: int,
    draft_token_num: int,
) -> None:
    """Read positions and child links of B trees off their masks [B * n * n]; node i's ancestors precede it."""
    size = draft_token_num
    mask_Bnn = tree_mask.view(batch_size, size, size).bool()
    depths_Bn = mask_Bnn.sum(-1) - 1
    positions.copy_((verified_seq_len[:, None] + depths_Bn).flatten())
    retrive_index.copy_(torch.arange(batch_size * size).view(batch_size, size))
    for row in range(batch_size):
        first_child, sibling = [-1] * size, [-1] * size
        for node in range(size - 1, 0, -1):
            parent = int(mask_Bnn[row, node, :node].nonzero()[-1])
            sibling[node] = first_child[parent]
            first_child[parent] = node
        retrive_next_token[row] = torch.tensor(first_child)
        retrive_next_sibling[row] = torch.tensor(sibling)
