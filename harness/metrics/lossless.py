"""Whether greedy outputs are those of the vanilla reference pass, token for token, and what a difference means.

The reference pass decodes one request at a time. Rounding depends on a batch's shape, so vanilla itself may answer
otherwise in a larger batch: that is the control. A different output is no fault as long as every one of its tokens is
the target's best, given the tokens before it, up to δ, and the best two are that close where it parts from the
reference. δ is twice the largest difference that was measured between the log-probability of a token when it was
decoded and when it was scored (an argmax can turn when two err by that much). An output that only goes on or ends early
is a fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from draftbench.harness.metrics.ratios import UNTOLD
from draftbench.harness.records import ReferenceRecord, RequestRecord, RescoreRecord

ReferenceKey = tuple[str, str, int]
"""Workload, prompt and turn."""
Output = tuple[int, ...]
LEAST_DELTA = 1e-4
"""Nats; float32 scores of the same token differ by up to some 1e-5 between batch shapes."""


@dataclass(frozen=True)
class Losslessness:
    """Greedy outputs held against the reference pass.

    Attributes:
        share: of the finished requests, those whose token ids equal the reference's.
        control_share: the same of vanilla itself at another batch shape; None without that pass.
        num_different: distinct outputs that differ.
        num_unscored: of these, those that the target has not scored again.
        num_wrong: of these, those that rounding does not explain.
        first_difference: of those that differ, the first token at which one does, from 0.
        largest_gap: between the target's best two tokens where outputs part, in nats, the most of all.
        largest_deficit: of all that were scored, how far a token was from the best one, in nats.
        delta: δ, in nats.
        worst: of the wrong ones the one farthest off.
    """

    share: float
    control_share: float | None
    num_different: int
    num_unscored: int
    num_wrong: int
    first_difference: int | None
    largest_gap: float | None
    largest_deficit: float | None
    delta: float | None
    worst: RescoreRecord | None = field(default=None, metadata=UNTOLD)

    def wrong_text(self) -> str:
        """The worst of the wrong ones, as evidence."""
        worst = self.worst
        assert worst is not None
        where = f"token {worst.deficit_at + 1} is {worst.deficit:.2g} nats below the best"
        if self.delta is not None and worst.deficit <= self.delta:
            gap = worst.top2_gap
            where = "the output ends early or goes on" if gap is None else f"the best two are {gap:.2g} apart"
        return (
            f"{self.num_wrong} of {self.num_different} outputs that differ from vanilla's hold a token that is not the "
            f"target's, or end elsewhere: in {worst.prompt_id} {where}; rounding explains {self.delta:.2g} nats"
        )


def losslessness(
    requests: Iterable[RequestRecord],
    references: Mapping[ReferenceKey, ReferenceRecord],
    controls: Mapping[ReferenceKey, ReferenceRecord],
    scores: Mapping[tuple[ReferenceKey, Output], RescoreRecord],
) -> Losslessness | None:
    """Hold finished requests with token ids against the reference; None if there is nothing to compare."""
    done = [
        (key_of(request), request.output_ids)
        for request in requests
        if request.error is None and request.counted_tokens is None
    ]
    pairs = [(key, output) for key, output in done if key in references]
    if not pairs:
        return None
    equal = [output == references[key].output_ids for key, output in pairs]
    different = list(dict.fromkeys(pair for pair, same in zip(pairs, equal, strict=True) if not same))
    scored = [scores[pair] for pair in different if pair in scores]
    delta = largest_noise(scores.values())
    present = [key for key, _ in pairs if key in controls]
    gaps = [score.top2_gap for score in scored if score.top2_gap is not None]
    wrong = [score for score in scored if not is_tie(score, delta)]
    parted = (first_difference(references[key].output_ids, output) for key, output in different)
    return Losslessness(
        share=sum(equal) / len(equal),
        control_share=share_equal([(key, controls[key].output_ids) for key in present], references),
        num_different=len(different),
        num_unscored=len(different) - len(scored),
        num_wrong=len(wrong),
        first_difference=min((at for at in parted if at is not None), default=None),
        largest_gap=max(gaps, default=None),
        largest_deficit=max((score.deficit for score in scored), default=None),
        delta=delta if scored else None,
        worst=max(wrong, key=lambda score: score.deficit, default=None),
    )


def is_tie(score: RescoreRecord, delta: float) -> bool:
    """Whether rounding explains how an output differs from the reference."""
    return score.deficit <= delta and score.top2_gap is not None and score.top2_gap <= delta


def largest_noise(scores: Iterable[RescoreRecord]) -> float:
    """δ, in nats, from the outputs whose log-probabilities were recorded both when decoded and when scored."""
    return max(LEAST_DELTA, *(2 * score.noise for score in scores if score.noise is not None), 0.0)


def share_equal(
    outputs: Sequence[tuple[ReferenceKey, Output]], references: Mapping[ReferenceKey, ReferenceRecord]
) -> float | None:
    """Share of outputs whose token ids equal the reference's; None if there are none."""
    return sum(ids == references[key].output_ids for key, ids in outputs) / len(outputs) if outputs else None


def key_of(record: RequestRecord | ReferenceRecord | RescoreRecord) -> ReferenceKey:
    """Which prompt of which workload a record is about."""
    workload = record.cell.workload if isinstance(record, RequestRecord) else record.workload
    return workload, record.prompt_id, record.turn


def to_score(
    known: Iterable[RequestRecord | ReferenceRecord],
    references: Mapping[ReferenceKey, ReferenceRecord],
    scored: Mapping[tuple[ReferenceKey, Output], RescoreRecord],
) -> list[tuple[ReferenceKey, Output]]:
    """Distinct outputs that differ from the reference and have no score yet."""
    found: dict[tuple[ReferenceKey, Output], None] = {}
    for record in known:
        key = key_of(record)
        finished = not isinstance(record, RequestRecord) or record.error is None
        # An empty output has nothing to score and stays an unexplained difference.
        if finished and record.output_ids and key in references and record.output_ids != references[key].output_ids:
            found[(key, record.output_ids)] = None
    return [pair for pair in found if pair not in scored]


def first_difference(left: Sequence[int], right: Sequence[int]) -> int | None:
    """Index of the first token that differs, the end of the shorter one included; None if they are equal."""
    if tuple(left) == tuple(right):
        return None
    shared = min(len(left), len(right))
    return next((index for index in range(shared) if left[index] != right[index]), shared)
