"""Drafts that are updated between blocks: when, from what, by which process, and that an engine has the right weights.

Every launch begins with the checkpoint as it was given, so launches repeat each other. Which weights a block has
follows from the records of the launch's updates alone, so a run that is resumed goes on as it was.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from draftbench.drafts.api import discover
from draftbench.drafts.updated import (
    JOB,
    OUTCOME,
    ServedRequest,
    UpdatedOptions,
    UpdateJob,
    UpdateOutcome,
    rejected_places,
)
from draftbench.harness.engine import Engine
from draftbench.harness.errors import EngineError
from draftbench.harness.host.provenance import file_sha256
from draftbench.harness.load.requests import Prompt
from draftbench.harness.records import CellKey, CellRecord, RequestRecord
from draftbench.harness.runtime.forks import die_with_parent
from draftbench.harness.safe_files import make_own_folder, write_whole
from draftbench.harness.store import RunStore
from draftbench.harness.suite import Arm, Suite
from draftbench.harness.units import fixed, seconds
from draftbench.harness.update_records import UpdateRecord

UPDATES, LOG, WEIGHTS = "updates", "update.log", "model.safetensors"
LOG_LINES_SHOWN = 3
Prompts = Mapping[str, Sequence[Prompt]]
"""By workload."""


@dataclass(frozen=True)
class Learnt:
    """What an update learns from.

    Attributes:
        num_tokens: delivered by all requests since the update before.
        num_dropped: rejected positions that the buffer does not hold.
    """

    requests: tuple[ServedRequest, ...]
    num_tokens: int
    num_dropped: int

    @property
    def num_positions(self) -> int:
        """Rejected positions."""
        return sum(len(request.rejected) for request in self.requests)


class DraftUpdates:
    """The updates of a run's arms.

    Args:
        checkpoints: of the arms that are updated, as they were given.
        note: is told a line for every update.
    """

    def __init__(
        self,
        suite: Suite,
        checkpoints: Mapping[str, Path],
        target: Path,
        store: RunStore,
        note: Callable[[str], None],
    ) -> None:
        self._arms = {arm.name: arm for arm in suite.arms if arm.name in checkpoints}
        self._checkpoints, self._target, self._store, self._note = checkpoints, target, store, note
        self._held: dict[str, tuple[Engine, Path]] = {}
        """What arms' engines have loaded since they were started."""

    def samples_wait(self, cell: CellKey) -> bool:
        """Whether the arm's samples should come later: once its draft has been updated."""
        arm = self._arms.get(cell.arm)
        return arm is not None and cell.block < self._options(arm).every

    def ready(self, cell: CellKey, engine: Engine, prompts: Prompts) -> bool:
        """Bring an arm's draft to where it has to be for a cell; True where the engine got other weights.

        Updates that are due and were not made are made now: all cells of earlier blocks have been run.

        Raises:
            EngineError: the engine does not take the weights, or what was kept of an update is not there any more.
        """
        arm = self._arms.get(cell.arm)
        if arm is None:
            return False
        made = {record.block: record for record in self._store.read(UpdateRecord) if self._is_of(record, cell)}
        every, changed = self._options(arm).every, False
        for block in range(every - 1, cell.block, every):
            if block not in made:
                made[block] = self._update(arm, cell.launch, block, list(made.values()), engine, prompts)
                changed |= made[block].swap_ns is not None
        wanted = self._weights(arm, [record for block, record in made.items() if block < cell.block])
        return self._load(arm, engine, wanted) is not None or changed

    def _is_of(self, record: UpdateRecord, cell: CellKey) -> bool:
        return (record.arm, record.launch) == (cell.arm, cell.launch)

    def _options(self, arm: Arm) -> UpdatedOptions:
        options = discover()[arm.architecture].options.model_validate(arm.options)
        assert isinstance(options, UpdatedOptions)
        return options

    def _weights(self, arm: Arm, made: Sequence[UpdateRecord]) -> Path:
        """The folder of the last update's weights, or the checkpoint.

        Raises:
            EngineError: the weights are not those that were recorded.
        """
        last = max((record for record in made if record.is_made), key=lambda record: record.block, default=None)
        if last is None:
            return self._checkpoints[arm.name]
        folder = self._store.folder / (last.folder or "")
        path = folder / WEIGHTS
        if not path.is_file() or file_sha256(path) != last.weights_sha256:
            raise EngineError(
                f"{path} is not there any more as the update after block {last.block} left it; put it back, or start "
                "a new run."
            )
        return folder

    def _load(self, arm: Arm, engine: Engine, wanted: Path) -> int | None:
        """Nanoseconds that loading took; None where the engine has these weights."""
        held = self._held.get(arm.name)
        has = self._checkpoints[arm.name] if held is None or held[0] is not engine else held[1]
        if has == wanted:
            return None
        began = time.monotonic_ns()
        self._held.pop(arm.name, None)
        asyncio.run(engine.load_draft(wanted.resolve()))
        self._held[arm.name] = (engine, wanted)
        return time.monotonic_ns() - began

    def _update(
        self, arm: Arm, launch: int, block: int, made: list[UpdateRecord], engine: Engine, prompts: Prompts
    ) -> UpdateRecord:
        """Make an update, give it to the engine, and record both."""
        options = self._options(arm)
        since = max((record.block for record in made if record.is_made), default=-1)
        learnt = self._learnt(arm, launch, range(since + 1, block + 1), options.buffer, prompts)
        name = f"{UPDATES}/l{launch}-b{block}-{arm.name}"
        began = time.monotonic_ns()
        outcome, error = None, None
        if learnt.requests:
            job = UpdateJob(
                architecture=arm.architecture,
                checkpoint=self._weights(arm, made).resolve(),
                target=self._target.resolve(),
                options=options.model_dump(),
                seed=(options.seed, block),
                num_threads=num_threads(),
                requests=learnt.requests,
            )
            found = run_update(str(discover()[arm.architecture].updater), job, self._store.folder / name)
            outcome, error = (found, None) if isinstance(found, UpdateOutcome) else (None, found)
        wall_ns = time.monotonic_ns() - began
        swap_ns = None
        try:
            if outcome is not None:
                swap_ns = self._load(arm, engine, self._store.folder / name)
        finally:
            record = UpdateRecord(
                launch=launch,
                block=block,
                arm=arm.name,
                num_requests=len(learnt.requests),
                num_tokens=learnt.num_tokens,
                num_positions=learnt.num_positions,
                num_dropped=learnt.num_dropped,
                num_steps=outcome and outcome.num_steps,
                loss_before=outcome and outcome.loss_before,
                loss_after=outcome and outcome.loss_after,
                wall_ns=wall_ns,
                learning_ns=None if outcome is None else round(outcome.learning_s * 1e9),
                processor_s=outcome and outcome.processor_s,
                swap_ns=swap_ns,
                weights_sha256=outcome and outcome.weights_sha256,
                folder=None if outcome is None else name,
                error=error,
            )
            self._store.append(record)
            self._note(told(record))
        return record

    def _learnt(self, arm: Arm, launch: int, blocks: range, buffer: int, prompts: Prompts) -> Learnt:
        """The rejected positions of sealed cells; equal requests, at another load point, count once.

        They stand in the order of blocks and prompts: which of several at once ended first is chance.
        """
        sealed = {record.cell for record in self._store.each(CellRecord) if record.error is None}
        known = {(w, prompt.prompt_id, prompt.turn): prompt for w, each in prompts.items() for prompt in each}
        order = {key: number for number, key in enumerate(known)}
        places: dict[tuple[int, int, tuple[int, ...]], set[int]] = {}
        num_tokens = 0
        for request in self._store.each(RequestRecord):
            cell = request.cell
            if (cell.arm, cell.launch) != (arm.name, launch) or cell.block not in blocks or cell not in sealed:
                continue
            num_tokens += request.num_output_tokens
            # A request that was put back has tokens that no round accounts for.
            if request.error is not None or request.num_retractions or not request.rounds:
                continue
            accepted = tuple(round_.num_accepted_drafts for round_ in request.rounds)
            found = rejected_places(accepted, arm.num_steps or 0, len(request.output_ids))
            number = order[cell.workload, request.prompt_id, request.turn]
            places.setdefault((cell.block, number, request.output_ids), set()).update(found)
        served: list[ServedRequest] = []
        left, num_dropped = buffer, 0
        in_order = list(known.values())
        for (_, number, output_ids), found_places in sorted(places.items(), reverse=True):
            kept = sorted(found_places)[max(0, len(found_places) - left) :]
            num_dropped += len(found_places) - len(kept)
            left -= len(kept)
            if kept:
                ids = in_order[number].prompt_ids
                served.append(ServedRequest(prompt_ids=ids, output_ids=output_ids, rejected=tuple(kept)))
        return Learnt(tuple(reversed(served)), num_tokens, num_dropped)


def run_update(module: str, job: UpdateJob, folder: Path) -> UpdateOutcome | str:
    """Run a job in a process of its own, in its folder; what it did, or why it failed."""
    make_own_folder(folder, levels=2)
    (folder / OUTCOME).unlink(missing_ok=True)
    write_whole(folder / JOB, job.model_dump_json() + "\n")
    write_whole(folder / LOG, b"")
    process = None
    with (folder / LOG).open("ab") as log:
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", module, str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
                preexec_fn=die_with_parent,
            )
            code = process.wait()
        except BaseException:
            if process is not None:
                process.kill()
                process.wait()
            raise
    if code == 0 and (folder / OUTCOME).is_file():
        return UpdateOutcome.model_validate_json((folder / OUTCOME).read_text())
    lines = [line for line in (folder / LOG).read_text(errors="replace").splitlines() if line.strip()]
    return f"exit code {code}; the last lines of {UPDATES}/{folder.name}/{LOG}: " + " / ".join(lines[-LOG_LINES_SHOWN:])


def num_threads() -> int:
    """Of an update: as many as the host gives torch anywhere else."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) else len(os.sched_getaffinity(0))


def told(record: UpdateRecord) -> str:
    """An update as a line."""
    what = f"{record.arm}: update after launch {record.launch} block {record.block}"
    if record.error is not None:
        return f"{what} FAILED, the draft stays as it was: {record.error}"
    if not record.is_made:
        return f"{what}: nothing was rejected, the draft stays as it was"
    loss = f"{fixed(record.loss_before, 3)} → {fixed(record.loss_after, 3)}"
    return f"{what}: {record.num_positions} rejected positions, loss {loss}, {seconds(record.cost_ns):.1f} s"
