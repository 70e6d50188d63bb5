"""Scoring a finished run: one score for each answer that can be judged."""

from __future__ import annotations

from pathlib import Path

from draftbench.harness.manifest import Manifest
from draftbench.harness.records import CellKey, ScoreRecord
from draftbench.harness.run.scoring import score_run
from draftbench.harness.store import SCORES, RunStore, read_records
from draftbench.harness.suite import load_suite
from draftbench.harness.workloads.conversations import load_workload
from draftbench.harness.workloads.prompts import Exact
from draftbench.harness.workloads.render import ChatRenderer


def test_answers_are_scored_once_each(tmp_path, request_record):
    """A right, a wrong and a failed answer: two scores; arms and blocks keep their own."""
    suite = load_suite(Path("suites/concurrency-tiny.yaml"))
    renderer = ChatRenderer(Path("drafts/checkpoints/tiny/target"))
    first, second = load_workload(suite.workloads[0], 0)[:2]
    assert isinstance(first.answer, Exact)
    right = tuple(renderer._tokenizer.encode(first.answer.text, add_special_tokens=False).ids)
    store = RunStore.create(tmp_path, Manifest(suite=suite))
    cell = CellKey(launch=0, block=0, arm="eagle", workload="arithmetic", concurrency=1)
    for prompt_id, error in ((first.prompt_id, None), (second.prompt_id, None), (second.prompt_id, "lost")):
        store.append(request_record(cell=cell, prompt_id=prompt_id, output_ids=right, error=error))
    score_run(suite, store, renderer)
    scores = list(read_records(tmp_path / SCORES, ScoreRecord))
    assert [(s.prompt_id, s.correct) for s in scores] == [(first.prompt_id, True), (second.prompt_id, False)]
