"""Simulated acceptance: lengths drawn from α_k, and SGLang's accepted path made of them."""

from __future__ import annotations

import pytest
import torch

from harness.runtime.simulated import accepted_rows, draw_lengths


def test_lengths_follow_the_conditional_acceptance_of_each_step():
    """Of 40,000 draws the shares that reach step k are α_1 · … · α_k, within five standard errors."""
    alphas = torch.tensor([0.8, 0.5, 0.25])
    lengths = draw_lengths(alphas, 40_000, torch.Generator().manual_seed(0))
    assert lengths.min() == 0
    assert lengths.max() == 3
    for step, share in enumerate(alphas.cumprod(0).tolist(), 1):
        assert (lengths >= step).float().mean().item() == pytest.approx(
            share, abs=5 * (share * (1 - share) / 4e4) ** 0.5
        )


def test_certain_steps_are_always_and_impossible_ones_never_accepted():
    """α of 1, 1, 0, 1 gives 2."""
    lengths = draw_lengths(torch.tensor([1.0, 1.0, 0.0, 1.0]), 5, torch.Generator().manual_seed(1))
    assert lengths.tolist() == [2] * 5


def test_the_accepted_path_begins_at_each_requests_root():
    """Two requests with trees of 6 nodes: nothing and three drafts accepted; -1 behind the path, as SGLang has it."""
    found = accepted_rows(torch.tensor([[0, 2, -1, -1], [6, -1, -1, -1]], dtype=torch.int32), torch.tensor([0, 3]))
    assert found.tolist() == [[0, -1, -1, -1], [6, 7, 8, 9]]
    assert found.dtype == torch.int32
