"""The one training loop: batches, objective, gradients and a budget that stops it; saved now and then, so that a
training that was killed goes on with the same losses. What steps change and what is saved stand in one module, so that
nothing is forgotten."""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from draftbench.drafts.training.batches import Step, part_of, steps
from draftbench.drafts.training.extract import by_length
from draftbench.drafts.training.features import Features
from draftbench.drafts.training.optimizers import new_optimizers, rate_at
from draftbench.drafts.training.processes import Processes
from draftbench.drafts.training.recipe import Phase
from draftbench.drafts.training.settings import Budget
from draftbench.drafts.training.shards import write_atomically
from draftbench.drafts.training.trim import trim_memory
from draftbench.harness.errors import TrainingError

STATE, CURVE = "state.pt", "loss.jsonl"
FLOPS_EVERY = 50
"""Steps after which torch counts FLOPs again (it takes a quarter of the time); between, they go with the entries."""
TRIM_EVERY = 10
"""Steps after which freed memory is given back."""
VALIDATIONS = 10
"""Times that a training looks at the validation split, at equal shares of its budget."""


@dataclass(frozen=True)
class Task:
    """Everything that decides the losses of one training.

    Attributes:
        amount: of the budget's axis, for this training.
    """

    title: str
    budget: Budget
    amount: float
    rate: float
    seed: int
    dtype: str
    checkpoint_every: int = 50


@dataclass
class Course:
    """How far a training is."""

    phase: int = -1
    num_steps: int = 0
    num_tokens: int = 0
    flops: float = 0.0
    wall_s: float = 0.0

    def spent(self, axis: str) -> float:
        """What it has used of an axis."""
        return {"tokens": float(self.num_tokens), "steps": float(self.num_steps), "flops": self.flops}[axis]


Told = Callable[[float, float], None]
"""Told the share of the budget that is spent and the loss, after every step."""


class Trainer:
    """Trains one draft in place, in one folder."""

    def __init__(
        self,
        draft: nn.Module,
        phases: tuple[Phase, ...],
        features: Features,
        learn: np.ndarray,
        validate: np.ndarray,
        task: Task,
        processes: Processes,
        folder: Path,
    ) -> None:
        """`learn` and `validate` are the samples to learn from and to validate on."""
        self.draft, self.phases, self.features, self.task = draft.to(processes.device), phases, features, task
        self.course = Course()
        self.diverged = False
        """Whether it stopped because the loss was no longer a number."""
        self._learn, self._validate, self._processes, self._folder = learn, validate, processes, folder
        self._optimizers: tuple[torch.optim.Optimizer, ...] = ()
        self._flops_per_entry = 0.0
        self._lines: list[dict[str, Any]] = []
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def num_processes(self) -> int:
        """Processes that share each step."""
        return self._processes.world

    def run(self, told: Told) -> list[dict[str, Any]]:
        """Train until the budget is spent, from the saved state if there is one.

        Returns:
            A record for each step: loss, learning rate, tokens, FLOPs, and now and then the validation loss.

        Raises:
            TrainingError: the budget is too small for a step of every phase, or the loss is no longer a number.
        """
        torch.manual_seed(self.task.seed)
        self._restore()
        began, before = time.monotonic(), self.course.wall_s
        lengths, budget = self.features.store.lengths_N, self.task.budget
        with (self._folder / CURVE).open("a") if self._processes.first else nullcontext() as curve:
            for step in steps(lengths, self._learn, budget, self.task.seed, self.course.num_steps):
                cost = self._cost(step)
                if self.course.spent(budget.axis) + cost > self.task.amount * (1 + 1e-9):
                    break
                record = self._take(step, cost)
                self.course.wall_s = before + time.monotonic() - began
                if curve is not None:
                    curve.write(json.dumps(record) + "\n")
                    curve.flush()
                if self.course.num_steps % self.task.checkpoint_every == 0:
                    self._save()
                if self.course.num_steps % TRIM_EVERY == 0:
                    trim_memory()
                told(self.course.spent(budget.axis) / self.task.amount, record["loss"])
        if self.course.phase + 1 < len(self.phases):
            raise TrainingError(
                f"{self.task.title}: {self.task.amount:,.0f} {budget.axis} are {self.course.num_steps} steps, too few "
                f"for its {len(self.phases)} phases; raise budget.amount or lower tokens_per_batch."
            )
        self._save()
        return self._lines

    def validation_loss(self) -> float:
        """The current phase's loss on the validation split."""
        phase, store = self.phases[max(self.course.phase, 0)], self.features.store
        groups = by_length(store.lengths_N, self.task.budget.tokens_per_batch, self._validate)
        weighed = counted = 0.0
        with torch.no_grad():
            for group in part_of([list(group) for group in groups], self._processes.rank, self._processes.world):
                batch, count = self.features.batch(group), float(store.learned_N[group].sum())
                with self._autocast():
                    weighed += count * float(phase.loss(self.draft, batch, phase.objective))
                counted += count
        weighed, counted = self._processes.total(weighed, counted)
        return weighed / counted if counted else math.nan

    def _take(self, step: Step, cost: float) -> dict[str, Any]:
        """One optimiser step, recorded."""
        budget, axis = self.task.budget, self.task.budget.axis
        spent = self.course.spent(axis)
        self._enter_phase(spent / self.task.amount)
        rate = self.phases[self.course.phase].rate * rate_at((spent + cost) / self.task.amount, self.task.rate, budget)
        count = self._flops_per_entry == 0 or self.course.num_steps % FLOPS_EVERY == 0
        loss, flops = self._gradients(step, count)
        if count:
            self._flops_per_entry = flops / step.num_entries(self.features.store.lengths_N)
        trained = [p for p in self.draft.parameters() if p.requires_grad]
        norm = float(nn.utils.clip_grad_norm_(trained, budget.clip_norm))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self.diverged = True
            raise TrainingError(
                f"{self.task.title}: the {'gradient' if math.isfinite(loss) else 'loss'} of step "
                f"{self.course.num_steps} is not finite, so the training stops; the last good state is kept in "
                f"{self._folder}. Lower learning rates ({self.task.rate:g} was tried) may help, or float32."
            )
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()
        self.course.num_steps += 1
        self.course.num_tokens += step.num_tokens(self.features.store.lengths_N)
        self.course.flops += self._flops_per_entry * step.num_entries(self.features.store.lengths_N)
        record: dict[str, Any] = {
            "step": self.course.num_steps,
            "tokens": self.course.num_tokens,
            "flops": self.course.flops,
            "rate": rate,
            "loss": loss,
        }
        now = self.course.spent(axis) / self.task.amount
        if int(now * VALIDATIONS) > int(spent / self.task.amount * VALIDATIONS):
            record["validation_loss"] = self.validation_loss()
        self._lines.append(record)
        return record

    def _gradients(self, step: Step, count: bool) -> tuple[float, float]:
        """Gradients of a step's loss, the mean over its learned entries; the loss and the FLOPs of all processes."""
        phase, learned = self.phases[self.course.phase], self.features.store.learned_N
        total = sum(int(learned[row].sum()) for rows in step.batches for row in rows)
        loss = counted = 0.0
        for rows in step.batches:
            mine = part_of(rows, self._processes.rank, self._processes.world)
            weight = sum(int(learned[row].sum()) for row in mine) / total
            if not weight:
                continue
            batch = self.features.packed(mine)
            _ = batch.top  # what the target says is not part of the draft's FLOPs
            with FlopCounterMode(display=False) if count else nullcontext() as counter:
                with self._autocast():
                    part = weight * phase.loss(self.draft, batch, phase.objective)
                part.backward()
            loss += float(part.detach())
            counted += counter.get_total_flops() if counter is not None else 0
        self._processes.add_up(self._all_gradients())
        loss, counted = self._processes.total(loss, counted)
        return loss, counted

    def _all_gradients(self) -> list[torch.Tensor]:
        """Every process has to add up the same tensors: those of all parameters that some process's rows reached."""
        if self._processes.world == 1:
            return []
        trained = [parameter for parameter in self.draft.parameters() if parameter.requires_grad]
        reached = self._processes.total(*(float(parameter.grad is not None) for parameter in trained))
        found = []
        for parameter, count in zip(trained, reached, strict=True):
            if count and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if parameter.grad is not None:
                found.append(parameter.grad)
        return found

    def _cost(self, step: Step) -> float:
        """What a step will take of the axis; the FLOPs of the very first are only known afterwards."""
        lengths = self.features.store.lengths_N
        return {
            "tokens": float(step.num_tokens(lengths)),
            "steps": 1.0,
            "flops": self._flops_per_entry * step.num_entries(lengths),
        }[self.task.budget.axis]

    def _enter_phase(self, progress: float) -> None:
        """Begin the phases that the spent share of the budget has reached, one at a time."""
        ends = np.cumsum([phase.share for phase in self.phases])
        wanted = min(int(np.searchsorted(ends, progress + 1e-9, side="right")), len(self.phases) - 1)
        if wanted > self.course.phase:
            self.course.phase += 1
            self.phases[self.course.phase].begin(self.draft)
            self._optimizers = new_optimizers(self.draft, self.task.budget)
            self._flops_per_entry = 0.0

    def _autocast(self) -> Any:
        if self.task.dtype == "float32":
            return nullcontext()
        return torch.autocast(self._processes.device.type, torch.bfloat16)

    def _save(self) -> None:
        if not self._processes.first:
            return
        frozen = {name for name, parameter in self.draft.named_parameters() if not parameter.requires_grad}
        content = io.BytesIO()
        state = {
            "task": json.dumps(_identity(self.task)),
            "course": asdict(self.course),
            "flops_per_entry": self._flops_per_entry,
            "draft": {name: value for name, value in self.draft.state_dict().items() if name not in frozen},
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "random": torch.get_rng_state(),
        }
        torch.save(state, content)
        write_atomically(self._folder / STATE, content.getvalue())

    def _restore(self) -> None:
        """Go on where the saved state is; lines of the curve beyond it are taken back."""
        path = self._folder / STATE
        lines = (self._folder / CURVE).read_text().splitlines() if (self._folder / CURVE).exists() else []
        if path.exists():
            state = torch.load(path, weights_only=True, map_location=self._processes.device)
            if json.loads(state["task"]) != json.loads(json.dumps(_identity(self.task))):
                raise TrainingError(
                    f"{self.task.title}: {path} is the state of a training with other settings; "
                    "give another --out or remove its folder."
                )
            self.course = Course(**state["course"])
            for phase in self.phases[: self.course.phase + 1]:
                phase.begin(self.draft)
            self.draft.load_state_dict(state["draft"], strict=False)
            self._optimizers = new_optimizers(self.draft, self.task.budget)
            for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            self._flops_per_entry = state["flops_per_entry"]
            torch.set_rng_state(state["random"].cpu())
        self._processes.wait()
        self._lines = [json.loads(line) for line in lines[: self.course.num_steps]]
        if self._processes.first:
            kept = "".join(json.dumps(line) + "\n" for line in self._lines)
            write_atomically(self._folder / CURVE, kept.encode())
        self._processes.wait()


def _identity(task: Task) -> dict[str, Any]:
    """Settings under which a saved state may be taken up again."""
    return {
        "budget": task.budget.model_dump(mode="json"),
        "amount": task.amount,
        "rate": task.rate,
        "seed": task.seed,
        "dtype": task.dtype,
    }
