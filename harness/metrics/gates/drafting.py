"""Whether an arm drafted, whether its rounds were counted right, and whether a draft was all that it was made for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from draftbench.harness.metrics.acceptance import acceptance_length, disagrees_with_engine, rounds_of
from draftbench.harness.metrics.arm_point import ArmPoint
from draftbench.harness.metrics.endpoint_acceptance import EndpointAcceptance
from draftbench.harness.metrics.gates.gate import Gate
from draftbench.harness.records import PhaseTimes, RequestRecord

MANY_ROUNDS = 50
"""So many rounds without an accepted draft are no chance: where 1 in 10 is accepted, 1 row in 200 has that."""


def silent_non_speculation(
    requests: Sequence[RequestRecord], phases: Iterable[PhaseTimes], drafts: bool
) -> Iterable[str]:
    """An arm with a draft that decoded without verify steps, or had nothing proposed in any of them.

    What a prefill gives, the first token and one after each retraction, takes no step.
    """
    if not drafts:
        return
    rounds = rounds_of(requests)
    done = [request for request in requests if request.error is None]
    decoded = sum(max(0, request.num_output_tokens - 1 - request.num_retractions) for request in done)
    recorded = list(phases)
    num_rounds, num_empty = sum(each.num_rounds for each in recorded), sum(each.num_empty for each in recorded)
    if not rounds and decoded:
        yield f"{decoded} tokens were decoded, and no verify step was recorded"
    elif rounds and (num_empty >= num_rounds > 0 or all(round_.num_proposed_drafts == 0 for round_ in rounds)):
        yield f"nothing was proposed in any of {len(rounds)} rounds"


def silent_endpoint(requests: Sequence[RequestRecord], found: EndpointAcceptance) -> Iterable[str]:
    """A server that counts its verify steps, and counted none while it decoded."""
    decoded = sum(max(0, request.num_output_tokens - 1) for request in requests if request.error is None)
    if decoded and not found.num_rounds:
        yield f"{decoded} tokens were decoded, and {found.source} has no verify step"


SILENT_NON_SPECULATION = Gate(
    "silent non-speculation", "invalid", "row",
    "An arm with a draft recorded verify steps where it decoded, and proposed drafts in them.",
    "An engine can load a draft and still decode token by token.",
    "Read the engine's log and receipt; of a draft of your own, look at when it proposes empty trees.",
    lambda at: (
        silent_endpoint(at.requests, at.served)
        if at.served is not None
        else silent_non_speculation(at.requests, at.phases, at.arm.drafts)
    ),
)  # fmt: skip


def nothing_accepted(requests: Sequence[RequestRecord]) -> Iterable[str]:
    """Many rounds, none of which accepted a draft."""
    rounds = rounds_of(requests)
    if len(rounds) >= MANY_ROUNDS and acceptance_length(rounds) == 1:
        yield f"none of {len(rounds)} rounds accepted a draft"


NOTHING_ACCEPTED = Gate(
    "nothing accepted", "warning", "row", f"Of {MANY_ROUNDS} rounds or more at least one accepted a draft.",
    "A draft far from its language is bad and measured as it is, τ = 1; one made for another target looks alike.",
    "Check that the checkpoint is made for this target and that its config.json names the right layout.",
    lambda at: () if any(SILENT_NON_SPECULATION.check(at)) else nothing_accepted(at.requests),
)  # fmt: skip


def engine_counters(requests: Iterable[RequestRecord]) -> Iterable[str]:
    """Recorded rounds that contradict the engine's own counters."""
    wrong = [text for request in requests if (text := disagrees_with_engine(request)) is not None]
    if wrong:
        yield f"{len(wrong)} requests, the first: {wrong[0]}"


ENGINE_COUNTERS = Gate(
    "engine counters", "invalid", "row",
    "The recorded rounds agree with SGLang's own counters and with the tokens delivered.",
    "Otherwise rounds were lost or counted twice, and the acceptance length is wrong.",
    "Report it with the run's folder: this is a fault of the harness or the engine.",
    lambda at: engine_counters(at.requests),
)  # fmt: skip


def unsteady_acceptance(blocks: Iterable[Sequence[RequestRecord]], greedy: bool, keeps_state: bool) -> Iterable[str]:
    """Greedy blocks of the same prompts repeat the same tokens, so their acceptance must be the same.

    Args:
        keeps_state: the suite lets the draft remember.
    """
    if not greedy or keeps_state:
        return
    alike: dict[frozenset[tuple[str, int]], list[float]] = defaultdict(list)
    for requests in blocks:
        if (length := acceptance_length(rounds_of(requests))) is not None:
            alike[frozenset((request.prompt_id, request.turn) for request in requests)].append(length)
    for present in alike.values():
        if max(present) - min(present) > 1e-9:
            yield "acceptance length by block: " + ", ".join(f"{length:.3f}" for length in present)
            return


def _unsteady(at: ArmPoint) -> Iterable[str]:
    keeps_state = at.arm.options.get("state") == "keep" or at.arm.is_updated or at.simulated
    return unsteady_acceptance(at.blocks.values(), at.greedy, keeps_state)


def _is_exact(at: ArmPoint) -> bool:
    """Whether nothing but leftover state can move acceptance."""
    return at.cell.concurrency == 1 and at.design.dtype == "float32" and not at.arm.is_endpoint


LEFTOVER_STATE = Gate(
    "leftover state", "invalid", "row",
    "Under greedy decoding in float32 at concurrency 1 all blocks have one acceptance length.",
    "The same prompts give the same tokens, so acceptance can only move if a draft remembers earlier blocks. "
    "Where blocks have prompts of their own, those of different launches are held against each other.",
    "Let the draft forget in `reset`, or say `options: {state: keep}` if it is meant to remember.",
    lambda at: _unsteady(at) if _is_exact(at) else (),
)  # fmt: skip

UNSTEADY_ACCEPTANCE = Gate(
    "unsteady acceptance", "warning", "row", "Under greedy decoding the acceptance length is the same in every block.",
    "At higher concurrency or in low precision ties may fall differently; larger changes mean leftover state.",
    "Compare with the interval between blocks; see `leftover state`.",
    lambda at: () if _is_exact(at) else _unsteady(at),
)  # fmt: skip


def beyond_training(requests: Sequence[RequestRecord], trained_tokens: int | None) -> Iterable[str]:
    """Requests whose prompt and output are longer than the draft was trained for."""
    lengths = [request.num_prompt_tokens + len(request.output_ids) for request in requests if request.error is None]
    longer = [length for length in lengths if trained_tokens is not None and length > trained_tokens]
    if longer:
        yield (
            f"{len(longer)} of {len(lengths)} requests, up to {max(longer)} tokens; the draft was made for "
            f"{trained_tokens}"
        )


BEYOND_TRAINING = Gate(
    "beyond training", "warning", "row", "No request is longer than the positions that the draft was made for.",
    "Heads are trained on short texts; beyond their length fewer drafts are accepted, down to slower than vanilla.",
    "Take a draft for longer texts, or shorter prompts and outputs; along-output acceptance shows where it falls.",
    lambda at: beyond_training(at.requests, at.known.trained_tokens),
)  # fmt: skip


def drawn(alphas: Sequence[float] | None) -> Iterable[str]:
    """Acceptance that was not measured but given."""
    if alphas is not None:
        yield f"accepted by chance with α = {', '.join(f'{alpha:.2f}' for alpha in alphas)}"


SIMULATED_ACCEPTANCE = Gate(
    "simulated acceptance", "warning", "row", "The verifier's own answer decided what was accepted.",
    "Where the suite gives α_k, rounds accept by chance as often as it says: a what-if figure. Times of the passes "
    "are real, acceptance and speed are not, and outputs mean nothing.",
    "Leave simulated_acceptance out to measure.",
    lambda at: drawn(at.arm.alphas(at.cell.workload)),
)  # fmt: skip

RANDOM_WEIGHTS = Gate(
    "random weights", "warning", "row", "The weights were read from checkpoints.",
    "Random weights of a shape serve to time its passes; what the model says means nothing.",
    "Leave target.random_weights out, and give checkpoints.",
    lambda at: ["made on the device for times at this shape"] if at.design.random_weights else (),
)  # fmt: skip
