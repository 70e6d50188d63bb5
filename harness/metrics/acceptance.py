"""How many drafted tokens the target accepts. A round's a counts accepted drafts without the bonus token."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from draftbench.harness.metrics.ratios import IF_KNOWN
from draftbench.harness.records import RequestRecord, Round

STRETCH = 32
"""Tokens of the first stretch of an output; each later one is as long as all before it."""


@dataclass(frozen=True)
class Kind:
    """The rounds of one kind of prompt."""

    num_rounds: int
    acceptance_length: float | None
    survival: tuple[float, ...]
    conditional_acceptance: tuple[float | None, ...]


@dataclass(frozen=True)
class Stretch:
    """The rounds that began within one stretch of the output."""

    from_token: int
    num_rounds: int
    acceptance_length: float | None


@dataclass(frozen=True)
class Acceptance:
    """How many drafts a row's rounds accepted: step by step, by kind of prompt, by turn and along the output."""

    survival: tuple[float, ...]
    conditional_acceptance: tuple[float | None, ...]
    by_category: Mapping[str, Kind]
    by_turn: Mapping[str, Kind]
    along_output: tuple[Stretch, ...]
    draft_acceptance: float | None
    verify_utilisation: float | None
    delivered_tokens_per_round: float | None
    rounds_by_nodes: Mapping[int, int] | None = field(default=None, metadata=IF_KNOWN)
    """How many rounds drafted so many nodes, where the engine changes that while it runs; None where it does not."""
    changes_of_nodes: int | None = field(default=None, metadata=IF_KNOWN)
    """How often a request's round drafted more or fewer nodes than its round before."""

    @classmethod
    def of(cls, requests: Sequence[RequestRecord], num_steps: int, drafts: bool) -> Acceptance:
        """From all requests of a row.

        Args:
            num_steps: draft steps of a round.
            drafts: whether the arm's rounds are recorded; without a draft there is nothing to accept.
        """
        rounds = rounds_of(requests) if drafts else []
        told = requests if drafts else ()
        by_nodes = rounds_by_nodes(told)
        return cls(
            survival=tuple(survival(rounds)),
            conditional_acceptance=tuple(conditional_acceptance(rounds, num_steps)) if rounds else (),
            by_category=acceptance_by(told, lambda request: request.category, num_steps),
            by_turn=acceptance_by(told, lambda request: str(request.turn + 1), num_steps),
            along_output=acceptance_along(told),
            draft_acceptance=draft_acceptance(rounds),
            verify_utilisation=verify_utilisation(rounds),
            delivered_tokens_per_round=delivered_tokens_per_round(requests),
            rounds_by_nodes=by_nodes if len(by_nodes) > 1 else None,
            changes_of_nodes=changes_of_nodes(told) if len(by_nodes) > 1 else None,
        )


def rounds_of(requests: Iterable[RequestRecord]) -> list[Round]:
    """All verify steps of the requests that finished."""
    return [round_ for request in requests if request.error is None for round_ in request.rounds or ()]


def acceptance_length(rounds: Sequence[Round]) -> float | None:
    """Tokens per verify step, bonus token included: 1 + Σ a / V, pooled over the steps; None without a step."""
    if not rounds:
        return None
    return 1 + sum(round_.num_accepted_drafts for round_ in rounds) / len(rounds)


def survival(rounds: Sequence[Round]) -> list[float]:
    """S_k for k = 1, 2, …: the share of steps with at least k accepted drafts; 1 + Σ S_k is the acceptance length."""
    deepest = max((round_.num_accepted_drafts for round_ in rounds), default=0)
    return [sum(round_.num_accepted_drafts >= k for round_ in rounds) / len(rounds) for k in range(1, deepest + 1)]


def conditional_acceptance(rounds: Sequence[Round], num_steps: int) -> list[float | None]:
    """α_k for k = 1 … num_steps: of the steps with k − 1 accepted drafts or more, the share with k or more.

    Where the number of draft steps changes, those that drafted fewer than k nodes had no k-th draft to accept and do
    not count.
    """
    counts = []
    for k in range(1, num_steps + 1):
        offered = [each for each in rounds if each.num_proposed_drafts is None or each.num_proposed_drafts >= k]
        reached = sum(each.num_accepted_drafts >= k - 1 for each in offered)
        counts.append((sum(each.num_accepted_drafts >= k for each in offered), reached))
    return [taken / reached if reached else None for taken, reached in counts]


def rounds_by_nodes(requests: Iterable[RequestRecord]) -> dict[int, int]:
    """Rounds by the nodes that they drafted, of requests whose rounds our recorder wrote."""
    own = rounds_of(request for request in requests if request.rounds_from is None)
    counted = Counter(each.num_proposed_drafts for each in own if each.num_proposed_drafts is not None)
    return dict(sorted(counted.items()))


def changes_of_nodes(requests: Iterable[RequestRecord]) -> int:
    """How often a request's round drafted more or fewer nodes than its round before."""
    own = [request.rounds or () for request in requests if request.error is None and request.rounds_from is None]
    return sum(a.num_proposed_drafts != b.num_proposed_drafts for rounds in own for a, b in pairwise(rounds))


def draft_acceptance(rounds: Sequence[Round]) -> float | None:
    """Accepted drafts over proposed nodes; not comparable across tree shapes."""
    proposed = _proposed(rounds)
    return sum(round_.num_accepted_drafts for round_ in rounds) / proposed if proposed else None


def verify_utilisation(rounds: Sequence[Round]) -> float | None:
    """Emitted tokens over verified nodes, root included: Σ (a + 1) / Σ (d + 1)."""
    proposed = _proposed(rounds)
    if proposed is None or not rounds:
        return None
    return sum(round_.num_accepted_drafts + 1 for round_ in rounds) / (proposed + len(rounds))


def _proposed(rounds: Sequence[Round]) -> int | None:
    """Proposed nodes of all rounds; None where a server does not say them."""
    known = [round_.num_proposed_drafts for round_ in rounds if round_.num_proposed_drafts is not None]
    return sum(known) if len(known) == len(rounds) else None


def delivered_tokens_per_round(requests: Iterable[RequestRecord]) -> float | None:
    """Tokens that users receive per verify step, the prefill's token left out: τ less what is cut off at the end."""
    done = [request for request in requests if request.error is None and request.rounds]
    steps = sum(len(request.rounds or ()) for request in done)
    return sum(request.num_output_tokens - 1 for request in done) / steps if steps else None


def engine_acceptance_length(requests: Iterable[RequestRecord]) -> float | None:
    """SGLang's own N / V, pooled: beside the rounds a cross-check, of an endpoint all that there is."""
    done = [request for request in requests if request.error is None and request.engine_verify_ct]
    steps = sum(request.engine_verify_ct or 0 for request in done)
    return sum(request.num_output_tokens for request in done) / steps if steps else None


def disagrees_with_engine(request: RequestRecord) -> str | None:
    """Why a request's rounds contradict the engine's counters or the tokens delivered; None if they agree.

    The rounds emit Σ (a + 1) tokens and every prefill one: the first, and those after retractions. What is delivered
    may be cut short by at most one round.
    """
    if request.error is not None or request.rounds is None:
        return None
    steps = len(request.rounds)
    accepted = sum(round_.num_accepted_drafts for round_ in request.rounds)
    if request.engine_verify_ct is not None and request.engine_verify_ct != steps:
        return f"{request.request_id}: {steps} recorded rounds, the engine counts {request.engine_verify_ct}"
    if request.engine_accepted_drafts is not None and request.engine_accepted_drafts != accepted:
        counted = request.engine_accepted_drafts
        return f"{request.request_id}: {accepted} accepted drafts in its rounds, the engine counts {counted}"
    if request.rounds_from in ("vllm", "vllm_steps"):  # steps without a draft bring tokens too, and are not counted
        return None
    emitted = 1 + request.num_retractions + accepted + steps
    cut = emitted - request.num_output_tokens
    last = request.rounds[-1:] if request.rounds_in_order else request.rounds
    longest = max((round_.num_accepted_drafts for round_ in last), default=0)
    if not 0 <= cut <= longest:
        return f"{request.request_id}: rounds emit {emitted} tokens, {request.num_output_tokens} were delivered"
    return None


def acceptance_by(
    requests: Iterable[RequestRecord], key: Callable[[RequestRecord], str | None], num_steps: int
) -> dict[str, Kind]:
    """τ, S_k and α_k of the requests that share a key; those without one are left out."""
    groups: dict[str, list[RequestRecord]] = defaultdict(list)
    for request in requests:
        name = key(request)
        if name is not None:
            groups[name].append(request)
    return {
        name: Kind(
            len(rounds),
            acceptance_length(rounds),
            tuple(survival(rounds)),
            tuple(conditional_acceptance(rounds, num_steps)),
        )
        for name in sorted(groups)
        if (rounds := rounds_of(groups[name]))
    }


def acceptance_along(requests: Iterable[RequestRecord]) -> tuple[Stretch, ...]:
    """τ of the rounds that began within each stretch of the output: tokens 0 to 31, 32 to 63, 64 to 127, …"""
    stretches: dict[int, list[Round]] = defaultdict(list)
    for request in requests:
        place = 1
        for round_ in request.rounds or () if request.error is None and request.rounds_in_order else ():
            stretches[stretch_of(place)].append(round_)
            place += round_.num_accepted_drafts + 1
    return tuple(
        Stretch(
            0 if index == 0 else STRETCH * 2 ** (index - 1), len(stretches[index]), acceptance_length(stretches[index])
        )
        for index in sorted(stretches)
    )


def stretch_of(place: int) -> int:
    """Number of the stretch that holds a token, from 0."""
    return 0 if place < STRETCH else int(math.log2(place // STRETCH)) + 1
