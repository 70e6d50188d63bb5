"""A whole run on a fake clock: engines with known step times, acceptance and faults, in the order of the plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from draftbench.harness.metrics.evidence import Design, Judged, KnownArm
from draftbench.harness.metrics.results import build_rows
from draftbench.harness.metrics.row import Row
from draftbench.harness.records import CellKey, CellRecord, Chunk, PhaseTimes, ReferenceRecord, RequestRecord, Round
from tests.fakes.held import Held
from tests.fakes.known import known

MS = 1_000_000
NUM_PROMPTS, NUM_ROUNDS, NODES = 4, 12, 5


@dataclass(frozen=True)
class FakeArm:
    """One engine.

    Attributes:
        round_ms: of a draft-and-verify round, or of one token without a draft.
        accepted: drafts accepted by the rounds, over and over; None decodes without a draft.
        simulated: the α_k that the suite gives, where acceptance is simulated.
        prefill_ms: until the first token.
        faults: changes to the record of a prompt, called with (launch, block, prompt number).
    """

    name: str
    round_ms: float
    accepted: tuple[int, ...] | None = None
    prefill_ms: float = 5.0
    faults: Callable[[int, int, int], dict[str, Any]] = lambda launch, block, prompt: {}
    simulated: tuple[float, ...] | dict[str, tuple[float, ...]] | None = None

    @property
    def known(self) -> KnownArm:
        """As the suite has it; its engine said nothing."""
        architecture = "vanilla" if self.accepted is None else "eagle"
        return known(
            self.name, architecture, num_steps=4, topk=1, num_draft_tokens=NODES, simulated_acceptance=self.simulated
        )


class FakeRun:
    """Runs cells one after the other, each prompt after the one before, while the machine drifts.

    Args:
        drift: from the first cell to the last all times grow by this share, in a straight line.
    """

    def __init__(self, arms: Sequence[FakeArm], cells: Sequence[CellKey], drift: float = 0.0) -> None:
        self.arms = {arm.name: arm for arm in arms}
        self.requests: list[RequestRecord] = []
        self.cells: list[CellRecord] = []
        self._now_ms = 0.0
        for index, cell in enumerate(cells):
            self._run_cell(cell, 1 + drift * index / max(1, len(cells) - 1))

    def _run_cell(self, cell: CellKey, slow: float) -> None:
        arm, began_ms, rounds = self.arms[cell.arm], self._now_ms, 0
        for prompt in range(NUM_PROMPTS):
            record = self._request(cell, arm, prompt, slow)
            rounds += len(record.rounds or ())
            changed = record.model_copy(update=arm.faults(cell.launch, cell.block, prompt))
            self.requests.append(changed)
        times = PhaseTimes(
            num_rounds=rounds, draft_ns=20 * rounds, verify_ns=60 * rounds, extend_ns=10 * rounds, round_ns=100 * rounds
        )
        self.cells.append(
            CellRecord(
                cell=cell, started_ns=int(began_ms * MS), finished_ns=int(self._now_ms * MS), num_requests=NUM_PROMPTS,
                num_failed=0, phases=times if rounds else None, sampling={"temperature": 0.0}, error=None,
            )
        )  # fmt: skip

    def _request(self, cell: CellKey, arm: FakeArm, prompt: int, slow: float) -> RequestRecord:
        sent_ms = self._now_ms
        self._now_ms += arm.prefill_ms * slow
        chunks = [Chunk(at_ns=int(self._now_ms * MS), num_tokens=1)]
        pattern = arm.accepted or (0,)
        for number in range(NUM_ROUNDS):
            self._now_ms += arm.round_ms * slow
            chunks.append(Chunk(at_ns=int(self._now_ms * MS), num_tokens=pattern[number % len(pattern)] + 1))
        rounds = None
        if arm.accepted is not None:
            rounds = tuple(
                Round(num_accepted_drafts=chunk.num_tokens - 1, num_proposed_drafts=NODES - 1) for chunk in chunks[1:]
            )
        return RequestRecord(
            cell=cell, request_id=f"{cell.slug}-{prompt}", prompt_id=f"p{prompt}", turn=0, category=None,
            prompt_sha256=f"h{prompt}", num_prompt_tokens=8, num_cached_tokens=0, sent_ns=int(sent_ms * MS),
            chunks=tuple(chunks), finished_ns=int(self._now_ms * MS),
            output_ids=tuple(range(sum(chunk.num_tokens for chunk in chunks))), finish_reason="length", rounds=rounds,
            engine_verify_ct=None if rounds is None else len(rounds), engine_accept_length=None, error=None,
        )  # fmt: skip

    def rows(self, references: Iterable[ReferenceRecord] = (), **design: Any) -> dict[str, Row]:
        """The run's rows by arm."""
        arms = [arm.known for arm in self.arms.values()]
        records = Held(self.requests, self.cells, Judged.of(references))
        found = build_rows(arms, records, Design(0.0, "float32", **design))
        return {row.arm: row for row in found}
