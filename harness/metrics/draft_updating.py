"""A draft that is updated between blocks: acceptance and speed from block to block, and with the updates' time in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from draftbench.harness.metrics.acceptance import acceptance_length, rounds_of
from draftbench.harness.metrics.blocks import Blocks, geometric_mean, per_block
from draftbench.harness.metrics.ratios import AGAINST_BASELINE, compare
from draftbench.harness.metrics.throughput import output_tokens_per_s, whole_window_s
from draftbench.harness.records import CellKey, RequestRecord
from draftbench.harness.units import seconds
from draftbench.harness.update_records import UpdateRecord


@dataclass(frozen=True)
class BlockOfUpdated:
    """One block of all launches; `num_updates` came before it in each, on average."""

    block: int
    num_updates: float
    acceptance_length: float | None
    output_tokens_per_s: float | None


@dataclass(frozen=True)
class MadeUpdate:
    """One update: what it learnt from, what it did to the loss there, what it took."""

    launch: int
    block: int
    num_requests: int
    num_positions: int
    num_dropped: int
    num_steps: int | None
    loss_before: float | None
    loss_after: float | None
    update_s: float
    """All of it, until the engine had the weights."""
    learning_s: float | None
    processor_s: float | None
    error: str | None


@dataclass(frozen=True)
class DraftUpdating:
    """What updates did to a row, and what they cost it.

    Attributes:
        time_share: of the cells' windows and the updates' time together, the updates'. An update's time is shared out
            over the tokens that it could learn from, whatever workload or load point they were delivered at.
        output_tokens_per_s: of the row, with that time in.
        speedup: of the row, likewise.
        speedups: of each block, without it.
    """

    blocks: tuple[BlockOfUpdated, ...]
    made: tuple[MadeUpdate, ...]
    time_share: float | None
    output_tokens_per_s: float | None
    speedup: float | None = field(metadata=AGAINST_BASELINE)
    speedups: tuple[float | None, ...] | None = field(metadata=AGAINST_BASELINE)

    @classmethod
    def of(
        cls,
        blocks: Blocks,
        vanilla: Blocks,
        updates: Sequence[UpdateRecord],
        tokens_per_s: float | None,
        speedup: float | None,
    ) -> DraftUpdating:
        """From a row's cells and its arm's updates.

        Args:
            tokens_per_s: of the row, without the updates' time; `speedup` likewise.
        """
        launches = {cell.launch for cell in blocks}
        own = [update for update in updates if update.launch in launches]
        window_s = sum(whole_window_s(requests) or 0.0 for requests in blocks.values())
        update_s = cost_s(blocks, own)
        share = update_s / (window_s + update_s) if window_s else None
        left = None if share is None else 1 - share
        numbers = sorted({cell.block for cell in blocks})
        return cls(
            blocks=tuple(_block(number, blocks, own) for number in numbers),
            made=tuple(_made(update) for update in own),
            time_share=share,
            output_tokens_per_s=None if left is None or tokens_per_s is None else tokens_per_s * left,
            speedup=None if left is None or speedup is None else speedup * left,
            speedups=tuple(_speedup(number, blocks, vanilla) for number in numbers) if vanilla else None,
        )


def cost_s(blocks: Blocks, updates: Sequence[UpdateRecord]) -> float:
    """A row's part of its updates' time: of each as much as its cells delivered of the tokens that led to it."""
    tokens: dict[tuple[int, int], int] = defaultdict(int)
    for cell, requests in blocks.items():
        if (update := _next(cell, updates)) is not None:
            tokens[update.launch, update.block] += sum(request.num_output_tokens for request in requests)
    return sum(
        seconds(update.cost_ns) * tokens[update.launch, update.block] / update.num_tokens
        for update in updates
        if update.num_tokens
    )


def _next(cell: CellKey, updates: Sequence[UpdateRecord]) -> UpdateRecord | None:
    """The first update that came after a cell."""
    later = [update for update in updates if update.launch == cell.launch and update.block >= cell.block]
    return min(later, key=lambda update: update.block, default=None)


def learnt_prompts(blocks: Blocks, updates: Sequence[UpdateRecord]) -> tuple[int, int]:
    """Requests that were sent after an update had learnt from the very same prompt, and all requests after one."""
    made = [update for update in updates if update.is_made]
    by_launch: dict[int, list[tuple[CellKey, list[RequestRecord]]]] = defaultdict(list)
    for cell, requests in blocks.items():
        by_launch[cell.launch].append((cell, requests))
    num_known = num_after = 0
    for launch, cells in by_launch.items():
        learnt_from = [update.block for update in made if update.launch == launch]
        for cell, requests in cells:
            last = max((block for block in learnt_from if block < cell.block), default=None)
            if last is None:
                continue
            before = {r.prompt_sha256 for other, sent in cells if other.block <= last for r in sent}
            num_after += len(requests)
            num_known += sum(request.prompt_sha256 in before for request in requests)
    return num_known, num_after


def _block(number: int, blocks: Blocks, updates: Sequence[UpdateRecord]) -> BlockOfUpdated:
    found: Mapping[CellKey, list[RequestRecord]] = {
        cell: requests for cell, requests in blocks.items() if cell.block == number
    }
    before = [update for update in updates if update.is_made and update.block < number]
    return BlockOfUpdated(
        block=number,
        num_updates=len(before) / len({cell.launch for cell in blocks}),
        acceptance_length=acceptance_length(rounds_of([r for requests in found.values() for r in requests])),
        output_tokens_per_s=geometric_mean(per_block(found, output_tokens_per_s).values()),
    )


def _speedup(number: int, blocks: Blocks, vanilla: Blocks) -> float | None:
    ours, theirs = (
        {key: speed for key, speed in per_block(found, output_tokens_per_s).items() if key[1] == number}
        for found in (blocks, vanilla)
    )
    ratio = compare(ours, theirs)
    return None if ratio is None else ratio.value


def _made(update: UpdateRecord) -> MadeUpdate:
    return MadeUpdate(
        launch=update.launch,
        block=update.block,
        num_requests=update.num_requests,
        num_positions=update.num_positions,
        num_dropped=update.num_dropped,
        num_steps=update.num_steps,
        loss_before=update.loss_before,
        loss_after=update.loss_after,
        update_s=seconds(update.cost_ns),
        learning_s=None if update.learning_ns is None else seconds(update.learning_ns),
        processor_s=update.processor_s,
        error=update.error,
    )
