"""Vanilla's own passes, unmeasured: the reference that greedy outputs are held against, and the control at another
batch shape, which says how often vanilla differs from itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from draftbench.harness.engine import Engine
from draftbench.harness.errors import EngineError, WorkloadError
from draftbench.harness.load.requests import Prompt
from draftbench.harness.metrics.lossless import ReferenceKey, key_of
from draftbench.harness.records import CellKey, ControlRecord, ReferenceRecord, RequestRecord
from draftbench.harness.run.progress import Progress
from draftbench.harness.run.rendered import check_fit, converse
from draftbench.harness.run.send import run_loop, sampling_parameters, why
from draftbench.harness.store import RunStore
from draftbench.harness.suite import CONTROL_CONCURRENCY, Suite
from draftbench.harness.workloads.conversations import load_workload
from draftbench.harness.workloads.render import ChatRenderer


def reference_pass(
    suite: Suite,
    engine: Callable[[], Engine],
    renderer: ChatRenderer,
    context_tokens: int,
    store: RunStore,
    progress: Progress,
) -> dict[str, tuple[Prompt, ...]]:
    """Run every conversation once on vanilla, unmeasured, turn by turn, and freeze what the arms will be sent.

    What an interrupted run has already recorded is taken from there.

    Args:
        engine: gives vanilla's engine, which is asked for where something is missing.

    Returns:
        Per workload, every turn of every conversation as its own prompt.

    Raises:
        WorkloadError: a prompt with its longest output does not fit the target's context or the KV pool.
    """
    known = {key_of(record): record for record in store.read(ReferenceRecord)}

    def answers(batch: list[Prompt]) -> dict[str, tuple[int, ...]]:
        check_fit(batch, context_tokens, suite)
        missing = [prompt for prompt in batch if _key(prompt) not in known]
        known.update({key_of(record): record for record in _generate(suite, engine, missing, store)})
        for prompt in batch:
            if known[_key(prompt)].prompt_sha256 != prompt.sha256:
                raise WorkloadError(
                    f"workload {prompt.workload}: {prompt.prompt_id} is not the prompt that this run began with; "
                    "its data or the tokenizer changed. Start a new run."
                )
            progress.request_passed()
        return {prompt.prompt_id: known[_key(prompt)].output_ids for prompt in batch}

    prompts: dict[str, tuple[Prompt, ...]] = {}
    for workload in suite.workloads:
        num_turns = sum(len(conversation.turns) for conversation in load_workload(workload, suite.sampling.seed))
        progress.begin_pass(f"reference pass: {workload.name}", num_turns)
        prompts[workload.name] = tuple(prompt for prompt, _ in converse(suite, workload, renderer, answers))
    return prompts


def control_pass(
    suite: Suite,
    engine: Callable[[], Engine],
    prompts: dict[str, tuple[Prompt, ...]],
    store: RunStore,
    progress: Progress,
) -> None:
    """Vanilla again at another batch shape: how often it differs from itself.

    Args:
        engine: as `reference_pass`.
    """
    if suite.sampling.temperature > 0:
        return
    known = {key_of(record) for record in store.read(ControlRecord)}
    for workload, all_prompts in prompts.items():
        missing = [p for p in all_prompts if (workload, p.prompt_id, p.turn) not in known]
        by_key = {(prompt.prompt_id, prompt.turn): prompt for prompt in missing}

        def keep(request: RequestRecord, by_key: dict[tuple[str, int], Prompt] = by_key) -> None:
            if request.error is None:
                reference = _as_reference(request, by_key[(request.prompt_id, request.turn)])
                store.append(ControlRecord(**dict(reference)))
            progress.request_passed()

        if missing:
            progress.begin_pass(f"control pass: {workload}", len(missing))
            cell = CellKey(launch=0, block=-50, arm="control", workload=workload, concurrency=CONTROL_CONCURRENCY)
            run_loop(engine(), cell, missing, sampling_parameters(suite, greedy=True), keep)


def _key(prompt: Prompt) -> ReferenceKey:
    return prompt.workload, prompt.prompt_id, prompt.turn


def _generate(
    suite: Suite, engine: Callable[[], Engine], prompts: Sequence[Prompt], store: RunStore
) -> list[ReferenceRecord]:
    """Greedy answers to prompts, one request at a time so that every output comes from batch 1."""
    records: list[ReferenceRecord] = []
    by_id = {prompt.prompt_id: prompt for prompt in prompts}
    if not prompts:
        return records
    running = engine()

    def keep(request: RequestRecord) -> None:
        if request.error is not None or request.finish_reason == "failed":
            raise EngineError(f"the reference pass failed at {request.prompt_id}: {why(running, request)}")
        record = _as_reference(request, by_id[request.prompt_id])
        store.append(record)
        records.append(record)

    turn = prompts[0].turn
    cell = CellKey(launch=0, block=-1 - turn, arm="reference", workload=prompts[0].workload, concurrency=1)
    run_loop(running, cell, prompts, sampling_parameters(suite, greedy=True), keep)
    return records


def _as_reference(request: RequestRecord, prompt: Prompt) -> ReferenceRecord:
    assert request.finish_reason != "failed"
    return ReferenceRecord(
        workload=prompt.workload,
        prompt_id=request.prompt_id,
        turn=request.turn,
        prompt_sha256=request.prompt_sha256,
        prompt_ids=prompt.prompt_ids,
        output_ids=request.output_ids,
        finish_reason=request.finish_reason,
    )
