"""Acceptance by the count of a server that is not ours: request by request, else over a whole cell.

τ and S_k have the definitions that they have everywhere (metrics/acceptance.py); only who counted differs, and how much
was told: every round, a histogram of them, their sum, or the server's own counters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from draftbench.harness.metrics.acceptance import Acceptance, conditional_acceptance, survival
from draftbench.harness.metrics.blocks import Blocks
from draftbench.harness.metrics.ratios import BlockKey
from draftbench.harness.records import CellKey, CellRecord, RequestRecord, ServedCounters
from draftbench.harness.units import seconds

SOURCES = {
    "meta_info": "SGLang's meta_info, by request",
    "sglext": "SGLang's sglext, by request",
    "vllm": "vLLM's metrics, by request",
    "vllm_steps": "vLLM's metrics, by step",
    "llama.cpp": "llama.cpp's timings, by request: steps are the tokens less the accepted drafts",
}
COUNTERS = {"vllm": "vLLM's counters, over the cell", "sglang": "SGLang's counters, over the cell: steps alone"}


@dataclass(frozen=True)
class EndpointAcceptance:
    """What an endpoint's row has of its draft; None is what the server does not say.

    Attributes:
        source: who counted, and how closely.
        of_cells: over whole cells, not request by request.
        num_rounds: verify steps.
        survival: S_k for k = 1, 2, …; empty where it is not known.
        conditional: α_k likewise.
    """

    source: str
    of_cells: bool
    num_rounds: int
    num_accepted: int | None
    num_proposed: int | None
    survival: tuple[float, ...] = ()
    conditional: tuple[float | None, ...] = ()

    @property
    def tau(self) -> float | None:
        """Tokens per verify step, bonus token included."""
        if not self.num_rounds or self.num_accepted is None:
            return None
        return 1 + self.num_accepted / self.num_rounds

    @property
    def draft_acceptance(self) -> float | None:
        """Accepted drafts over proposed ones."""
        if not self.num_proposed or self.num_accepted is None:
            return None
        return self.num_accepted / self.num_proposed


def served(requests: Sequence[RequestRecord], cells: Sequence[CellRecord]) -> EndpointAcceptance | None:
    """The most that a server tells of its draft in a row's cells; None where it tells nothing, or was not alone."""
    told = [request for request in requests if request.error is None and request.rounds_from is not None]
    if told:
        return _of_requests(told)
    counters = [cell.served for cell in cells if cell.error is None]
    usable = [found for found in counters if found is not None and found.refused is None]
    return _of_counters(usable) if usable and len(usable) == len(counters) else None


def _of_requests(told: Sequence[RequestRecord]) -> EndpointAcceptance:
    source = SOURCES[told[0].rounds_from or ""]
    counts = [(r.engine_verify_ct, r.engine_accepted_drafts, r.engine_proposed_drafts) for r in told]
    rounds = [round_ for request in told for round_ in request.rounds or ()]
    if any(request.rounds is None for request in told):
        sums = [_sum(count[index] for count in counts) for index in range(3)]
        return EndpointAcceptance(source, False, sums[0] or 0, sums[1], sums[2])
    accepted = sum(round_.num_accepted_drafts for round_ in rounds)
    deepest = max((round_.num_accepted_drafts for round_ in rounds), default=0)
    proposed = _sum(count[2] for count in counts)
    alphas = conditional_acceptance(rounds, deepest) if rounds else []
    return EndpointAcceptance(source, False, len(rounds), accepted, proposed, tuple(survival(rounds)), tuple(alphas))


def _of_counters(cells: Sequence[ServedCounters]) -> EndpointAcceptance:
    num_rounds = sum(cell.num_rounds for cell in cells)
    deepest = max((len(cell.num_at_least or ()) for cell in cells), default=0)
    at_least = [sum(sum((cell.num_at_least or ())[k : k + 1]) for cell in cells) for k in range(deepest)]
    while at_least and not at_least[-1]:
        at_least.pop()
    before = [num_rounds, *at_least]
    return EndpointAcceptance(
        COUNTERS[cells[0].source],
        True,
        num_rounds,
        _sum(cell.num_accepted for cell in cells),
        _sum(cell.num_proposed for cell in cells),
        tuple(count / num_rounds for count in at_least) if num_rounds else (),
        tuple(count / sooner if sooner else None for sooner, count in zip(before, at_least, strict=False)),
    )


def _sum(counts: Iterable[int | None]) -> int | None:
    """None where one of them is not known."""
    found = list(counts)
    known = [count for count in found if count is not None]
    return sum(known) if len(known) == len(found) else None


def steps_by_counters(blocks: Blocks, sealed: Mapping[CellKey, CellRecord]) -> dict[BlockKey, float]:
    """Mean seconds of a round in each block, prefill left out, where a server counts its rounds over whole cells."""
    found = {}
    for cell, requests in blocks.items():
        counted = sealed[cell].served
        done = [request for request in requests if request.error is None and len(request.chunks) > 1]
        spent_s = seconds(sum(request.chunks[-1].at_ns - request.chunks[0].at_ns for request in done))
        if counted is not None and counted.num_rounds and spent_s:
            found[cell.launch, cell.block] = spent_s / counted.num_rounds
    return found


def acceptance_of(requests: Sequence[RequestRecord], found: EndpointAcceptance) -> Acceptance:
    """A row's acceptance as far as its server tells it."""
    told = any(request.rounds for request in requests)
    acceptance = Acceptance.of(requests, len(found.conditional), told)
    if told:
        return replace(acceptance, draft_acceptance=found.draft_acceptance)
    return replace(
        acceptance,
        survival=found.survival,
        conditional_acceptance=found.conditional,
        draft_acceptance=found.draft_acceptance,
    )


def refusals(cells: Sequence[CellRecord]) -> list[str]:
    """Why counters of cells are not used, each reason once."""
    reasons = (cell.served.refused for cell in cells if cell.served is not None)
    return list(dict.fromkeys(reason for reason in reasons if reason is not None))
