"""One update of a served draft, in a process of its own: distilled from the target where its tokens were rejected.

    python -m draftbench.drafts.training.online_update FOLDER

reads FOLDER/job.json and leaves the new checkpoint beside it, outcome.json last. What the target said at a place is
computed anew from the recorded tokens, which changes nothing: its weights and the tokens before are the same.
Source: Online Speculative Decoding (arXiv 2310.07177); forward KL at rejected positions and a constant rate are what
the authors' code does online (github.com/LiuXiaoxuanPKU/OSD, distill/distill_trainer.py).

Shapes: B batch, T entries, D hidden size, V vocabulary, N rejected positions.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from draftbench.drafts.training.features import Batch, Example, Features, features_of
from draftbench.drafts.training.hf import AutoModelForCausalLM
from draftbench.drafts.training.load import load_draft
from draftbench.drafts.training.shards import write_atomically
from draftbench.drafts.updated import JOB, OUTCOME, ServedRequest, UpdateJob, UpdateOutcome
from draftbench.harness.errors import TrainingError

WEIGHTS = "model.safetensors"
CLIP_NORM = 1.0


def main(folder: Path) -> None:
    """Make the update that a folder's job asks for."""
    job = UpdateJob.model_validate_json((folder / JOB).read_text())
    torch.set_num_threads(job.num_threads)
    outcome = update(job, folder)
    write_atomically(folder / OUTCOME, outcome.model_dump_json(indent=1).encode())


def update(job: UpdateJob, out: Path) -> UpdateOutcome:
    """Train the draft on what was rejected and write it with its configuration.

    Raises:
        TrainingError: the loss is no longer a number; nothing is written.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    target: Any = AutoModelForCausalLM.from_pretrained(job.target, dtype=torch.float32)
    target = target.to(device).eval().requires_grad_(False)
    draft = load_draft(job.architecture, job.checkpoint, target, options=job.options).to(device)
    began = time.monotonic()
    examples = [Example(request.prompt_ids, request.output_ids) for request in job.requests]
    learner = Learner(draft, replace(features_of(target, examples, dtype=torch.float32), device=device), job)
    before = learner.loss()
    num_steps = learner.learn()
    after = learner.loss()
    if not (np.isfinite(before) and np.isfinite(after)):
        raise TrainingError(f"the loss went from {before} to {after}; lower options.learning_rate.")
    learning_s = time.monotonic() - began
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in draft.state_dict().items()}
    save_file(weights, out / WEIGHTS, metadata={"format": "pt"})
    config = json.loads((job.checkpoint / "config.json").read_text())
    # Small changes would be lost in fp16.
    (out / "config.json").write_text(json.dumps({**config, "dtype": "float32"}, indent=2) + "\n")
    return UpdateOutcome(
        num_steps=num_steps,
        loss_before=before,
        loss_after=after,
        learning_s=learning_s,
        processor_s=sum(os.times()[:2]),
        weights_sha256=hashlib.sha256((out / WEIGHTS).read_bytes()).hexdigest(),
    )


class Learner:
    """A draft, what it learns from, and how."""

    def __init__(self, draft: Any, features: Features, job: UpdateJob) -> None:
        self._draft, self._features, self._requests = draft, features, job.requests
        self._kind, self._seed = str(job.options["loss"]), job.seed
        self._steps, self._batch = int(job.options["steps"]), int(job.options["batch"])
        self._rate = float(job.options["learning_rate"])

    def learn(self) -> int:
        """Steps of AdamW at a constant rate, the requests in a new order every time all were seen."""
        parameters = list(self._draft.requires_grad_(True).parameters())
        optimizer = torch.optim.AdamW(parameters, lr=self._rate, weight_decay=0.0)
        draw = np.random.default_rng(self._seed)
        waiting: list[int] = []
        for _ in range(self._steps):
            if not waiting:
                waiting = draw.permutation(len(self._requests)).tolist()
            chosen, waiting = waiting[: self._batch], waiting[self._batch :]
            optimizer.zero_grad()
            self._loss_of(chosen).mean().backward()
            nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
            optimizer.step()
        self._draft.requires_grad_(False)
        return self._steps

    @torch.no_grad()
    def loss(self) -> float:
        """The mean over all rejected positions."""
        found = [self._loss_of(range(len(self._requests))[at : at + self._batch]) for at in self._starts()]
        return float(torch.cat(found).mean())

    def _starts(self) -> range:
        return range(0, len(self._requests), self._batch)

    def _loss_of(self, chosen: Sequence[int]) -> Tensor:
        """At every rejected position of some requests [N]."""
        batch = at_rejected(self._features.batch(list(chosen)), [self._requests[index] for index in chosen])
        states_BTD = self._draft(batch.tokens_BT, batch.hidden_BTD, batch.positions_BT, batch.causal)
        draft_NV = self._draft.logits(states_BTD[batch.learned_BT]).float()
        target_NV = nn.functional.linear(batch.next_hidden_BTD[batch.learned_BT], batch.head_VD.float())
        return distance(draft_NV, target_NV, self._kind)


def at_rejected(batch: Batch, requests: Sequence[ServedRequest]) -> Batch:
    """The batch with what is learned where tokens were rejected: entry i foretells token i + 2."""
    learned_BT = torch.zeros_like(batch.learned_BT)
    for row, request in enumerate(requests):
        learned_BT[row, [len(request.prompt_ids) + place - 2 for place in request.rejected]] = True
    return replace(batch, learned_BT=learned_BT)


def distance(draft_NV: Tensor, target_NV: Tensor, kind: str) -> Tensor:
    """How far the draft's probabilities are from the target's [N], in nats or, for tvd, as a share.

    kl is KL(target, draft), reverse_kl KL(draft, target), jsd the mean of both to the middle distribution.
    """
    p_NV, q_NV = draft_NV.log_softmax(-1), target_NV.log_softmax(-1)
    if kind == "kl":
        return divergence(q_NV, p_NV)
    if kind == "reverse_kl":
        return divergence(p_NV, q_NV)
    if kind == "tvd":
        return (p_NV.exp() - q_NV.exp()).abs().sum(-1) / 2
    middle_NV = torch.logaddexp(p_NV, q_NV) - np.log(2)
    return (divergence(q_NV, middle_NV) + divergence(p_NV, middle_NV)) / 2


def divergence(from_NV: Tensor, to_NV: Tensor) -> Tensor:
    """KL(from, to) of log-probabilities [N]."""
    return (from_NV.exp() * (from_NV - to_NV)).sum(-1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
