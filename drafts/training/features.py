"""What drafts learn from: token ids, which of them are the answer, and the target's hidden states at them.

Entry i of a sample of n tokens (0 <= i < n-1) pairs token i+1 with the target's hidden state at i; a draft predicts the
hidden state at i+1 and through it token i+2. Everything here is indexed by entry. The target's likeliest tokens are
made from its hidden states when a batch is asked for them, so that nothing but states has to be kept.

Shapes: B batch, T entries, D hidden size, E the chosen layers' outputs side by side, K the target's likeliest tokens,
V vocabulary, N samples, n tokens of one sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from draftbench.drafts.training.extract import states_of
from draftbench.drafts.training.hf import Target
from draftbench.drafts.training.layer import Attend

TOP_TOKENS = 16
"""Tokens of the target's distribution that drafts learn; on the embedded target they hold more than 0.99 of the mass.
"""
CPU = torch.device("cpu")
HEAD_ROWS = 1024
"""States that the target's head is asked about at once: bounds memory where the vocabulary is large."""


@dataclass(frozen=True)
class Example:
    """One prompt and the answer to it, as token ids."""

    prompt_ids: tuple[int, ...]
    output_ids: tuple[int, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        """Prompt and output in one."""
        return self.prompt_ids + self.output_ids


@dataclass(frozen=True)
class ExampleStates:
    """One sample as the target saw it."""

    ids: np.ndarray
    answers: np.ndarray
    """Whether each token is part of an answer [n]."""
    hidden_nD: Tensor
    aux_nE: Tensor

    @property
    def learned(self) -> np.ndarray:
        """Entries that are learned [n-1]."""
        return learned_entries(self.answers)

    def sample(self) -> Example:
        """The last answer and everything before it."""
        first = len(self.ids)
        while first > 0 and self.answers[first - 1]:
            first -= 1
        ids = self.ids.tolist()
        return Example(tuple(ids[:first]), tuple(ids[first:]))


def learned_entries(answers: np.ndarray) -> np.ndarray:
    """Entries whose two next tokens are of the same answer [n-1].

    The first draft token is the answer's second: its first is the target's, from the prefill.
    """
    learned = np.zeros(max(len(answers) - 1, 0), dtype=bool)
    learned[:-1] = answers[1:-1] & answers[2:]
    return learned


class Store(Protocol):
    """Samples with the target's states at them, in memory or on disk."""

    layers: tuple[int, ...]
    """Layers (from 0) whose outputs it has, besides the last hidden states."""
    lengths_N: np.ndarray
    learned_N: np.ndarray
    """Learned entries of each sample."""

    def read(self, index: int, layers: Sequence[int]) -> ExampleStates:
        """One sample, with the outputs of these layers side by side."""


@dataclass(frozen=True)
class Batch:
    """Entries of several samples, padded at the end; with `first_BT` a row may hold several samples."""

    tokens_BT: Tensor
    positions_BT: Tensor
    hidden_BTD: Tensor
    next_hidden_BTD: Tensor
    next_tokens_BT: Tensor
    learned_BT: Tensor
    aux_BTE: Tensor
    """Outputs of the chosen layers side by side; no columns where none are chosen."""
    head_VD: Tensor
    """The target's output head."""
    first_BT: Tensor | None = None
    """Place of the first entry of each entry's sample; None where a row holds one sample."""

    @cached_property
    def top(self) -> tuple[Tensor, Tensor]:
        """Ids and probabilities of the target's likeliest tokens [B, T, K]; zeros at entries that are not learned."""
        shape = (*self.learned_BT.shape, TOP_TOKENS)
        ids = torch.zeros(shape, dtype=torch.long, device=self.learned_BT.device)
        probs = torch.zeros(shape, device=self.learned_BT.device)
        with torch.no_grad(), torch.autocast(self.learned_BT.device.type, enabled=False):
            states_MD = self.next_hidden_BTD[self.learned_BT]
            found = [
                nn.functional.linear(part, self.head_VD.float()).softmax(-1).topk(TOP_TOKENS)
                for part in states_MD.split(HEAD_ROWS)
            ]
            if found:
                ids[self.learned_BT] = torch.cat([part.indices for part in found])
                probs[self.learned_BT] = torch.cat([part.values for part in found])
        return ids, probs

    @property
    def top_ids_BTK(self) -> Tensor:
        """The target's likeliest tokens after each learned entry's next."""
        return self.top[0]

    @property
    def top_probs_BTK(self) -> Tensor:
        """Their probabilities."""
        return self.top[1]

    def learned_after(self, steps: int) -> Tensor:
        """Learned entries [B, T] before which `steps` entries of the same answer stand: what a later pass can meet."""
        learned_BT = self.learned_BT
        for _ in range(steps):
            before_BT = torch.zeros_like(learned_BT)
            before_BT[:, 1:] = learned_BT[:, :-1]
            learned_BT = self.learned_BT & before_BT
        return learned_BT

    def outside_BTT(self, own: int = 0) -> Tensor | None:
        """True where an entry must not look: beyond `own` entries before itself, and other samples of its row.

        None where plain causal attention says the same.
        """
        if self.first_BT is None and own == 0:
            return None
        size = self.tokens_BT.shape[1]
        places = torch.arange(size, device=self.tokens_BT.device)
        later = places[None, :] > places[:, None] - own
        if self.first_BT is None:
            return later[None]
        return later[None] | (places[None, None, :] < self.first_BT[:, :, None])

    @property
    def causal(self) -> Attend:
        """Ordinary causal attention within each sample."""
        outside = self.outside_BTT()
        allowed = None if outside is None else ~outside[:, None]

        def attend(_index: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=allowed, is_causal=allowed is None)

        return attend


@dataclass(frozen=True)
class Features:
    """A store's samples as batches for one draft.

    Attributes:
        layers: of those that the store has, the ones that the draft reads.
    """

    store: Store
    head_VD: Tensor
    layers: tuple[int, ...] = ()
    device: torch.device = CPU

    def reading(self, layers: tuple[int, ...]) -> Features:
        """The same samples with the outputs of these layers."""
        return replace(self, layers=layers)

    def batch(self, chosen: Sequence[int] | np.ndarray) -> Batch:
        """The entries of the samples with these indices, one in a row."""
        return self.packed([[index] for index in chosen])

    def packed(self, rows: Sequence[Sequence[int]]) -> Batch:
        """The entries of samples that share rows."""
        seen = [[self.store.read(int(index), self.layers) for index in row] for row in rows]
        return collate(seen, self.head_VD, self.device)


def collate(rows: Sequence[Sequence[ExampleStates]], head_VD: Tensor, device: torch.device) -> Batch:
    """Rows of samples as one batch, padded at the end."""
    size = max(sum(len(seen.ids) - 1 for seen in row) for row in rows)
    first = rows[0][0]
    shape = (len(rows), size)
    tokens, following, positions, first_places = (torch.zeros(shape, dtype=torch.long) for _ in range(4))
    hidden, next_hidden = (torch.zeros(*shape, first.hidden_nD.shape[1]) for _ in range(2))
    aux = torch.zeros(*shape, first.aux_nE.shape[1])
    learned = torch.zeros(shape, dtype=torch.bool)
    for row, samples in enumerate(rows):
        begin = 0
        for seen in samples:
            entries = len(seen.ids) - 1
            place = slice(begin, begin + entries)
            ids = torch.from_numpy(seen.ids.astype(np.int64))
            tokens[row, place] = ids[1:]
            following[row, begin : begin + entries - 1] = ids[2:]
            positions[row, place] = torch.arange(entries)
            first_places[row, place] = begin
            hidden[row, place] = seen.hidden_nD[:-1].float()
            next_hidden[row, place] = seen.hidden_nD[1:].float()
            aux[row, place] = seen.aux_nE[:-1].float()
            learned[row, place] = torch.from_numpy(seen.learned)
            begin += entries
        # Padding goes on as a sample would: each entry sees at least itself.
        positions[row, begin:] = torch.arange(begin, size)
    shared = any(len(row) > 1 for row in rows)
    return Batch(
        tokens_BT=tokens.to(device),
        positions_BT=positions.to(device),
        hidden_BTD=hidden.to(device),
        next_hidden_BTD=next_hidden.to(device),
        next_tokens_BT=following.to(device),
        learned_BT=learned.to(device),
        aux_BTE=aux.to(device),
        head_VD=head_VD,
        first_BT=first_places.to(device) if shared else None,
    )


class InMemory:
    """A few samples with the target's states at them, for tests and held-out outputs."""

    def __init__(
        self,
        target: Target,
        samples: Sequence[Example],
        layers: tuple[int, ...] = (),
        dtype: torch.dtype = torch.float16,
    ) -> None:
        self.layers = layers
        self.samples = [sample for sample in samples if len(sample.output_ids) >= 2]
        self.lengths_N = np.array([len(sample.ids) for sample in self.samples])
        self.learned_N = np.array([len(sample.output_ids) - 1 for sample in self.samples])
        self._states: list[list[Tensor]] = [[] for _ in self.samples]
        ids = [np.array(sample.ids) for sample in self.samples]
        for index, states in states_of(target, ids, layers):
            self._states[index] = [state.to("cpu", dtype) for state in states]

    def read(self, index: int, layers: Sequence[int]) -> ExampleStates:
        """One sample, with the outputs of these layers side by side."""
        sample, (hidden, *outputs) = self.samples[index], self._states[index]
        answers = np.arange(len(sample.ids)) >= len(sample.prompt_ids)
        chosen = [outputs[self.layers.index(layer)] for layer in layers]
        aux = torch.cat(chosen, dim=-1) if chosen else hidden[:, :0]
        return ExampleStates(np.array(sample.ids), answers, hidden, aux)


def features_of(
    target: Target,
    samples: Sequence[Example],
    layers: tuple[int, ...] = (),
    dtype: torch.dtype = torch.float16,
) -> Features:
    """Samples with the target's states, in memory."""
    return Features(InMemory(target, samples, layers, dtype), target.lm_head.weight.data, layers)
