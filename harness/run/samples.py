"""Short continuations of open questions, sampled from every arm: their distribution must be vanilla's."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence

from draftbench.harness.engine import Engine
from draftbench.harness.load.client import open_session
from draftbench.harness.load.logprobs import score_output
from draftbench.harness.load.requests import Prompt
from draftbench.harness.records import CellKey, RequestRecord, SampleRecord, SampleScoreRecord
from draftbench.harness.run.progress import Progress
from draftbench.harness.run.send import run_loop, sampling_parameters
from draftbench.harness.store import RunStore
from draftbench.harness.suite import Suite
from draftbench.harness.workloads.render import ChatRenderer, prompt_sha256

OPEN_QUESTIONS = (
    "Tell me about the sea.",
    "What should I read next?",
    "Write the first line of a story.",
    "Name something worth learning.",
)
"""Questions with many answers: at a temperature above 0 every arm has to sample them as vanilla does."""
OPEN_TOKENS = 96
"""The first of them is the prefill's, the others verification's."""
SAMPLES = 60
"""Continuations of each open prompt, at a temperature above 0. What they can show: docs/measuring.md."""
AT_ONCE, DIGITS = 4, 5
"""Continuations that are scored at once, and decimals of a log-probability that are kept."""


def open_prompts(suite: Suite, renderer: ChatRenderer) -> tuple[Prompt, ...]:
    """Prompts to sample continuations of; none under greedy decoding."""
    if suite.sampling.temperature == 0:
        return ()
    found = []
    for question in OPEN_QUESTIONS:
        ids = renderer.render([{"role": "user", "content": question}])
        longest = max(1, min(OPEN_TOKENS, suite.max_total_tokens - len(ids)))
        found.append(Prompt("open", question, 0, None, ids, prompt_sha256(ids), longest))
    return tuple(found)


def sample_continuations(
    engine: Engine, arm: str, prompts: Sequence[Prompt], suite: Suite, store: RunStore, progress: Progress
) -> None:
    """Sample continuations of open prompts again and again, unmeasured; their distribution must be vanilla's."""
    if any(record.arm == arm for record in store.read(SampleRecord)):
        return
    found: dict[str, list[tuple[int, ...]]] = defaultdict(list)

    def keep(record: RequestRecord) -> None:
        if record.error is None:
            found[record.prompt_id].append(record.output_ids)
        progress.request_passed()

    progress.begin_pass(f"samples of {arm}", len(prompts) * SAMPLES)
    cell = CellKey(launch=0, block=-20, arm=arm, workload="open", concurrency=suite.running_requests)
    run_loop(engine, cell, list(prompts) * SAMPLES, sampling_parameters(suite), keep)
    for prompt_id, continuations in found.items():
        store.append(SampleRecord(arm=arm, prompt_id=prompt_id, continuations=tuple(continuations)))


def unscored_samples(suite: Suite, store: RunStore) -> list[SampleRecord]:
    """Samples that the target has not scored yet; random weights mean nothing by any text."""
    if suite.target.random_weights:
        return []
    scored = {(record.arm, record.prompt_id) for record in store.read(SampleScoreRecord)}
    return [record for record in store.read(SampleRecord) if (record.arm, record.prompt_id) not in scored]


def score_samples(
    engine: Engine,
    samples: Iterable[SampleRecord],
    prompts: Sequence[Prompt],
    temperature: float,
    store: RunStore,
    progress: Progress,
) -> None:
    """Let the target score every token of sampled continuations, at the temperature of the samples.

    Raises:
        EngineError: the engine did not answer.
    """
    by_id = {prompt.prompt_id: prompt.prompt_ids for prompt in prompts}

    async def scored(record: SampleRecord) -> SampleScoreRecord:
        side_by_side = asyncio.Semaphore(AT_ONCE)
        async with open_session() as session:

            async def score(output: tuple[int, ...]) -> tuple[tuple[float, float, float], ...]:
                async with side_by_side:
                    prompt_ids = by_id[record.prompt_id]
                    found = await score_output(session, engine.url, prompt_ids, output, temperature) if output else []
                progress.request_passed()
                return tuple(
                    (round(each.logprob, DIGITS), round(each.best, DIGITS), round(each.second, DIGITS))
                    for each in found
                )

            odds = await asyncio.gather(*map(score, record.continuations))
        return SampleScoreRecord(arm=record.arm, prompt_id=record.prompt_id, odds=tuple(odds))

    waiting = list(samples)
    progress.begin_pass("scores of sampled continuations", sum(len(record.continuations) for record in waiting))
    for record in waiting:
        store.append(asyncio.run(scored(record)))
