"""A workload's conversations as the prompts that are sent: rendered turn by turn, and known to fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from draftbench.drafts.layout import context_tokens
from draftbench.harness.errors import WorkloadError
from draftbench.harness.load.requests import Prompt
from draftbench.harness.records import CellKey
from draftbench.harness.suite import Suite, Workload
from draftbench.harness.workloads.conversations import load_workload
from draftbench.harness.workloads.prompts import Conversation
from draftbench.harness.workloads.render import ChatRenderer, prompt_sha256

Answers = Callable[[list[Prompt]], Mapping[str, Sequence[int]]]
"""Answers one turn of several conversations: from prompt ids to output ids. A conversation left out ends there."""


def converse(
    suite: Suite, workload: Workload, renderer: ChatRenderer, answers: Answers
) -> Iterator[tuple[Prompt, Sequence[int]]]:
    """Every turn of a workload's conversations, rendered after the answers to the turns before, with its answer."""
    conversations = load_workload(workload, suite.sampling.seed)
    histories: dict[str, list[dict[str, str]]] = {conversation.prompt_id: [] for conversation in conversations}
    for turn in range(max(len(conversation.turns) for conversation in conversations)):
        asked = []
        for conversation in conversations:
            history = histories.get(conversation.prompt_id)
            if turn < len(conversation.turns) and history is not None:
                history += conversation.asked(turn)
                asked.append(_prompt(suite, workload, conversation, turn, renderer.render(history), history))
        found = answers(asked) if asked else {}
        for prompt in asked:
            if prompt.prompt_id not in found:
                del histories[prompt.prompt_id]
                continue
            answer = {"role": "assistant", "content": renderer.decode(found[prompt.prompt_id])}
            histories[prompt.prompt_id].append(answer)
            yield prompt, found[prompt.prompt_id]


def check_first_prompts(suite: Suite, renderer: ChatRenderer, context_tokens: int) -> int:
    """Find out before anything is started whether the first turns fit; later ones are known once they are answered.

    Returns:
        Tokens of the longest of these requests, its output as long as it may be.

    Raises:
        WorkloadError: a prompt with its longest output does not fit the target's context or the KV pool.
    """
    longest = 0
    for workload in suite.workloads:
        for prompt in first_prompts(suite, workload, renderer):
            check_fit([prompt], context_tokens, suite)
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
        found = first_prompts(suite, workload, renderer)
        check_fit(found, context_tokens, suite)
        prompts[workload.name] = found
    return prompts


def sent_in(suite: Suite, cell: CellKey, prompts: Sequence[Prompt]) -> Sequence[Prompt]:
    """What a cell sends of its workload's prompts: its block's own part where blocks share them out, whole
    conversations, and of these its load point's first so many."""
    if suite.block_prompts == "fresh":
        places = {prompt_id: place for place, prompt_id in enumerate(dict.fromkeys(p.prompt_id for p in prompts))}
        prompts = [p for p in prompts if places[p.prompt_id] % suite.blocks_per_launch == cell.block]
    return prompts[: suite.prompts_at(cell.load)]


def check_shares(suite: Suite) -> None:
    """Find out before anything is started whether every block has prompts of its own, where the suite asks for that.

    Raises:
        WorkloadError: a workload has fewer conversations than a launch has blocks.
    """
    for workload in suite.workloads if suite.block_prompts == "fresh" else ():
        found = len(load_workload(workload, suite.sampling.seed))
        if found < suite.blocks_per_launch:
            raise WorkloadError(
                f"workload {workload.name} has {found} conversations, and block_prompts: fresh shares them out over "
                f"{suite.blocks_per_launch} blocks; take more prompts or fewer blocks."
            )


def context_left(suite: Suite, target: Mapping[str, Any]) -> int:
    """The target's context, shortened by what a round may draft beyond the last token.

    Args:
        target: its config.json.
    """
    longest = max((arm.num_draft_tokens or 0) + (arm.num_steps or 0) * (arm.topk or 0) for arm in suite.arms)
    return context_tokens(target) - longest


def check_fit(prompts: Sequence[Prompt], context_tokens: int, suite: Suite) -> None:
    """
    Raises:
        WorkloadError: a prompt with its longest output does not fit the target's context or the KV pool.
    """
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


def first_prompts(
    suite: Suite, workload: Workload, renderer: ChatRenderer, longest: int | None = None
) -> tuple[Prompt, ...]:
    """The first turn of each of a workload's conversations, which follows no answer.

    Args:
        longest: only of so many, those with the most characters.
    """
    conversations, found = load_workload(workload, suite.sampling.seed), []
    if longest is not None:
        conversations = tuple(sorted(conversations, key=lambda each: len(each.turns[0])))[-longest:]
    for conversation in conversations:
        history = conversation.asked(0)
        found.append(_prompt(suite, workload, conversation, 0, renderer.render(history), history))
    return tuple(found)


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
