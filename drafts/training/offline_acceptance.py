"""Acceptance lengths without an engine: draft trees in plain torch, checked against the target's known greedy outputs.

Follows SGLang 0.5.17 step by step, including that a branch reads the keys and values of its own slot, not of the beam
it was continued from (srt/speculative/spec_utils.py `select_top_k_tokens`, eagle_utils.py `organize_draft_results`).

Shapes: T entries of one sample, R entries at which a round may start, W tree width, D hidden size, H heads, C head
size. States may be wider than D.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from draftbench.drafts.api import Tree
from draftbench.drafts.training.draft import Draft, first_tokens, target_states
from draftbench.drafts.training.features import Batch, Example, Features


@dataclass(frozen=True)
class OfflineAcceptance:
    """What greedy verification accepts over some samples.

    Attributes:
        acceptance_length: tokens per round, the bonus token included.
        accept_rates: for step k from 1, the share of rounds that accepted step k among those that accepted step k-1.
    """

    acceptance_length: float
    accept_rates: list[float]


def measure_acceptance(
    draft: Draft, features: Features, samples: Sequence[Example], tree: Tree, follow_beams: bool = False
) -> OfflineAcceptance:
    """Decode every sample's output in rounds, as the engine would, and count.

    Args:
        samples: those of the features, in their order.
        follow_beams: let branches read their own beam's keys and values, which the engine does not.
    """
    return accepted_over(list(all_rounds(draft, features, samples, tree, follow_beams)), tree)


def all_rounds(
    draft: Draft, features: Features, samples: Sequence[Example], tree: Tree, follow_beams: bool = False
) -> Iterator[tuple[int, list[int]]]:
    """Each sample's output tokens after the first, and the accepted drafts of each of its rounds."""
    for index, sample in enumerate(samples):
        sizes = len(sample.prompt_ids), len(sample.output_ids)
        yield sizes[1] - 1, rounds_of_sample(draft, features.batch([index]), *sizes, tree, follow_beams)


def accepted_over(counted: Sequence[tuple[int, Sequence[int]]], tree: Tree) -> OfflineAcceptance:
    """Acceptance over samples, each its number of output tokens after the first and its rounds' accepted drafts."""
    histogram = torch.zeros(tree.num_steps + 1, dtype=torch.long)
    for _, rounds in counted:
        for accepted in rounds:
            histogram[accepted] += 1
    reached = histogram.flip(0).cumsum(0).flip(0)
    rates = [int(b) / int(a) if a else 0.0 for a, b in pairwise(reached)]
    num_tokens = sum(tokens for tokens, _ in counted)
    return OfflineAcceptance(round(num_tokens / int(reached[0]), 3), [round(rate, 4) for rate in rates])


@torch.no_grad()
def rounds_of_sample(
    draft: Draft,
    batch: Batch,
    num_prompt_tokens: int,
    num_output_tokens: int,
    tree: Tree,
    follow_beams: bool = False,
) -> list[int]:
    """Accepted drafts of each round of the only sample in the batch; the prefill gave its output's first token.

    The engine's last round also counts drafts accepted beyond the output's end. The sample can show them if it goes on
    after `num_output_tokens`; else that round counts up to the end.
    """
    first = num_prompt_tokens - 1
    hidden = target_states(draft, batch.hidden_BTD, batch.aux_BTE)
    if draft.proposal == "joint":
        accepted_R = accepted_by_heads(draft, batch.tokens_BT, hidden, first, tree)
    else:
        accepted_R = accepted_drafts(draft, batch.tokens_BT, hidden, first, tree, follow_beams)
    rounds, start = [], 0
    while start < num_output_tokens - 1:
        rounds.append(int(accepted_R[start]))
        start += rounds[-1] + 1
    return rounds


@torch.no_grad()
def accepted_by_heads(draft: Draft, tokens_1T: Tensor, hidden_1TX: Tensor, first: int, tree: Tree) -> Tensor:
    """Accepted drafts of a round that starts at each entry from `first` on, for heads that know no drafted token [R].

    The tree is grown node by node: always the most probable path that is not in it yet and whose parent is.
    """
    depth = min(tree.num_steps, draft.most_steps or tree.num_steps)
    positions = torch.arange(tokens_1T.shape[1], device=tokens_1T.device)[None]
    tops = []
    for step in range(1, depth + 1):
        output = draft(tokens_1T, hidden_1TX, positions, _causal, step)[0, first:]
        tops.append(draft.logits(output, step).float().softmax(-1).topk(tree.topk))
    probs, ids = [top.values.tolist() for top in tops], [top.indices.tolist() for top in tops]
    tokens = tokens_1T[0].tolist()
    accepted = []
    for row in range(tokens_1T.shape[1] - first):
        kept: set[tuple[int, ...]] = set()
        waiting = [(-probs[0][row][rank], 1, (rank,)) for rank in range(tree.topk)]
        heapq.heapify(waiting)
        while waiting and len(kept) < tree.num_draft_tokens - 1:
            score, level, path = heapq.heappop(waiting)
            kept.add(path)
            if level < depth:
                for rank in range(tree.topk):
                    heapq.heappush(waiting, (score * probs[level][row][rank], level + 1, (*path, rank)))
        right: tuple[int, ...] = ()
        for level, wanted in enumerate(tokens[first + row + 1 : first + row + 1 + depth]):
            ranks = [rank for rank in range(tree.topk) if ids[level][row][rank] == wanted]
            if not ranks or (*right, ranks[0]) not in kept:
                break
            right = (*right, ranks[0])
        accepted.append(len(right))
    return torch.tensor(accepted)


def _causal(_index: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)


def accepted_drafts(
    draft: Draft, tokens_1T: Tensor, hidden_1TX: Tensor, first: int, tree: Tree, follow_beams: bool = False
) -> Tensor:
    """For every entry from `first` on: how many drafts a round that starts there has accepted [R]."""
    entries = tokens_1T.shape[1]
    prefix: dict[int, tuple[Tensor, Tensor]] = {}

    def read(index: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        prefix[index] = (k, v)
        return _causal(index, q, k, v)

    device = tokens_1T.device
    positions_1T = torch.arange(entries, device=device)[None]
    output = draft(first_tokens(draft, tokens_1T, positions_1T), hidden_1TX, positions_1T, read, 1)[0, first:]
    starts_R = torch.arange(first, entries, device=device)
    probs, tokens = draft.logits(output, 1).float().softmax(-1).topk(tree.topk)
    own: dict[int, list[tuple[Tensor, Tensor]]] = {}

    def branch(index: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        own.setdefault(index, []).append((k, v))
        if not q.shape[2]:
            return q
        return _branch_attention(q, *prefix[index], own[index], starts_R)

    # Candidates of all steps, flat per round: token, score, parent's place (-1: the root), depth.
    all_tokens, all_scores = [tokens], [probs]
    all_parents, depths = [torch.full_like(tokens, -1)], [1] * tree.topk
    scores_RW, tokens_RW = probs, tokens
    places_RW = torch.arange(tree.topk, device=device).expand(len(starts_R), -1)
    hidden_RWD = output[:, None].expand(-1, tree.topk, -1)
    for step in range(1, tree.num_steps):
        positions_RW = (starts_R + step)[:, None].expand(-1, tree.topk)
        # Rounds are the batch, branches its positions: a branch sees its round's prefix and its own slot.
        output_RWD = draft(tokens_RW, hidden_RWD, positions_RW, branch, step + 1)
        probs, tokens = draft.logits(output_RWD, step + 1).float().softmax(-1).topk(tree.topk)
        candidate_scores = (scores_RW[:, :, None] * probs).flatten(1)
        offset = sum(part.shape[1] for part in all_tokens)
        all_tokens.append(tokens.flatten(1))
        all_scores.append(candidate_scores)
        all_parents.append(places_RW.repeat_interleave(tree.topk, 1))
        depths += [step + 1] * tree.topk**2
        scores_RW, chosen = candidate_scores.topk(tree.topk)
        tokens_RW = tokens.flatten(1).gather(1, chosen)
        places_RW = chosen + offset
        if follow_beams:
            own.update({index: [(_of_beams(k, chosen), _of_beams(v, chosen)) for k, v in own[index]] for index in own})
        hidden_RWD = output_RWD.gather(1, (chosen // tree.topk)[..., None].expand(-1, -1, output_RWD.shape[-1]))
    parts = (
        torch.cat(all_tokens, 1),
        torch.cat(all_scores, 1),
        torch.cat(all_parents, 1),
        torch.tensor(depths, device=device),
    )
    return _deepest_accepted(*parts, tokens_1T[0], starts_R, tree)


def _of_beams(x_RHWC: Tensor, chosen_RW: Tensor) -> Tensor:
    """Keys or values of the beams that the chosen candidates continue."""
    beams = (chosen_RW // x_RHWC.shape[2])[:, None, :, None]
    return x_RHWC.gather(2, beams.expand(-1, x_RHWC.shape[1], -1, x_RHWC.shape[3]))


def _branch_attention(q: Tensor, k: Tensor, v: Tensor, own: list[tuple[Tensor, Tensor]], starts_R: Tensor) -> Tensor:
    """Attention of W branches of R rounds [R, H, W, C] over the sample's entries and each branch's own slot."""
    scores = torch.einsum("rhwc,htc->rhwt", q, k[0])
    outside = torch.arange(k.shape[2], device=q.device) > starts_R[:, None]
    scores = scores.masked_fill(outside[:, None, None], -torch.inf)
    own_scores = torch.stack([(q * key).sum(-1) for key, _ in own], dim=-1)
    weights = (torch.cat((scores, own_scores), dim=-1) * q.shape[-1] ** -0.5).softmax(-1)
    attended = torch.einsum("rhwt,htc->rhwc", weights[..., : k.shape[2]], v[0])
    for place, (_, value) in enumerate(own):
        attended = attended + weights[..., k.shape[2] + place, None] * value
    return attended


def _deepest_accepted(
    tokens: Tensor, scores: Tensor, parents: Tensor, depths: Tensor, tokens_T: Tensor, starts_R: Tensor, tree: Tree
) -> Tensor:
    """Keep the best nodes of each round's tree and follow the target's tokens through them."""
    kept = torch.zeros_like(scores, dtype=torch.bool)
    size = min(tree.num_draft_tokens - 1, scores.shape[1])
    kept.scatter_(1, scores.topk(size).indices, True)
    # Entry r holds token r+1, so a node of depth d has to be the token of entry r+d.
    wanted = torch.cat((tokens_T, tokens_T.new_full((tree.num_steps + 1,), -1)))[starts_R[:, None] + depths]
    good = kept & (tokens == wanted)
    accepted = torch.zeros(len(starts_R), dtype=torch.long, device=tokens_T.device)
    for depth in range(1, tree.num_steps + 1):
        at = depths == depth
        if depth > 1:
            good[:, at] &= good.gather(1, parents[:, at])
        accepted[good[:, at].any(1)] = depth
    return accepted
