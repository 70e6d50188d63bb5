"""What servers say of their drafts, request by request: how many steps they verified, and what each of them accepted.

Sources: SGLang 0.5.17 managers/tokenizer_manager.py (meta_info) and its later `sglext.spec_tokens_details`; vLLM's
"Per-Request Acceptance Metrics" (docs/features/speculative_decoding, 0.33); llama.cpp tools/server (`timings`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

from draftbench.harness.load.limits import StreamError
from draftbench.harness.load.server_fields import count_of, counts_of, number_of, object_of
from draftbench.harness.records import Round, RoundSource


@dataclass(frozen=True, slots=True)
class ReportedAcceptance:
    """One request's acceptance by the server's own count; None is what it does not say.

    Attributes:
        rounds: verify steps, in the order in which they came only where the source lists them so.
        num_rounds: how many there were.
        num_accepted: accepted drafts of all of them, bonus tokens excluded.
        num_proposed: proposed drafts of all of them.
        accept_length: SGLang's spec_accept_length.
    """

    source: RoundSource | None = None
    rounds: tuple[Round, ...] | None = None
    num_rounds: int | None = None
    num_accepted: int | None = None
    num_proposed: int | None = None
    accept_length: float | None = None


def of_meta_info(
    meta: Mapping[str, Any], num_tokens: int | None, source: RoundSource = "meta_info"
) -> ReportedAcceptance:
    """SGLang's; older releases have other names for the same.

    Args:
        num_tokens: delivered ones; there cannot be more steps.

    Raises:
        StreamError: a field is of another type, or the histogram cannot be of this request.
    """
    num_rounds = count_of(meta, "spec_verify_ct")
    if num_rounds is None:
        return ReportedAcceptance()
    accepted = _first(meta, "spec_num_correct_drafts", "spec_accepted_drafts", "spec_accept_token_num")
    proposed = _first(meta, "spec_num_proposed_drafts", "spec_proposed_drafts", "spec_draft_token_num")
    histogram = counts_of(meta, "spec_correct_drafts_histogram") or counts_of(meta, "spec_accept_histogram")
    if not num_rounds:
        histogram = ()
    rounds = None if histogram is None else _of_histogram(histogram, num_rounds, proposed, num_tokens)
    return ReportedAcceptance(source, rounds, num_rounds, accepted, proposed, number_of(meta, "spec_accept_length"))


def of_message(message: Mapping[str, Any], num_tokens: int | None) -> ReportedAcceptance:
    """What an OpenAI-compatible server adds to the message with its usage.

    Raises:
        StreamError: as `of_meta_info`.
    """
    details = object_of(object_of(message, "sglext"), "spec_tokens_details")
    if details:
        return of_meta_info(details, num_tokens, "sglext")
    metrics = message.get("metrics")
    speculative = object_of(metrics, "speculative_decoding") if type(metrics) is dict else {}
    if speculative:
        return _of_vllm(speculative, num_tokens)
    timings = message.get("timings")
    return _of_llama_cpp(timings) if type(timings) is dict else ReportedAcceptance()


def _of_vllm(found: Mapping[str, Any], num_tokens: int | None) -> ReportedAcceptance:
    num_rounds, proposed = count_of(found, "num_spec_steps"), count_of(found, "num_draft_tokens")
    accepted = count_of(found, "num_accepted_draft_tokens")
    steps, drafted = counts_of(found, "per_step_accepted"), counts_of(found, "per_step_drafted")
    if steps is not None:
        _check_number(len(steps), num_tokens)
        nodes: Sequence[int | None] = [None] * len(steps) if drafted is None else drafted
        if len(nodes) != len(steps):
            raise StreamError(f"per_step_drafted has {len(nodes)} steps, per_step_accepted {len(steps)}")
        return ReportedAcceptance("vllm_steps", tuple(map(Round, steps, nodes)), num_rounds, accepted, proposed)
    histogram = counts_of(found, "acceptance_histogram")
    rounds = None if histogram is None else _of_histogram(histogram, num_rounds, proposed, num_tokens)
    return ReportedAcceptance("vllm", rounds, num_rounds, accepted, proposed)


def _of_llama_cpp(timings: Mapping[str, Any]) -> ReportedAcceptance:
    """It counts drafts and not the steps: each step brings its accepted drafts and one token more, the prompt one.

    draft_n is left out where nothing was drafted.
    """
    proposed, accepted = count_of(timings, "draft_n"), count_of(timings, "draft_n_accepted")
    delivered = count_of(timings, "predicted_n")
    if proposed is None or accepted is None or delivered is None:
        return ReportedAcceptance()
    if not accepted < max(delivered, 1):
        raise StreamError(f"draft_n_accepted is {accepted}, predicted_n {delivered}")
    return ReportedAcceptance("llama.cpp", None, max(delivered - 1 - accepted, 0), accepted, proposed)


def _of_histogram(
    histogram: Sequence[int], num_rounds: int | None, proposed: int | None, num_tokens: int | None
) -> tuple[Round, ...]:
    """A round for every step that a histogram counts, the least accepted first.

    How many drafts a step proposed is known only where all of them may have proposed alike.
    """
    total = sum(histogram)
    _check_number(total, num_tokens)
    even = None
    if proposed is not None and total and num_rounds == total and proposed % total == 0:
        even = proposed // total
        if even < max((accepted for accepted, count in enumerate(histogram) if count), default=0):
            even = None
    rounds = (repeat(Round(accepted, even), count) for accepted, count in enumerate(histogram))
    return tuple(chain.from_iterable(rounds))


def _check_number(num_rounds: int, num_tokens: int | None) -> None:
    """Every step brings a token or more, of which the last step's may be cut off."""
    if num_tokens is not None and num_rounds > num_tokens:
        raise StreamError(f"the server counts {num_rounds} verify steps for {num_tokens} tokens")


def _first(meta: Mapping[str, Any], *names: str) -> int | None:
    return next((found for name in names if (found := count_of(meta, name)) is not None), None)
