"""Sends a cell's prompts to an engine, in a closed or an open loop, and turns the answers into records."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from draftbench.harness.engine import Engine
from draftbench.harness.load.client import Answer, open_session
from draftbench.harness.load.limits import Watch
from draftbench.harness.load.requests import Prompt
from draftbench.harness.records import CellKey, GraphUse, PhaseTimes, RequestRecord, Round
from draftbench.harness.units import NS_PER_S, seconds

Send = Callable[..., Awaitable[RequestRecord]]
"""Sends one prompt and hands over its record; called with its number, in an open loop when it is due, and where arms
take turns when its cell's request before ended."""


class RoundBook:
    """Rounds of requests that are still running, read from the engine whenever one finishes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._num_accepted_drafts: dict[str, list[int]] = {}
        self._num_proposed_drafts: dict[str, list[int]] = {}
        self._phases: list[PhaseTimes] = []
        self._graphs: list[GraphUse] = []
        engine.take_events()

    def pop(self, request_id: str) -> tuple[Round, ...] | None:
        """The finished request's verify steps in order; None if the engine has no draft."""
        events = self._engine.take_events()
        for owner, counts in events.num_accepted_drafts.items():
            self._num_accepted_drafts.setdefault(owner, []).extend(counts)
        for owner, counts in events.num_proposed_drafts.items():
            self._num_proposed_drafts.setdefault(owner, []).extend(counts)
        if events.phases is not None:
            self._phases.append(events.phases)
        if events.graphs is not None:
            self._graphs.append(events.graphs)
        if self._engine.num_proposed_drafts is None:
            return None
        accepted = self._num_accepted_drafts.pop(request_id, [])
        proposed = self._num_proposed_drafts.pop(request_id, [self._engine.num_proposed_drafts] * len(accepted))
        return tuple(
            Round(num_accepted_drafts=count, num_proposed_drafts=nodes)
            for count, nodes in zip(accepted, proposed, strict=True)
        )

    def phases(self) -> PhaseTimes | None:
        """The phase times of all rounds so far, summed; None where the engine measures none."""
        if not self._phases:
            return None
        fields = PhaseTimes.model_fields
        return PhaseTimes(**{name: sum(getattr(times, name) for times in self._phases) for name in fields})

    def graphs(self) -> GraphUse | None:
        """The passes in CUDA graphs so far, summed; None where the engine has none."""
        if not self._graphs:
            return None
        return GraphUse(
            num_passes=sum(use.num_passes for use in self._graphs),
            **{phase: _total(getattr(use, phase) for use in self._graphs) for phase in ("target", "draft", "extend")},
        )


def _total(counts: Iterable[int | None]) -> int | None:
    present = [count for count in counts if count is not None]
    return sum(present) if present else None


async def run_closed_loop(
    engine: Engine,
    cell: CellKey,
    prompts: Sequence[Prompt],
    sampling: dict[str, Any],
    book: RoundBook,
    on_record: Callable[[RequestRecord], None],
    watch: Watch | None = None,
) -> None:
    """Keep `cell.concurrency` requests under way until every prompt was sent once; each finished one is handed over."""
    assert cell.concurrency is not None
    waiting: Iterator[tuple[int, Prompt]] = iter(enumerate(prompts))
    watch = watch or Watch()
    async with open_session() as session, watch.watching():
        send = _sender(engine, session, cell, sampling, book, on_record, watch)

        async def worker() -> None:
            for number, prompt in waiting:
                await send(number, prompt)

        async with asyncio.TaskGroup() as group:
            for _ in range(cell.concurrency):
                group.create_task(worker())


async def run_open_loop(
    engine: Engine,
    cell: CellKey,
    prompts: Sequence[Prompt],
    arrivals_s: Sequence[float],
    sampling: dict[str, Any],
    book: RoundBook,
    on_record: Callable[[RequestRecord], None],
    watch: Watch | None = None,
) -> None:
    """Send every prompt once when it arrives, however many are still running; each finished one is handed over.

    Args:
        arrivals_s: of each prompt, in seconds from the first one's.
    """
    watch = watch or Watch()
    async with open_session() as session, watch.watching():
        send = _sender(engine, session, cell, sampling, book, on_record, watch)
        async with asyncio.TaskGroup() as group:
            began_ns = time.monotonic_ns()
            for number, (prompt, at_s) in enumerate(zip(prompts, arrivals_s, strict=True)):
                due_ns = began_ns + round(at_s * NS_PER_S)
                await asyncio.sleep(seconds(max(0, due_ns - time.monotonic_ns())))
                group.create_task(send(number, prompt, due_ns))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Turn:
    """One arm's part where arms take turns: its cell, engine and rounds, and what brackets each of its requests."""

    cell: CellKey
    engine: Engine
    book: RoundBook
    begin: Callable[[], None]
    end: Callable[[], None]
    watch: Watch


async def run_turns(
    turns: Sequence[Turn],
    orders: Sequence[Sequence[int]],
    prompts: Sequence[Prompt],
    sampling: dict[str, Any],
    on_record: Callable[[RequestRecord], None],
) -> None:
    """Send every prompt to one arm after the other, before the next prompt; each finished request is handed over.

    Engines rest before and after their turns.

    Args:
        orders: of each prompt, the arms' order.
    """
    ended_ns: dict[CellKey, int] = {}
    async with open_session() as session, contextlib.AsyncExitStack() as stack:
        for turn in turns:
            await stack.enter_async_context(turn.watch.watching())
        sends = [_sender(turn.engine, session, turn.cell, sampling, turn.book, on_record, turn.watch) for turn in turns]
        for number, (prompt, order) in enumerate(zip(prompts, orders, strict=True)):
            for index in order:
                turn = turns[index]
                turn.engine.wake()
                await turn.engine.connect(session)
                turn.begin()
                record = await sends[index](number, prompt, ended_ns=ended_ns.get(turn.cell))
                turn.end()
                turn.engine.rest()
                ended_ns[turn.cell] = record.finished_ns


def _sender(
    engine: Engine,
    session: aiohttp.ClientSession,
    cell: CellKey,
    sampling: dict[str, Any],
    book: RoundBook,
    on_record: Callable[[RequestRecord], None],
    watch: Watch,
) -> Send:
    """Two seconds after each stream ends SGLang aborts every request whose id begins with that stream's id
    (tokenizer_manager.create_abort_task, 0.5.17), so no id is used twice, nor is one the beginning of another."""
    sending = secrets.token_hex(4)

    async def send(
        number: int, prompt: Prompt, due_ns: int | None = None, ended_ns: int | None = None
    ) -> RequestRecord:
        request_id = f"{cell.slug}-{number}-{sending}"
        limited = {**sampling, "max_new_tokens": prompt.max_tokens}
        answer = await engine.ask(session, request_id, prompt, limited, watch)
        paused_ns = 0 if ended_ns is None else answer.sent_ns - ended_ns
        record = to_record(cell, request_id, prompt, answer, book.pop(request_id), due_ns, paused_ns)
        on_record(record)
        return record

    return send


def to_record(
    cell: CellKey,
    request_id: str,
    prompt: Prompt,
    answer: Answer,
    rounds: tuple[Round, ...] | None,
    due_ns: int | None = None,
    paused_ns: int = 0,
) -> RequestRecord:
    """One request's record: client times, engine counters."""
    served = answer.served
    return RequestRecord(
        cell=cell,
        request_id=request_id,
        prompt_id=prompt.prompt_id,
        turn=prompt.turn,
        category=prompt.category,
        prompt_sha256=prompt.sha256,
        num_prompt_tokens=len(prompt.prompt_ids),
        engine_prompt_tokens=answer.num_prompt_tokens,
        num_cached_tokens=answer.num_cached_tokens,
        due_ns=due_ns,
        sent_ns=answer.sent_ns,
        paused_ns=paused_ns,
        chunks=tuple(answer.chunks),
        finished_ns=answer.finished_ns,
        output_ids=tuple(answer.output_ids),
        counted_tokens=answer.num_tokens,
        output_text=answer.text,
        reasoning_text=answer.reasoning,
        num_reasoning_chunks=answer.num_reasoning_chunks,
        num_reasoning_tokens=answer.num_reasoning_tokens,
        finish_reason="failed" if answer.error is not None else answer.finish_reason,
        rounds=served.rounds if rounds is None else rounds,
        rounds_from=served.source if rounds is None else None,
        engine_verify_ct=served.num_rounds,
        engine_accept_length=served.accept_length,
        engine_accepted_drafts=served.num_accepted,
        engine_proposed_drafts=served.num_proposed,
        num_retractions=answer.num_retractions,
        error=answer.error,
    )
