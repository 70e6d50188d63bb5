"""Vanilla's own passes, unmeasured: the reference that greedy outputs are held against, the control at another batch
shape, the target's scores of outputs that differ, and its answers for training."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, takewhile

from draftbench.harness.engine import Engine
from draftbench.harness.errors import EngineError, WorkloadError
from draftbench.harness.load.generator import open_session
from draftbench.harness.load.logprobs import decode_logprobs, score_output
from draftbench.harness.load.requests import Prompt
from draftbench.harness.metrics.lossless import Output, ReferenceKey, first_difference, key_of, to_score
from draftbench.harness.records import CellKey, ControlRecord, ReferenceRecord, RequestRecord, RescoreRecord
from draftbench.harness.run.execute import run_loop, sampling_parameters
from draftbench.harness.run.progress import Progress
from draftbench.harness.store import RunStore
from draftbench.harness.suite import CONTROL_CONCURRENCY, Suite, Workload
from draftbench.harness.workloads.conversations import load_workload
from draftbench.harness.workloads.prompts import Conversation
from draftbench.harness.workloads.render import ChatRenderer, prompt_sha256

OPEN_QUESTIONS = (
    "Tell me about the sea.",
    "What should I read next?",
    "Write the first line of a story.",
    "Name something worth learning.",
)
"""Questions with many answers: at a temperature above 0 every arm has to sample them as vanilla does."""
OPEN_TOKENS = 3
NOISE_PROMPTS = 12
"""Reference outputs, spread over the workloads, from which the rounding noise is measured."""


Answers = Callable[[list[Prompt]], Mapping[str, Sequence[int]]]
"""Answers one turn of several conversations: from prompt ids to output ids. A conversation left out ends there."""


def converse(
    suite: Suite, workload: Workload, renderer: ChatRenderer, answers: Answers
) -> Iterator[tuple[Prompt, Sequence[int]]]:
    """Every turn of a workload's conversations, rendered after the answers to the turns before, with its answer."""
    conversations = load_workload(workload, suite.sampling.seed)
    histories = {conversation.prompt_id: _opening(conversation) for conversation in conversations}
    for turn in range(max(len(conversation.turns) for conversation in conversations)):
        asked = []
        for conversation in conversations:
            history = histories.get(conversation.prompt_id)
            if turn < len(conversation.turns) and history is not None:
                history.append({"role": "user", "content": conversation.turns[turn]})
                asked.append(_prompt(suite, workload, conversation, turn, renderer.render(history), history))
        found = answers(asked) if asked else {}
        for prompt in asked:
            if prompt.prompt_id not in found:
                del histories[prompt.prompt_id]
                continue
            answer = {"role": "assistant", "content": renderer.decode(found[prompt.prompt_id])}
            histories[prompt.prompt_id].append(answer)
            yield prompt, found[prompt.prompt_id]


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
        _check_fit(batch, context_tokens, suite)
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


def check_first_prompts(suite: Suite, renderer: ChatRenderer, context_tokens: int) -> int:
    """Find out before anything is started whether the first turns fit; later ones are known once they are answered.

    Returns:
        Tokens of the longest of these requests, its output as long as it may be.

    Raises:
        WorkloadError: a prompt with its longest output does not fit the target's context or the KV pool.
    """
    longest = 0
    for workload in suite.workloads:
        for conversation in load_workload(workload, suite.sampling.seed):
            prompt = _first_prompt(suite, workload, conversation, renderer)
            _check_fit([prompt], context_tokens, suite)
            longest = max(longest, len(prompt.prompt_ids) + prompt.max_tokens)
    return longest


def prompts_alone(suite: Suite, renderer: ChatRenderer, context_tokens: int) -> dict[str, tuple[Prompt, ...]]:
    """Per workload, every conversation's only turn, where there is no reference pass: a suite of endpoints alone, or
    random weights, whose answers mean nothing.

    Raises:
        WorkloadError: a conversation has later turns, whose history the reference pass would write; one does not fit.
    """
    prompts: dict[str, tuple[Prompt, ...]] = {}
    for workload in suite.workloads:
        conversations = load_workload(workload, suite.sampling.seed)
        for conversation in conversations:
            if len(conversation.turns) > 1:
                raise WorkloadError(
                    f"workload {workload.name}: {conversation.prompt_id} has {len(conversation.turns)} turns, and the "
                    "answers between them are vanilla's reference pass, which a suite of endpoints alone does not "
                    "make, nor one with random weights. Add a vanilla arm, or take prompts of one turn."
                )
        found = tuple(_first_prompt(suite, workload, conversation, renderer) for conversation in conversations)
        _check_fit(found, context_tokens, suite)
        prompts[workload.name] = found
    return prompts


def answer_prompts(
    suite: Suite,
    engine: Engine,
    context_tokens: int,
    prompts: Sequence[Prompt],
    keep: Callable[[Prompt, RequestRecord], None],
) -> None:
    """The target's own answers to one turn of a workload's conversations, as many at once as an engine runs.

    Raises:
        WorkloadError: a prompt does not fit.
        EngineError: a request failed.
    """
    _check_fit(prompts, context_tokens, suite)
    by_id = {prompt.prompt_id: prompt for prompt in prompts}

    def pair(record: RequestRecord) -> None:
        if record.error is not None:
            raise EngineError(f"{record.prompt_id} failed: {record.error}")
        keep(by_id[record.prompt_id], record)

    if prompts:
        cell = CellKey(
            launch=0, block=0, arm="outputs", workload=prompts[0].workload, concurrency=suite.running_requests
        )
        run_loop(engine, cell, prompts, sampling_parameters(suite), pair)


def _opening(conversation: Conversation) -> list[dict[str, str]]:
    return [] if conversation.system is None else [{"role": "system", "content": conversation.system}]


def _key(prompt: Prompt) -> ReferenceKey:
    return prompt.workload, prompt.prompt_id, prompt.turn


def _first_prompt(suite: Suite, workload: Workload, conversation: Conversation, renderer: ChatRenderer) -> Prompt:
    history = [*_opening(conversation), {"role": "user", "content": conversation.turns[0]}]
    return _prompt(suite, workload, conversation, 0, renderer.render(history), history)


def _prompt(
    suite: Suite,
    workload: Workload,
    conversation: Conversation,
    turn: int,
    ids: tuple[int, ...],
    history: Sequence[Mapping[str, str]],
) -> Prompt:
    limit = workload.max_tokens or suite.sampling.max_tokens
    return Prompt(
        workload=workload.name,
        prompt_id=conversation.prompt_id,
        turn=turn,
        category=conversation.category,
        prompt_ids=ids,
        sha256=prompt_sha256(ids),
        max_tokens=limit,
        messages=tuple(history),
    )


def _check_fit(prompts: Sequence[Prompt], context_tokens: int, suite: Suite) -> None:
    pool = suite.max_total_tokens
    for prompt in prompts:
        needed = len(prompt.prompt_ids) + prompt.max_tokens
        if needed > min(context_tokens, pool):
            limit, what = min((context_tokens, "the target's context"), (pool, "max_total_tokens of the suite"))
            raise WorkloadError(
                f"workload {prompt.workload}: {prompt.prompt_id} (turn {prompt.turn + 1}) has "
                f"{len(prompt.prompt_ids)} prompt tokens and may produce {prompt.max_tokens}, together {needed}; "
                f"{what} is {limit}. Lower max_tokens or choose other prompts."
            )


def _generate(
    suite: Suite, engine: Callable[[], Engine], prompts: Sequence[Prompt], store: RunStore
) -> list[ReferenceRecord]:
    """Greedy answers to prompts, one request at a time so that every output comes from batch 1."""
    records: list[ReferenceRecord] = []
    by_id = {prompt.prompt_id: prompt for prompt in prompts}

    def keep(request: RequestRecord) -> None:
        if request.error is not None or request.finish_reason == "failed":
            raise EngineError(f"the reference pass failed at {request.prompt_id}: {request.error}")
        record = _as_reference(request, by_id[request.prompt_id])
        store.append(record)
        records.append(record)

    if prompts:
        turn = prompts[0].turn
        cell = CellKey(launch=0, block=-1 - turn, arm="reference", workload=prompts[0].workload, concurrency=1)
        run_loop(engine(), cell, prompts, sampling_parameters(suite, greedy=True), keep)
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


def open_prompts(suite: Suite, renderer: ChatRenderer) -> tuple[Prompt, ...]:
    """Prompts to sample short continuations of; none under greedy decoding."""
    if suite.sampling.temperature == 0:
        return ()
    found = []
    for question in OPEN_QUESTIONS:
        ids = renderer.render([{"role": "user", "content": question}])
        found.append(Prompt("open", question, 0, None, ids, prompt_sha256(ids), OPEN_TOKENS))
    return tuple(found)


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
