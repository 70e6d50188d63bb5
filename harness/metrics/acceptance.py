"""How many drafted tokens the target accepts. A round's a counts accepted drafts without the bonus token."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from draftbench.harness.records import RequestRecord, Round


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


def conditional_acceptance(rounds: Sequence[Round], depth: int) -> list[float | None]:
    """α_k for k = 1 … depth: of the steps with k − 1 accepted drafts or more, the share with k or more."""
    counts = [sum(round_.num_accepted_drafts >= k for round_ in rounds) for k in range(depth + 1)]
    return [counts[k] / counts[k - 1] if counts[k - 1] else None for k in range(1, depth + 1)]


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
