"""What rows are made from besides requests and cells: arms, design, what outputs are judged by, telemetry."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from draftbench.harness.engine import Receipt
from draftbench.harness.metrics.distribution import Odds
from draftbench.harness.metrics.lossless import Output, ReferenceKey, key_of
from draftbench.harness.records import (
    CellKey,
    CellRecord,
    ReferenceRecord,
    RequestRecord,
    RescoreRecord,
    SampleRecord,
    SampleScoreRecord,
    ScoreRecord,
)
from draftbench.harness.suite import Arm, Limits
from draftbench.harness.telemetry.window_records import WindowRecord
from draftbench.harness.update_records import UpdateRecord

PAIRED = ("EAGLE", "EAGLE3", "FROZEN_KV_MTP")
"""What SGLang 0.5.17 counts as EAGLE (SpeculativeAlgorithm.is_eagle); Medusa and PRISM run as EAGLE."""


@dataclass(frozen=True)
class KnownArm:
    """An arm of the suite, with what its engine and its checkpoint said.

    Attributes:
        receipt: None of an arm whose engine gave none, or whose launch has not ended.
        trained_tokens: positions that its draft was made for, where the target has more.
        updates: of its draft, between blocks.
    """

    arm: Arm
    receipt: Receipt | None = None
    trained_tokens: int | None = None
    updates: tuple[UpdateRecord, ...] = ()

    def argument(self, name: str, default: Any) -> Any:
        """An engine argument as it was resolved, or where that is not known as the suite gives it."""
        given = self.arm.engine.get(name)
        found = given if self.receipt is None else self.receipt.server_args.get(name, given)
        return default if found is None else found

    @property
    def shorter_by(self) -> int:
        """Tokens by which a prefix found in the arm's cache may fall short of vanilla's: one page for EAGLE's family.

        SGLang 0.5.17 keys its cache by pairs of tokens (mem_cache/radix_cache.py), and n tokens make n - 1 pairs.
        """
        pairs = self._algorithm in PAIRED if self._algorithm is not None else self.arm.drafts
        return self._page_size if pairs else 0

    @property
    def longer_by(self) -> int:
        """Tokens by which a prefix that ends with an answer may exceed vanilla's: one page, but for EAGLE's family.

        Where an answer's last token was a draft, verification has written its key and value. Vanilla never does.
        """
        return 0 if self.arm.architecture == "vanilla" or self._algorithm in PAIRED else self._page_size

    @property
    def _algorithm(self) -> str | None:
        return None if self.receipt is None else self.receipt.algorithm

    @property
    def _page_size(self) -> int:
        return int((None if self.receipt is None else self.receipt.server_args.get("page_size")) or 1)


@dataclass(frozen=True)
class Design:
    """How a run was set up.

    Attributes:
        temperature: 0 is greedy.
        dtype: the target's.
        samples: names of the workloads whose prompts stand for others like them.
        synthetic: names of the workloads whose prompts were made up.
        first_stage: launches from which the number of launches was chosen; None where the suite gives it.
        limits: on latency, for the goodput.
        random_weights: target and drafts were made at random, for times at a shape.
        prefix_cache: prompts may share prefixes in the engines' caches.
        has_passes: vanilla's own passes were made, so that their records have to be there.
    """

    temperature: float
    dtype: str
    samples: frozenset[str] = frozenset()
    synthetic: frozenset[str] = frozenset()
    first_stage: int | None = None
    limits: Limits | None = None
    random_weights: bool = False
    prefix_cache: bool = False
    has_passes: bool = False


@dataclass(frozen=True)
class Judged:
    """What outputs are judged by: reference pass, vanilla at another batch shape, scores of differences, samples."""

    references: Mapping[ReferenceKey, ReferenceRecord]
    controls: Mapping[ReferenceKey, ReferenceRecord]
    scores: Mapping[tuple[ReferenceKey, Output], RescoreRecord]
    samples: Mapping[str, Mapping[str, Sequence[Output]]]
    """By arm, and then by prompt."""
    odds: Mapping[str, Mapping[str, Sequence[Sequence[Odds]]]]
    """What the target makes of these, alike."""
    answers: tuple[ScoreRecord, ...]
    """Whether answers are right, where a set says what is right."""

    @classmethod
    def of(
        cls,
        references: Iterable[ReferenceRecord],
        controls: Iterable[ReferenceRecord] = (),
        scores: Iterable[RescoreRecord] = (),
        samples: Iterable[SampleRecord] = (),
        answers: Iterable[ScoreRecord] = (),
        sample_scores: Iterable[SampleScoreRecord] = (),
    ) -> Judged:
        """From records."""
        sampled: dict[str, dict[str, Sequence[Output]]] = defaultdict(dict)
        for record in samples:
            sampled[record.arm][record.prompt_id] = record.continuations
        odds: dict[str, dict[str, Sequence[Sequence[Odds]]]] = defaultdict(dict)
        for scored in sample_scores:
            odds[scored.arm][scored.prompt_id] = scored.odds
        return cls(
            {key_of(record): record for record in references},
            {key_of(record): record for record in controls},
            {(key_of(record), record.output_ids): record for record in scores},
            sampled,
            odds,
            tuple(answers),
        )


@dataclass(frozen=True)
class Telemetry:
    """The windows of cells, and those of launches at rest.

    Attributes:
        began_ns: when the run's first window began.
    """

    by_cell: Mapping[CellKey, WindowRecord]
    rests: tuple[WindowRecord, ...]
    began_ns: int

    def of_cells(self, cells: Iterable[CellKey]) -> list[WindowRecord]:
        """The windows that there are of these cells."""
        return [self.by_cell[cell] for cell in cells if cell in self.by_cell]


Point = tuple[str, str]
"""Workload and load."""


class Records(Protocol):
    """A run's records, asked for in parts: a long run's are more than memory should hold."""

    @property
    def cells(self) -> Sequence[CellRecord]:
        """The seals of all cells, in their order."""
        ...

    def requests(self, arm: str, point: Point) -> Iterable[RequestRecord]:
        """An arm's requests at a point, in their order."""
        ...

    def telemetry(self, arms: Iterable[str], point: Point) -> Telemetry:
        """The windows of these arms at a point, and of launches at rest."""
        ...

    def judged(self, workload: str) -> Judged:
        """What a workload's outputs are judged by."""
        ...
