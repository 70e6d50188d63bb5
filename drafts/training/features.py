"""What drafts learn from: outputs, the target's hidden states and its likeliest tokens at them, computed once.

Entry i of a sample of n tokens (0 <= i < n-1) pairs token i+1 with the target's hidden state at i; a draft predicts the
hidden state at i+1 and through it token i+2. Everything here is indexed by entry.

Shapes: B batch, T entries, D hidden size, E the chosen layers' outputs side by side, K the target's likeliest tokens,
S all tokens of all samples.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from drafts.training.hf import LlamaForCausalLM
from harness.errors import CheckpointError

TOP_TOKENS = 16
"""Tokens of the target's distribution that are kept; on the embedded target they hold more than 0.99 of the mass."""

FEATURE_BATCH_TOKENS = 2048
"""Tokens that the target reads at once: few enough for a CPU's cache."""


@dataclass(frozen=True)
class Sample:
    """One prompt and the target's own output, as token ids."""

    prompt_ids: tuple[int, ...]
    output_ids: tuple[int, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        """Prompt and output in one."""
        return self.prompt_ids + self.output_ids


@dataclass(frozen=True)
class Batch:
    """Entries of several samples, padded at the end."""

    tokens_BT: Tensor
    positions_BT: Tensor
    hidden_BTD: Tensor
    next_hidden_BTD: Tensor
    next_tokens_BT: Tensor
    top_ids_BTK: Tensor
    top_probs_BTK: Tensor
    learned_BT: Tensor
    aux_BTE: Tensor
    """Outputs of the chosen layers side by side; no columns where none are chosen."""


def read_samples(path: Path) -> list[Sample]:
    """Read a corpus: JSONL of {"prompt_ids": [...], "output_ids": [...]}.

    Raises:
        CheckpointError: if a line is not such an object.
    """
    samples = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            record = json.loads(line)
            samples.append(Sample(tuple(record["prompt_ids"]), tuple(record["output_ids"])))
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{path}:{number}: {error!r}; each line has to be an object with prompt_ids and output_ids, lists of "
                "token ids. Write the corpus anew."
            ) from error
    return samples


class Features:
    """The target's view of a list of samples: hidden states and likeliest tokens of every position, in fp16."""

    def __init__(
        self,
        target: LlamaForCausalLM,
        samples: list[Sample],
        cache: Path | None = None,
        layers: tuple[int, ...] = (),
        dtype: torch.dtype = torch.float16,
    ) -> None:
        """Compute the features, or map them from the file `cache` where an earlier run has left them.

        Args:
            layers: layers (from 0) whose outputs are kept too, for EAGLE-3; the cache's name has to tell them apart.
        """
        self.layers = layers
        self.samples = [sample for sample in samples if len(sample.output_ids) >= 2]
        lengths = [len(sample.ids) for sample in self.samples]
        self.starts = np.concatenate(([0], np.cumsum(lengths)))
        total = int(self.starts[-1])
        if cache is not None and cache.exists():
            saved = torch.load(cache, mmap=True, weights_only=True)
            self.hidden_SD, self.top_ids_SK, self.top_probs_SK, self.aux_SE = saved
            return
        self.hidden_SD = torch.empty(total, target.config.hidden_size, dtype=dtype)
        self.aux_SE = torch.empty(total, len(layers) * target.config.hidden_size, dtype=dtype)
        self.top_ids_SK = torch.empty(total, TOP_TOKENS, dtype=torch.int16)
        self.top_probs_SK = torch.empty(total, TOP_TOKENS, dtype=torch.float16)
        for chosen in _by_length(lengths, FEATURE_BATCH_TOKENS, np.arange(len(lengths))):
            self._fill(target, chosen)
        if cache is not None:
            cache.parent.mkdir(parents=True, exist_ok=True)
            torch.save((self.hidden_SD, self.top_ids_SK, self.top_probs_SK, self.aux_SE), cache)

    @torch.no_grad()
    def _fill(self, target: LlamaForCausalLM, chosen: np.ndarray) -> None:
        ids_BT = torch.zeros(len(chosen), max(len(self.samples[index].ids) for index in chosen), dtype=torch.long)
        for row, index in enumerate(chosen):
            ids_BT[row, : len(self.samples[index].ids)] = torch.tensor(self.samples[index].ids)
        seen = target.model(input_ids=ids_BT, use_cache=False, output_hidden_states=bool(self.layers))
        hidden_BTD = seen.last_hidden_state
        for row, index in enumerate(chosen):
            place = slice(int(self.starts[index]), int(self.starts[index + 1]))
            hidden = hidden_BTD[row, : place.stop - place.start]
            probs, top_ids = target.lm_head(hidden).float().softmax(-1).topk(TOP_TOKENS)
            self.hidden_SD[place] = hidden.to(self.hidden_SD.dtype)
            if self.layers:
                outputs = [seen.hidden_states[layer + 1][row, : hidden.shape[0]] for layer in self.layers]
                self.aux_SE[place] = torch.cat(outputs, dim=-1).to(self.aux_SE.dtype)
            self.top_ids_SK[place] = top_ids.to(torch.int16)
            self.top_probs_SK[place] = probs.half()

    def batch(self, chosen: np.ndarray | list[int]) -> Batch:
        """The entries of the samples with these indices."""
        entries = max(len(self.samples[index].ids) for index in chosen) - 1
        ids_BT = torch.zeros(len(chosen), entries + 1, dtype=torch.long)
        hidden_BTD = torch.zeros(len(chosen), entries + 1, self.hidden_SD.shape[1])
        aux_BTE = torch.zeros(len(chosen), entries + 1, self.aux_SE.shape[1])
        top_ids_BTK = torch.zeros(len(chosen), entries + 1, TOP_TOKENS, dtype=torch.long)
        top_probs_BTK = torch.zeros(len(chosen), entries + 1, TOP_TOKENS)
        learned_BT = torch.zeros(len(chosen), entries, dtype=torch.bool)
        for row, index in enumerate(chosen):
            sample, place = self.samples[index], slice(int(self.starts[index]), int(self.starts[index + 1]))
            size = place.stop - place.start
            ids_BT[row, :size] = torch.tensor(sample.ids)
            hidden_BTD[row, :size] = self.hidden_SD[place].float()
            aux_BTE[row, :size] = self.aux_SE[place].float()
            top_ids_BTK[row, :size] = self.top_ids_SK[place].long() & 0xFFFF
            top_probs_BTK[row, :size] = self.top_probs_SK[place].float()
            # The first draft token is the output's second (the first is the target's, from the prefill).
            learned_BT[row, len(sample.prompt_ids) - 1 : size - 2] = True
        following_BT = torch.cat((ids_BT[:, 2:], torch.zeros(len(chosen), 1, dtype=torch.long)), dim=1)
        return Batch(
            tokens_BT=ids_BT[:, 1:],
            positions_BT=torch.arange(entries).expand(len(chosen), -1),
            hidden_BTD=hidden_BTD[:, :-1],
            next_hidden_BTD=hidden_BTD[:, 1:],
            next_tokens_BT=following_BT,
            top_ids_BTK=top_ids_BTK[:, 1:],
            top_probs_BTK=top_probs_BTK[:, 1:],
            learned_BT=learned_BT,
            aux_BTE=aux_BTE[:, :-1],
        )

    def batches(self, tokens_per_batch: int, seed: int) -> Iterator[Batch]:
        """An endless stream of batches of samples of like length, reshuffled every epoch."""
        rng = np.random.default_rng(seed)
        lengths = [len(sample.ids) for sample in self.samples]
        while True:
            groups = _by_length(lengths, tokens_per_batch, rng.permutation(len(lengths)))
            for index in rng.permutation(len(groups)):
                yield self.batch(groups[index])


def _by_length(lengths: list[int], tokens_per_batch: int, order: np.ndarray) -> list[np.ndarray]:
    """Cut samples into batches of at most `tokens_per_batch` padded tokens; `order` breaks ties of like lengths."""
    groups: list[list[int]] = [[]]
    for index in sorted(order, key=lambda index: lengths[index] // 16):
        longest = max([lengths[index], *(lengths[other] for other in groups[-1])])
        if groups[-1] and longest * (len(groups[-1]) + 1) > tokens_per_batch:
            groups.append([])
        groups[-1].append(int(index))
    return [np.array(group) for group in groups]
