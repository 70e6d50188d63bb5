"""Acceptance lengths without an engine: draft trees in plain torch, checked against the target's known greedy outputs.

Follows SGLang 0.5.17 step by step, including that a branch reads the keys and values of its own slot, not of the beam
it was continued from (srt/speculative/spec_utils.py `select_top_k_tokens`, eagle_utils.py `organize_draft_results`).

Shapes: T entries of one sample, R entries at which a round may start, W tree width, D hidden size, H heads, C head
size.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor, nn

from drafts.training.features import Features
from drafts.training.layer import Attend


class Draft(Protocol):
    """A draft with its own keys and values: an EAGLE head or a language model."""

    def __call__(self, tokens_BT: Tensor, hidden_BTD: Tensor, positions_BT: Tensor, attend: Attend, /) -> Tensor:
        """Hidden states at every entry."""

    def logits(self, hidden: Tensor, /) -> Tensor:
        """Scores of the vocabulary."""


@dataclass(frozen=True)
class TreeSize:
    """Draft steps, branches per step, and verified nodes with the bonus token among them."""

    num_steps: int
    topk: int
    num_draft_tokens: int


@dataclass(frozen=True)
class Acceptance:
    """What greedy verification accepts over some samples.

    Attributes:
        acceptance_length: tokens per round, the bonus token included.
        accept_rates: for step k from 1, the share of rounds that accepted step k among those that accepted step k-1.
    """

    acceptance_length: float
    accept_rates: list[float]


@torch.no_grad()
def measure_acceptance(draft: Draft, features: Features, tree: TreeSize) -> Acceptance:
    """Decode every sample's output in rounds, as the engine would, and count."""
    histogram = torch.zeros(tree.num_steps + 1, dtype=torch.long)
    num_tokens = 0
    for index, sample in enumerate(features.samples):
        batch = features.batch([index])
        accepted_R = accepted_drafts(draft, batch.tokens_BT, batch.hidden_BTD, len(sample.prompt_ids) - 1, tree)
        start, last = 0, len(sample.output_ids) - 1
        while start < last:
            accepted = int(accepted_R[start])
            histogram[accepted] += 1
            num_tokens += min(accepted + 1, last - start)
            start += accepted + 1
    reached = histogram.flip(0).cumsum(0).flip(0)
    rates = [int(b) / int(a) if a else 0.0 for a, b in pairwise(reached)]
    return Acceptance(round(num_tokens / int(reached[0]), 3), [round(rate, 4) for rate in rates])


def accepted_drafts(draft: Draft, tokens_1T: Tensor, hidden_1TD: Tensor, first: int, tree: TreeSize) -> Tensor:
    """For every entry from `first` on: how many drafts a round that starts there has accepted [R]."""
    entries = tokens_1T.shape[1]
    prefix: dict[int, tuple[Tensor, Tensor]] = {}

    def read(index: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        prefix[index] = (k, v)
        return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)

    output = draft(tokens_1T, hidden_1TD, torch.arange(entries)[None], read)[0, first:]
    starts_R = torch.arange(first, entries)
    probs, tokens = draft.logits(output).float().softmax(-1).topk(tree.topk)
    own: dict[int, list[tuple[Tensor, Tensor]]] = {}

    def branch(index: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        own.setdefault(index, []).append((k, v))
        return _branch_attention(q, *prefix[index], own[index], starts_R)

    # Candidates of all steps, flat per round: token, score, parent's place (-1: the root), depth.
    all_tokens, all_scores = [tokens], [probs]
    all_parents, depths = [torch.full_like(tokens, -1)], [1] * tree.topk
    scores_RW, tokens_RW = probs, tokens
    places_RW = torch.arange(tree.topk).expand(len(starts_R), -1)
    hidden_RWD = output[:, None].expand(-1, tree.topk, -1)
    for step in range(1, tree.num_steps):
        positions_RW = (starts_R + step)[:, None].expand(-1, tree.topk)
        # Rounds are the batch, branches its positions: a branch sees its round's prefix and its own slot.
        output_RWD = draft(tokens_RW, hidden_RWD, positions_RW, branch)
        probs, tokens = draft.logits(output_RWD).float().softmax(-1).topk(tree.topk)
        candidate_scores = (scores_RW[:, :, None] * probs).flatten(1)
        offset = sum(part.shape[1] for part in all_tokens)
        all_tokens.append(tokens.flatten(1))
        all_scores.append(candidate_scores)
        all_parents.append(places_RW.repeat_interleave(tree.topk, 1))
        depths += [step + 1] * tree.topk**2
        scores_RW, chosen = candidate_scores.topk(tree.topk)
        tokens_RW = tokens.flatten(1).gather(1, chosen)
        places_RW = chosen + offset
        hidden_RWD = output_RWD.gather(1, (chosen // tree.topk)[..., None].expand(-1, -1, output_RWD.shape[-1]))
    parts = (torch.cat(all_tokens, 1), torch.cat(all_scores, 1), torch.cat(all_parents, 1), torch.tensor(depths))
    return _deepest_accepted(*parts, tokens_1T[0], starts_R, tree)


def _branch_attention(q: Tensor, k: Tensor, v: Tensor, own: list[tuple[Tensor, Tensor]], starts_R: Tensor) -> Tensor:
    """Attention of W branches of R rounds [R, H, W, C] over the sample's entries and each branch's own slot."""
    scores = torch.einsum("rhwc,htc->rhwt", q, k[0])
    outside = torch.arange(k.shape[2]) > starts_R[:, None]
    scores = scores.masked_fill(outside[:, None, None], -torch.inf)
    own_scores = torch.stack([(q * key).sum(-1) for key, _ in own], dim=-1)
    weights = (torch.cat((scores, own_scores), dim=-1) * q.shape[-1] ** -0.5).softmax(-1)
    attended = torch.einsum("rhwt,htc->rhwc", weights[..., : k.shape[2]], v[0])
    for place, (_, value) in enumerate(own):
        attended = attended + weights[..., k.shape[2] + place, None] * value
    return attended


def _deepest_accepted(
    tokens: Tensor, scores: Tensor, parents: Tensor, depths: Tensor, tokens_T: Tensor, starts_R: Tensor, tree: TreeSize
) -> Tensor:
    """Keep the best nodes of each round's tree and follow the target's tokens through them."""
    kept = torch.zeros_like(scores, dtype=torch.bool)
    size = min(tree.num_draft_tokens - 1, scores.shape[1])
    kept.scatter_(1, scores.topk(size).indices, True)
    # Entry r holds token r+1, so a node of depth d has to be the token of entry r+d.
    wanted = torch.cat((tokens_T, torch.full((tree.num_steps + 1,), -1)))[starts_R[:, None] + depths]
    good = kept & (tokens == wanted)
    accepted = torch.zeros(len(starts_R), dtype=torch.long)
    for depth in range(1, tree.num_steps + 1):
        at = depths == depth
        if depth > 1:
            good[:, at] &= good.gather(1, parents[:, at])
        accepted[good[:, at].any(1)] = depth
    return accepted
