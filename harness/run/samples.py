"""Short continuations of open questions, sampled from every arm: their distribution must be vanilla's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from draftbench.harness.engine import Engine
from draftbench.harness.load.requests import Prompt
from draftbench.harness.records import (
    CellKey,
    RequestRecord,
    SampleRecord,
)
from draftbench.harness.run.progress import Progress
from draftbench.harness.run.send import run_loop, sampling_parameters
from draftbench.harness.store import RunStore
from draftbench.harness.suite import CONTROL_CONCURRENCY, Suite
from draftbench.harness.workloads.render import ChatRenderer, prompt_sha256

OPEN_QUESTIONS = (
    "Tell me about the sea.",
    "What should I read next?",
    "Write the first line of a story.",
    "Name something worth learning.",
)
"""Questions with many answers: at a temperature above 0 every arm has to sample them as vanilla does."""
OPEN_TOKENS = 3
SAMPLES = 60
"""Continuations of each open prompt, at a temperature above 0."""


def open_prompts(suite: Suite, renderer: ChatRenderer) -> tuple[Prompt, ...]:
    """Prompts to sample short continuations of; none under greedy decoding."""
    if suite.sampling.temperature == 0:
        return ()
    found = []
    for question in OPEN_QUESTIONS:
        ids = renderer.render([{"role": "user", "content": question}])
        found.append(Prompt("open", question, 0, None, ids, prompt_sha256(ids), OPEN_TOKENS))
    return tuple(found)


def sample_continuations(
    engine: Engine, arm: str, prompts: Sequence[Prompt], suite: Suite, store: RunStore, progress: Progress
) -> None:
    """Sample short continuations of open prompts again and again, unmeasured; their distribution must be vanilla's."""
    if any(record.arm == arm for record in store.read(SampleRecord)):
        return
    found: dict[str, list[tuple[int, ...]]] = defaultdict(list)

    def keep(record: RequestRecord) -> None:
        if record.error is None:
            found[record.prompt_id].append(record.output_ids)
        progress.request_passed()

    progress.begin_pass(f"samples of {arm}", len(prompts) * SAMPLES)
    cell = CellKey(launch=0, block=-20, arm=arm, workload="open", concurrency=CONTROL_CONCURRENCY)
    run_loop(engine, cell, list(prompts) * SAMPLES, sampling_parameters(suite), keep)
    for prompt_id, continuations in found.items():
        store.append(SampleRecord(arm=arm, prompt_id=prompt_id, continuations=tuple(continuations)))
