"""What is made of a row's cells as a whole: a figure of each block, the prompts sent, the part of their choice."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from draftbench.harness.metrics.evidence import Design
from draftbench.harness.metrics.latency import latency_s, mean
from draftbench.harness.metrics.ratios import BlockKey, Ratio, VarianceComponent, Work, compare, prompt_part
from draftbench.harness.metrics.throughput import output_tokens_per_s, whole_window_s
from draftbench.harness.records import CellKey, RequestRecord
from draftbench.harness.units import seconds

Blocks = Mapping[CellKey, list[RequestRecord]]
"""A row's cells with their requests."""
PromptKey = tuple[str, int]
"""Prompt and turn."""


def per_block(blocks: Blocks, metric: Callable[[Sequence[RequestRecord]], float | None]) -> dict[BlockKey, float]:
    values = {(cell.launch, cell.block): metric(requests) for cell, requests in blocks.items()}
    return {key: value for key, value in values.items() if value is not None}


def speeds(blocks: Blocks) -> dict[BlockKey, float]:
    """Per block, what is larger the faster an arm is.

    In an open loop that is not the throughput: an arm that keeps up delivers what is asked for, however fast it is.
    There it is the reciprocal of a request's mean latency.
    """
    cell = next(iter(blocks), None)
    if cell is None or cell.concurrency is not None:
        return per_block(blocks, output_tokens_per_s)
    return {key: 1 / value for key, value in per_block(blocks, lambda block: mean(map(latency_s, block))).items()}


def served_per_s(requests: Sequence[RequestRecord]) -> float | None:
    window_s = whole_window_s(requests)
    return sum(request.error is None for request in requests) / window_s if window_s else None


@dataclass(frozen=True)
class Pace:
    """What of a row's cells is held against another row's, so that their requests need not stand in memory together.

    Attributes:
        cell: the first one; None where there is none.
        speeds: of each block.
        work: what each conversation cost over all blocks.
    """

    cell: CellKey | None
    speeds: Mapping[BlockKey, float]
    work: Mapping[str, Work]

    @classmethod
    def of(cls, blocks: Blocks) -> Pace:
        """From a row's cells."""
        return cls(next(iter(blocks), None), speeds(blocks), _work(blocks))

    def over(self, other: Pace, design: Design) -> Ratio | None:
        """This over the other one's; None where no block has both."""
        return compare(self.speeds, other.speeds, self._chosen_prompts(other, design), design.first_stage)

    def _chosen_prompts(self, other: Pace, design: Design) -> VarianceComponent | None:
        """What the choice of prompts adds to the variance; where prompts share time they are fixed."""
        if self.cell is None or self.cell.concurrency != 1 or self.cell.workload not in design.samples:
            return None
        return prompt_part(self.work, other.work)


def _work(blocks: Blocks) -> dict[str, Work]:
    """What each conversation cost over all blocks; its turns are no independent prompts."""
    spent: dict[str, list[RequestRecord]] = defaultdict(list)
    for requests in blocks.values():
        for request in requests:
            if request.error is None and request.chunks:
                spent[request.prompt_id].append(request)
    return {
        prompt: Work(
            sum(request.num_output_tokens for request in requests),
            sum(seconds(request.chunks[-1].at_ns - request.sent_ns) for request in requests),
        )
        for prompt, requests in spent.items()
    }


def sent(blocks: Blocks) -> dict[PromptKey, str]:
    """Hashes of the prompts as they were sent."""
    return {
        (request.prompt_id, request.turn): request.prompt_sha256
        for requests in blocks.values()
        for request in requests
        if request.error is None
    }


def geometric_mean(values: Iterable[float]) -> float | None:
    logs = [math.log(value) for value in values]
    return math.exp(fmean(logs)) if logs else None
