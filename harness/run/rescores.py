"""The target's own scores of greedy outputs that differ from vanilla's, after the cells."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import chain, takewhile

from draftbench.harness.engine import Engine
from draftbench.harness.load.client import open_session
from draftbench.harness.load.logprobs import decode_logprobs, score_output
from draftbench.harness.metrics.lossless import Output, ReferenceKey, first_difference, key_of, to_score
from draftbench.harness.records import ControlRecord, ReferenceRecord, RequestRecord, RescoreRecord
from draftbench.harness.run.progress import Progress
from draftbench.harness.store import RunStore
from draftbench.harness.suite import Suite

NOISE_PROMPTS = 12
"""Reference outputs, spread over the workloads, from which the rounding noise is measured."""


def not_rescored(suite: Suite, store: RunStore) -> list[tuple[ReferenceKey, Output]]:
    """Greedy outputs of arms and of the control that differ from the reference and wait to be scored."""
    if suite.sampling.temperature > 0 or suite.target.random_weights:
        return []
    references = {key_of(record): record for record in store.read(ReferenceRecord)}
    scored = {(key_of(score), score.output_ids): score for score in store.read(RescoreRecord)}
    drawn = {arm.name for arm in suite.arms if arm.simulated_acceptance is not None}
    measured = (record for record in store.each(RequestRecord) if record.cell.arm not in drawn)
    return to_score(chain(measured, store.each(ControlRecord)), references, scored)


def rescore_outputs(
    engine: Engine, outputs: Sequence[tuple[ReferenceKey, Output]], store: RunStore, progress: Progress
) -> None:
    """Let the target score outputs, and measure by how much rounding moves its scores of its own.

    Raises:
        EngineError: the engine did not answer.
    """
    references = store.read(ReferenceRecord)
    by_key = {key_of(record): record for record in references}
    has_noise = any(score.noise is not None for score in store.read(RescoreRecord))
    step = max(1, len(references) // NOISE_PROMPTS)
    chosen = [] if has_noise else references[::step][:NOISE_PROMPTS]
    own = [(key_of(record), record.output_ids) for record in chosen if record.output_ids]

    async def score(key: ReferenceKey, output: Output, is_own: bool) -> RescoreRecord:
        reference = by_key[key]
        async with open_session() as session:
            scores = await score_output(session, engine.url, reference.prompt_ids, output)
            noise = None
            if is_own:
                decoded = await decode_logprobs(session, engine.url, reference.prompt_ids, len(output))
                same = takewhile(lambda pair: pair[0][0] == pair[2], zip(decoded, scores, output, strict=False))
                noise = max((abs(old - new.logprob) for (_, old), new, _ in same), default=None)
        at = first_difference(reference.output_ids, output)
        lengths = len(reference.output_ids), len(output)
        worst = max(range(len(scores)), key=lambda index: scores[index].deficit)
        return RescoreRecord(
            workload=key[0],
            prompt_id=key[1],
            turn=key[2],
            output_ids=output,
            deficit=scores[worst].deficit,
            deficit_at=worst,
            top2_gap=None if at is None or at >= min(lengths) else scores[at].best - scores[at].second,
            noise=noise,
        )

    progress.begin_pass("scores of outputs that differ from vanilla's", len(own) + len(outputs))
    for is_own, pairs in ((True, own), (False, outputs)):
        for key, output in pairs:
            store.append(asyncio.run(score(key, output, is_own)))
            progress.request_passed()
