"""Whether everything ran to its end, and every arm was given what vanilla was given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from draftbench.harness.metrics.blocks import PromptKey, sent
from draftbench.harness.metrics.endpoint_acceptance import EndpointAcceptance, refusals
from draftbench.harness.metrics.gates.gate import Gate
from draftbench.harness.metrics.lossless import Output
from draftbench.harness.records import CellKey, CellRecord, RequestRecord


def failed_cells(cells: Sequence[CellRecord]) -> Iterable[str]:
    """Cells that could not be run to their end; the same reason is told once."""
    reasons = dict.fromkeys(cell.error for cell in cells if cell.error is not None)
    for reason in reasons:
        count = sum(cell.error == reason for cell in cells)
        yield f"{count} of {len(cells)} cells: {reason}"


FAILED_CELL = Gate(
    "failed cell", "invalid", "row", "Every cell of the row ran to its end.",
    "An engine that does not start, dies, or runs something else than the suite says gives no figure.",
    "Read the reason; the engine's log lies in the run's folder under engines/. Then --resume.",
    lambda at: failed_cells(at.seals),
)  # fmt: skip


def failures(requests: Sequence[RequestRecord]) -> Iterable[str]:
    """Failed requests: what is left may be the easier part."""
    failed = [request for request in requests if request.error is not None]
    if failed:
        yield f"{len(failed)} of {len(requests)} requests failed, the first: {failed[0].error}"


FAILURES = Gate(
    "failures", "invalid", "row", "No request failed.",
    "The requests that are left may be the easier ones.",
    "Read the first error; lower the concurrency or enlarge max_total_tokens if the engine ran out of memory.",
    lambda at: failures(at.requests),
)  # fmt: skip


def unequal_prompts(requests: Iterable[RequestRecord], baseline: Mapping[PromptKey, str]) -> Iterable[str]:
    """Prompts that differ from the baseline's on the same prompt and turn."""
    for request in requests:
        same = baseline.get((request.prompt_id, request.turn))
        if same is not None and request.error is None and request.prompt_sha256 != same:
            yield f"{request.prompt_id} was rendered otherwise than for vanilla"
            return


UNEQUAL_PROMPTS = Gate(
    "unequal prompts", "invalid", "row", "Every prompt was sent with the same token ids as to vanilla.",
    "Other prompts have other speeds.",
    "Start a new run; do not mix records of different suites or tokenizers.",
    lambda at: unequal_prompts(at.requests, sent(at.vanilla)),
)  # fmt: skip


def unequal_cache(
    blocks: Mapping[CellKey, Sequence[RequestRecord]],
    baseline: Mapping[CellKey, Sequence[RequestRecord]],
    shorter_by: int = 0,
    longer_by: int = 0,
    is_on: bool = True,
    reference: Mapping[PromptKey, Output] | None = None,
) -> Iterable[str]:
    """Prompt tokens from the prefix cache that are not the baseline's in the same block.

    A later turn's prompt holds the reference's answers, so an arm that had given another one finds less of it. It
    cannot find more than a baseline that had given them; of one that had not, nothing follows.

    Where requests run side by side, those that are sent before the first prefill ends find nothing in the cache, and
    which of them comes first is chance. So there a block's sum is looked at, and it may be off by what the requests
    that run at once can find at most.

    Args:
        shorter_by: by how many tokens each prefix may be shorter than the baseline's.
        longer_by: by how many it may be longer where it can end with an answer.
        is_on: the suite asks for the cache; else nobody may find anything, at any concurrency.
        reference: its answers.
    """
    plain = {(cell.launch, cell.block): requests for cell, requests in baseline.items()}
    for cell, requests in blocks.items():
        others = plain.get((cell.launch, cell.block), ())
        ours, theirs = _cached(requests), _cached(others)
        pairs = {key: (ours[key], theirs[key]) for key in ours if key in theirs}
        answers = _answers(others)
        less = _parted(_answers(requests), answers) if is_on else set()
        more = less & _parted(answers, reference or {})
        spare = {key: longer_by if is_on and key[1] else 0 for key in pairs}
        if cell.concurrency == 1 or not is_on:
            for key, (own, other) in pairs.items():
                if (own < other - shorter_by and key not in less) or (own > other + spare[key] and key not in more):
                    yield f"{key[0]}: {own} cached tokens, vanilla had {other}"
                    return
            continue
        pairs = {key: pair for key, pair in pairs.items() if key not in less}
        own, other = (sum(pair[side] for pair in pairs.values()) for side in (0, 1))
        at_once = cell.concurrency or _most_at_once(others)
        chance = max(sum(sorted(pair[side] for pair in pairs.values())[-at_once:]) for side in (0, 1))
        spared = sum(spare[key] for key in pairs)
        if not other - shorter_by * len(pairs) - chance <= own <= other + spared + chance:
            yield f"block {cell.block}: {own} cached tokens of {len(pairs)} prompts, vanilla had {other}"
            return


def _cached(requests: Iterable[RequestRecord]) -> dict[PromptKey, int]:
    """Cached tokens of the requests that finished, where the engine tells them."""
    return {
        (request.prompt_id, request.turn): request.num_cached_tokens
        for request in requests
        if request.error is None and request.num_cached_tokens is not None
    }


def _answers(requests: Iterable[RequestRecord]) -> dict[PromptKey, Output]:
    """Outputs, where the engine gives their tokens."""
    return {(each.prompt_id, each.turn): each.output_ids for each in requests if each.output_ids}


def _parted(ours: Mapping[PromptKey, Output], theirs: Mapping[PromptKey, Output]) -> set[PromptKey]:
    """Turns before which the two are known to have given different answers."""
    apart = {key for key, answer in ours.items() if answer != theirs.get(key, answer)}
    return {(prompt, turn) for prompt, turn in ours if any((prompt, before) in apart for before in range(turn))}


def _most_at_once(requests: Sequence[RequestRecord]) -> int:
    """Requests that were under way at one time."""
    return max((sum(r.began_ns <= at.began_ns < r.finished_ns for r in requests) for at in requests), default=1) or 1


UNEQUAL_CACHE = Gate(
    "unequal cache", "invalid", "row",
    "As many prompt tokens came from the prefix cache as for vanilla, up to EAGLE's one less or a drafted one more.",
    "A warm cache saves prefill and looks like a fast draft.",
    "Leave prefix_cache off, or make the cache equally warm for all arms.",
    lambda at: unequal_cache(at.blocks, at.vanilla, at.known.shorter_by, at.known.longer_by, at.design.prefix_cache,
                             {key[1:]: record.output_ids for key, record in at.judged.references.items()}),
)  # fmt: skip


def other_prompt_tokens(requests: Iterable[RequestRecord]) -> Iterable[str]:
    """Requests whose prompt the engine counted otherwise: it cut it, or added tokens of its own."""
    wrong = [
        request
        for request in requests
        if request.engine_prompt_tokens is not None and request.engine_prompt_tokens != request.num_prompt_tokens
    ]
    if wrong:
        first = wrong[0]
        yield (
            f"{len(wrong)} requests, the first: {first.prompt_id} was sent with {first.num_prompt_tokens} tokens, "
            f"the engine saw {first.engine_prompt_tokens}"
        )


PROMPT_TOKENS = Gate(
    "prompt tokens", "invalid", "row", "The engine saw as many prompt tokens as were rendered.",
    "An engine that cuts a prompt or adds to it answers another question.",
    "Look at max_total_tokens, the target's context and its chat template.",
    lambda at: other_prompt_tokens(at.requests),
)  # fmt: skip


def unequal_sampling(cells: Iterable[CellRecord], baseline: Iterable[CellRecord]) -> Iterable[str]:
    """Sampling parameters that are not the baseline's."""
    ours, theirs = ({str(cell.sampling) for cell in cells if cell.sampling} for cells in (cells, baseline))
    if theirs and ours - theirs:
        yield f"sent {', '.join(sorted(ours - theirs))}; vanilla {', '.join(sorted(theirs))}"


UNEQUAL_SAMPLING = Gate(
    "unequal sampling", "invalid", "row", "The sampling parameters were those that vanilla was sent.",
    "Acceptance falls with the temperature.",
    "Start a new run.",
    lambda at: unequal_sampling(at.seals, at.vanilla_seals),
)  # fmt: skip


def split_blocks(cells: Iterable[CellRecord], baseline: Iterable[CellRecord]) -> Iterable[str]:
    """Blocks in which the baseline was measured before the run was resumed and the arm after it, or the other way."""
    sessions = {(record.cell.launch, record.cell.block): record.session for record in baseline}
    blocks = [(record, (record.cell.launch, record.cell.block)) for record in cells]
    split = [block for record, block in blocks if sessions.get(block, record.session) != record.session]
    if split:
        yield f"{len(split)} of {len(blocks)} blocks, the first: launch {split[0][0]}, block {split[0][1]}"


SPLIT_BLOCK = Gate(
    "split block", "warning", "row", "In every block the arm was measured in the same session as vanilla.",
    "A run that was resumed in the middle of a block has other engines in its second part, at another time.",
    "Have enough launches that one block does not count for much, or measure anew.",
    lambda at: split_blocks(at.seals, at.vanilla_seals),
)  # fmt: skip


def own_settings(engine: Mapping[str, Any]) -> Iterable[str]:
    """Engine arguments that only this arm has."""
    if engine:
        yield ", ".join(f"{name}: {value}" for name, value in engine.items())


OWN_SETTINGS = Gate(
    "own settings", "warning", "row", "The arm has no engine arguments of its own.",
    "What differs besides the draft may explain the speed.",
    "Give every arm the same `engine:` settings where you can.",
    lambda at: own_settings(at.arm.engine),
)  # fmt: skip


def untold_by_endpoint(
    requests: Sequence[RequestRecord],
    has_reference: bool,
    found: EndpointAcceptance | None,
    refused: Sequence[str] = (),
) -> Iterable[str]:
    """What could not be checked of a server that ran already.

    Args:
        found: what it told of its draft.
        refused: why its counters were not used.
    """
    done = [request for request in requests if request.error is None]
    silent = sum(request.rounds_from is None and request.num_output_tokens > 1 for request in done)
    lacks = [
        ("round records: acceptance, silent non-speculation, engine counters", found is None),
        ("rounds by request: engine counters", found is not None and found.of_cells),
        (f"acceptance of {silent} requests", found is not None and not found.of_cells and silent > 0),
        ("output token ids: losslessness, loops", any(request.counted_tokens is not None for request in done)),
        ("count of prompt tokens", any(request.engine_prompt_tokens is None for request in done)),
        ("count of cached tokens", any(request.num_cached_tokens is None for request in done)),
    ]
    evidence = "no " + "; no ".join(what for what, lacking in lacks if lacking)
    evidence = evidence if any(lacking for _, lacking in lacks) else "as far as its interface goes all is there"
    evidence += "; arguments and energy of a server of its own"
    evidence += "".join(f"; counters of its drafts are not used: {why}" for why in refused if found is None)
    yield evidence + ("" if has_reference else "; no vanilla reference for losslessness")


NOT_CHECKED = Gate(
    "not checked", "warning", "row", "Every check of the row had what it needs.",
    "An endpoint gives what its interface has; what is not given cannot be held against anything.",
    "Where a check matters, measure the same server as an engine of the suite, or through SGLang's own interface.",
    lambda at: (
        untold_by_endpoint(at.requests, bool(at.judged.references), at.served, refusals(at.seals))
        if at.arm.is_endpoint and at.requests
        else ()
    ),
)  # fmt: skip


def warm_endpoint(requests: Sequence[RequestRecord]) -> Iterable[str]:
    """What a server's prefix cache may have given away."""
    done = [request for request in requests if request.error is None]
    cached = sum(request.num_cached_tokens or 0 for request in done)
    if cached:
        whole = sum(request.num_prompt_tokens for request in done)
        yield f"{cached} of {whole} prompt tokens came from its cache"


WARM_ENDPOINT = Gate(
    "warm endpoint", "warning", "row", "No prompt token came from an endpoint's prefix cache.",
    "Its cache is not ours to flush: prompts that come again are faster than new ones.",
    "Start the server without a prefix cache (SGLang: --disable-radix-cache).",
    lambda at: warm_endpoint(at.requests) if at.arm.is_endpoint else (),
)  # fmt: skip
