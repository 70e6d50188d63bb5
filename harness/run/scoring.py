"""Scores a run's answers after it was measured, so that no program or algebra runs beside a measurement."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from draftbench.harness.records import RequestRecord, ScoreRecord
from draftbench.harness.store import REQUESTS, RunStore, read_records
from draftbench.harness.suite import Suite
from draftbench.harness.workloads.conversations import load_workload
from draftbench.harness.workloads.prompts import Answer
from draftbench.harness.workloads.render import ChatRenderer
from draftbench.harness.workloads.sandbox import check_isolation
from draftbench.harness.workloads.score import score

Reference = tuple[int, Answer]
"""The turn that has an answer, and what it must be."""


def check_scoring(suite: Suite) -> None:
    """Find out before a run whether its programs could be run after it.

    Raises:
        WorkloadError: programs are to be run, but cannot be isolated on this host.
    """
    if any(workload.run_programs for workload in suite.workloads):
        check_isolation()


def score_run(suite: Suite, store: RunStore, renderer: ChatRenderer) -> None:
    """Write scores.jsonl: whether each finished answer is right, where its set says what is right.

    Raises:
        WorkloadError: programs are to be run, but cannot be isolated on this host.
    """
    store.write_scores(_scores(suite, store, renderer))


def _scores(suite: Suite, store: RunStore, renderer: ChatRenderer) -> Iterator[ScoreRecord]:
    runs_programs = {workload.name: workload.run_programs for workload in suite.workloads}
    references: dict[tuple[str, str], Reference] = {
        (workload.name, conversation.prompt_id): (len(conversation.turns) - 1, conversation.answer)
        for workload in suite.workloads
        for conversation in load_workload(workload, suite.sampling.seed)
        if conversation.answer is not None
    }

    @cache  # greedy blocks repeat the same answers
    def correct(workload: str, prompt_id: str, output_ids: tuple[int, ...], text: str | None) -> bool | None:
        answer = references[workload, prompt_id][1]
        return score(renderer.decode(output_ids) if text is None else text, answer, runs_programs[workload])

    for request in read_records(store.folder / REQUESTS, RequestRecord):
        key = (request.cell.workload, request.prompt_id)
        if request.error is not None or key not in references or request.turn != references[key][0]:
            continue
        verdict = correct(*key, request.output_ids, request.output_text)
        if verdict is not None:
            yield ScoreRecord(cell=request.cell, prompt_id=request.prompt_id, turn=request.turn, correct=verdict)
