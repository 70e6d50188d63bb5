"""What the engine should do, in plain torch: no SGLang in here. Slow and simple; for tests alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from draftbench.drafts.api import Tree
from draftbench.drafts.layout import default_layers
from draftbench.drafts.training.draft import first_tokens, target_states
from draftbench.drafts.training.features import Example, Features, features_of
from draftbench.drafts.training.hf import AutoModelForCausalLM
from draftbench.drafts.training.layer import Attend
from draftbench.drafts.training.offline_acceptance import accepted_drafts, rounds_of_sample

Tokens = tuple[int, ...]
Answers = tuple[tuple[Tokens, Tokens], ...]
AHEAD = 6
"""Tokens that an answer is continued by: the last round may accept more than its output holds."""


def growing_attention() -> Attend:
    """Attention that reads everything that was written through it so far, entry by entry."""
    keys: dict[int, list[Tensor]] = {}
    values: dict[int, list[Tensor]] = {}

    def attend(index: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        keys.setdefault(index, []).append(k)
        values.setdefault(index, []).append(v)
        if not q.shape[2]:
            return q
        seen = torch.cat(keys[index], 2), torch.cat(values[index], 2)
        return torch.nn.functional.scaled_dot_product_attention(q, *seen)

    return attend


class Oracle:
    """The target and its drafts in fp32."""

    def __init__(self, target_folder: Path) -> None:
        model: Any = AutoModelForCausalLM.from_pretrained(target_folder, dtype=torch.float32)
        self.target = model.eval().requires_grad_(False)
        self.layers = default_layers(self.target.config.num_hidden_layers)
        self._seen: dict[Answers, Features] = {}

    @torch.no_grad()
    def continued(self, ids: Sequence[int], count: int) -> Tokens:
        """The target's own next tokens, greedily, whatever they are."""
        found = list(ids)
        for _ in range(count):
            found.append(int(self.target(torch.tensor([found])).logits[0, -1].argmax()))
        return tuple(found[len(ids) :])

    @torch.no_grad()
    def logits(self, prompt: Tokens, output: Tokens) -> Tensor:
        """Scores [tokens, V] from which each token of the output was chosen, given those before it."""
        ids = torch.tensor([prompt + output])
        found: Tensor = self.target(ids).logits[0, len(prompt) - 1 : -1]
        return found

    def rounds(self, draft: Any, answers: Sequence[tuple[Tokens, Tokens]], tree: Tree) -> Iterator[list[int]]:
        """Accepted drafts of every round of every (prompt, output)."""
        assert tree.num_steps < AHEAD
        features = self._features(tuple(answers))
        for index, (prompt, output) in enumerate(answers):
            yield rounds_of_sample(draft, features.batch([index]), len(prompt), len(output), tree)

    def accepted_from(self, draft: Any, answers: Sequence[tuple[Tokens, Tokens]], tree: Tree) -> Iterator[list[int]]:
        """Accepted drafts of a round that starts at each token of every output, for every (prompt, output)."""
        features = self._features(tuple(answers))
        for index, (prompt, _) in enumerate(answers):
            batch = features.batch([index])
            hidden = target_states(draft, batch.hidden_BTD, batch.aux_BTE)
            yield accepted_drafts(draft, batch.tokens_BT, hidden, len(prompt) - 1, tree).tolist()

    def _features(self, answers: Answers) -> Features:
        """The target's states along answers and what it would go on with; alike for every draft, so computed once."""
        if answers not in self._seen:
            longer = [Example(prompt, output + self.continued(prompt + output, AHEAD)) for prompt, output in answers]
            self._seen[answers] = features_of(self.target, longer, self.layers, torch.float32)
        return self._seen[answers]

    @torch.no_grad()
    def first_round_logits(self, draft: Any, prompt: Tokens, tokens: Sequence[int]) -> list[Tensor]:
        """Scores [V] of each draft step of the first round of a chain, whose steps read `tokens` one after the other.

        Args:
            tokens: the target's first token, then the drafts that the engine went on with.
        """
        features = features_of(self.target, [Example(prompt, tuple(tokens))], self.layers, torch.float32)
        batch = features.batch([0])
        state = target_states(draft, batch.hidden_BTD, batch.aux_BTE)
        attend = growing_attention()
        found: list[Tensor] = []
        output = torch.empty(0)
        ids = torch.tensor([[*prompt[1:], *tokens]])
        at_first = first_tokens(draft, ids, torch.arange(ids.shape[1])[None])
        for entry in range(ids.shape[1]):
            step = max(1, entry - len(prompt) + 2)
            hidden = state[:, entry : entry + 1] if step == 1 else output
            read = (at_first if step == 1 else ids)[:, entry : entry + 1]
            output = draft(read, hidden, torch.tensor([[entry]]), attend, step)
            if entry >= len(prompt) - 1:
                found.append(draft.logits(output[0, 0], step))
        return found
