"""Reasons why a figure must not be trusted, each with its evidence. What is invalid enters no mean or verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from draftbench.harness.metrics.acceptance import acceptance_length, disagrees_with_engine, rounds_of
from draftbench.harness.metrics.distribution import SameDistribution
from draftbench.harness.metrics.energy import different_sources, held_back, too_short, unequal_clocks
from draftbench.harness.metrics.evidence import ArmInfo
from draftbench.harness.metrics.latency import latency_s, mean, ttft_s
from draftbench.harness.metrics.lossless import Losslessness
from draftbench.harness.metrics.throughput import steady_window_ns
from draftbench.harness.records import CellKey, CellRecord, PhaseTimes, RequestRecord, WindowRecord
from draftbench.harness.units import seconds

PromptKey = tuple[str, int]
"""Prompt and turn."""
LEAST_P = 0.001
STEADY = 1.5
"""Largest over smallest mean step time of a row's blocks that passes as steady."""
LONGEST_PERIOD, LOOP_TOKENS, FEW_LOOPS = 16, 48, 0.1
"""An output loops if its last 48 tokens repeat a piece of at most 16; up to a tenth of the outputs may."""


THRESHOLD_SINGLE, THRESHOLD_ACC = "speculative_accept_threshold_single", "speculative_accept_threshold_acc"
TARGET_SETTINGS = (
    "dtype", "enable_fp32_lm_head", "enable_hisparse", "enable_lora", "hisparse_config", "json_model_override_args",
    "kv_cache_dtype", "load_format", "lora_paths", "model_path", "modelopt_quant", "quantization",
    "quantization_param_path", "quantize_and_serve", "revision", "rl_on_policy_target", "rl_quant_profile",
    "torchao_config",
)  # fmt: skip
"""Arguments (0.5.17) that make another target of it; unlike vanilla's they leave no sample as it was."""
MANY_ROUNDS = 50
"""So many rounds without an accepted draft are no chance: where 1 in 10 is accepted, 1 row in 200 has that."""
LATE = 0.1
"""Mean lateness of the client, as a share of the mean TTFT or latency, that passes."""


@dataclass(frozen=True)
class Gate:
    """One check, as `bench.py explain` tells it.

    Attributes:
        severity: "invalid" keeps what the scope names out of every mean and verdict; "warning" only says so.
        scope: what it speaks of: the whole row, or one metric.
        looks_at: what must hold.
        why: what goes wrong otherwise.
        remedy: what to do about a finding.
    """

    severity: Literal["invalid", "warning"]
    scope: Literal["row", "energy"]
    looks_at: str
    why: str
    remedy: str


GATES: Mapping[str, Gate] = {
    "failed cell": Gate(
        "invalid", "row", "Every cell of the row ran to its end.",
        "An engine that does not start, dies, or runs something else than the suite says gives no figure.",
        "Read the reason; the engine's log lies in the run's folder under engines/. Then --resume.",
    ),
    "failures": Gate(
        "invalid", "row", "No request failed.",
        "The requests that are left may be the easier ones.",
        "Read the first error; lower the concurrency or enlarge max_total_tokens if the engine ran out of memory.",
    ),
    "silent non-speculation": Gate(
        "invalid", "row", "An arm with a draft recorded verify steps where it decoded, and proposed drafts in them.",
        "An engine can load a draft and still decode token by token.",
        "Read the engine's log and receipt; of a draft of your own, look at when it proposes empty trees.",
    ),
    "nothing accepted": Gate(
        "warning", "row", f"Of {MANY_ROUNDS} rounds or more at least one accepted a draft.",
        "A draft far from its language is bad and measured as it is, τ = 1; one made for another target looks alike.",
        "Check that the checkpoint is made for this target and that its config.json names the right layout.",
    ),
    "unequal prompts": Gate(
        "invalid", "row", "Every prompt was sent with the same token ids as to vanilla.",
        "Other prompts have other speeds.",
        "Start a new run; do not mix records of different suites or tokenizers.",
    ),
    "prompt tokens": Gate(
        "invalid", "row", "The engine saw as many prompt tokens as were rendered.",
        "An engine that cuts a prompt or adds to it answers another question.",
        "Look at max_total_tokens, the target's context and its chat template.",
    ),
    "unequal sampling": Gate(
        "invalid", "row", "The sampling parameters were those that vanilla was sent.",
        "Acceptance falls with the temperature.",
        "Start a new run.",
    ),
    "unequal cache": Gate(
        "invalid", "row", "As many prompt tokens came from the prefix cache as for vanilla, up to EAGLE's one less.",
        "A warm cache saves prefill and looks like a fast draft.",
        "Leave prefix_cache off, or make the cache equally warm for all arms.",
    ),
    "engine counters": Gate(
        "invalid", "row", "The recorded rounds agree with SGLang's own counters and with the tokens delivered.",
        "Otherwise rounds were lost or counted twice, and the acceptance length is wrong.",
        "Report it with the run's folder: this is a fault of the harness or the engine.",
    ),
    "leftover state": Gate(
        "invalid", "row", "Under greedy decoding in float32 at concurrency 1 all blocks have one acceptance length.",
        "The same prompts give the same tokens, so acceptance can only move if a draft remembers earlier blocks.",
        "Let the draft forget in `reset`, or say `options: {state: keep}` if it is meant to remember.",
    ),
    "unsteady acceptance": Gate(
        "warning", "row", "Under greedy decoding the acceptance length is the same in every block.",
        "At higher concurrency or in low precision ties may fall differently; larger changes mean leftover state.",
        "Compare with the interval between blocks; see `leftover state`.",
    ),
    "impossible speedup": Gate(
        "invalid", "row", "At concurrency 1 the decode speedup does not exceed the acceptance length.",
        "A round costs at least a step of vanilla's, so τ is the most that can be gained.",
        "Look for a slow baseline: other arguments, another load on the machine, a cold start.",
    ),
    "unstable step time": Gate(
        "warning", "row", f"A step's mean time in the slowest block is at most {STEADY} times that in the fastest.",
        "Other programs, clocks or temperature moved while the row was measured.",
        "Free the machine, or add blocks and launches: interleaving keeps the ratios fair, intervals show the rest.",
    ),
    "looping outputs": Gate(
        "warning", "row", f"At most {FEW_LOOPS:.0%} of the outputs end in a loop of up to {LONGEST_PERIOD} tokens.",
        "Loops are easy to draft: acceptance rises with text that nobody would want.",
        "Let stop tokens end outputs, lower max_tokens, or take prompts that the target can answer.",
    ),
    "beyond training": Gate(
        "warning", "row", "No request is longer than the positions that the draft was made for.",
        "Heads are trained on short texts; beyond their length fewer drafts are accepted, down to slower than vanilla.",
        "Take a draft for longer texts, or shorter prompts and outputs; along-output acceptance shows where it falls.",
    ),
    "not lossless": Gate(
        "invalid", "row", "Greedy outputs are vanilla's, or differ only where the target's scores are all but tied.",
        "A draft must not change what the target says; a faster wrong answer is no speedup.",
        "See the losslessness table: the first difference and how far the token was from the best one.",
    ),
    "unexplained difference": Gate(
        "warning", "row", "Greedy outputs that differ from vanilla's were scored again by the target.",
        "Without it nobody knows whether a tie fell differently or a token was wrong.",
        "Run the suite to its end; the scores are taken after the last launch.",
    ),
    "other distribution": Gate(
        "invalid", "row", "At a temperature above 0, short continuations are distributed as vanilla's (p ≥ 0.001).",
        "A draft must not change what is sampled; rejection sampling is easy to get almost right. Only gross faults "
        "are found this way: docs/measuring.md says which.",
        "Read the p value; repeat the run: chance alone brings this about once in a thousand rows.",
    ),
    "lossy setting": Gate(
        "invalid", "row", "At a temperature above 0 no engine argument changes what the target says or is accepted.",
        "Acceptance thresholds other than 1 take drafts that the target would not; another precision is another "
        "target. The sampling test finds large changes only. Greedy verification heeds no threshold, and its outputs "
        "are held against vanilla's token by token.",
        "Leave these arguments out, or give those of the target's precision to vanilla too.",
    ),
    "untested distribution": Gate(
        "warning", "row", "At a temperature above 0 the arm's short continuations could be compared with vanilla's.",
        "Without that nothing shows that the draft leaves what is sampled as it is.",
        "Run the suite to its end, with a vanilla arm; at a very low temperature every continuation is the same one.",
    ),
    "held back": Gate(
        "warning", "row", "No GPU ran below its clocks for power, heat or hardware.",
        "A throttled arm is measured on another machine.",
        "Cool the GPU, raise its power limit, or fix its clocks for all arms.",
    ),
    "unequal clocks": Gate(
        "warning", "row", "Each GPU's mean SM clock was within 2% of vanilla's.",
        "A ratio of throughputs then holds a ratio of clocks.",
        "Fix the clocks for the run, or warm the GPU up before it.",
    ),
    "short energy window": Gate(
        "invalid", "energy", "Each cell took 30 s or more.",
        "Energy counters move every 20 to 100 ms and sampled power lags by up to a second.",
        "Take more prompts or longer outputs.",
    ),
    "unequal energy sources": Gate(
        "invalid", "energy", "Joules were read in the same way as vanilla's.",
        "A counter and sampled power differ by more than the drafts do.",
        "Start a new run; look at what doctor says of the sensors.",
    ),
    "split block": Gate(
        "warning", "row", "In every block the arm was measured in the same session as vanilla.",
        "A run that was resumed in the middle of a block has other engines in its second part, at another time.",
        "Have enough launches that one block does not count for much, or measure anew.",
    ),
    "unsteady load": Gate(
        "warning", "row", "In an open loop every block had a steady window: the arm kept up with the arrivals.",
        "Where a queue grows for as long as requests arrive, latency tells the length of the run and no speed.",
        "Lower the rate, or take more prompts if they arrive within a few times the longest request.",
    ),
    "late sends": Gate(
        "warning", "row", f"In an open loop requests were sent on arrival, at most {LATE:.0%} of TTFT late on average.",
        "TTFT counts from the arrival, so part of it is the client's.",
        "See `late client`.",
    ),
    "late client": Gate(
        "invalid", "row", f"In an open loop requests were sent at most {LATE:.0%} of their latency late on average.",
        "Latencies count from the arrival, so a client that is late is measured as a slow engine.",
        "Free the machine that the client runs on, or lower the rate; `selftest` says what the client costs.",
    ),
    "not checked": Gate(
        "warning", "row", "Every check of the row had what it needs.",
        "An endpoint gives what its interface has; what is not given cannot be held against anything.",
        "Where a check matters, measure the same server as an engine of the suite, or through SGLang's own interface.",
    ),
    "warm endpoint": Gate(
        "warning", "row", "No prompt token came from an endpoint's prefix cache.",
        "Its cache is not ours to flush: prompts that come again are faster than new ones.",
        "Start the server without a prefix cache (SGLang: --disable-radix-cache).",
    ),
    "own settings": Gate(
        "warning", "row", "The arm has no engine arguments of its own.",
        "What differs besides the draft may explain the speed.",
        "Give every arm the same `engine:` settings where you can.",
    ),
    "simulated acceptance": Gate(
        "warning", "row", "The verifier's own answer decided what was accepted.",
        "Where the suite gives α_k, rounds accept by chance as often as it says: a what-if figure. Times of the passes "
        "are real, acceptance and speed are not, and outputs mean nothing.",
        "Leave simulated_acceptance out to measure.",
    ),
    "random weights": Gate(
        "warning", "row", "The weights were read from checkpoints.",
        "Random weights of a shape serve to time its passes; what the model says means nothing.",
        "Leave target.random_weights out, and give checkpoints.",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One gate that was not passed."""

    gate: str
    evidence: str

    @property
    def severity(self) -> Literal["invalid", "warning"]:
        """The gate's."""
        return GATES[self.gate].severity

    @property
    def scope(self) -> str:
        """The gate's."""
        return GATES[self.gate].scope


def failed_cells(cells: Sequence[CellRecord]) -> Iterable[Finding]:
    """Cells that could not be run to their end; the same reason is told once."""
    reasons = dict.fromkeys(cell.error for cell in cells if cell.error is not None)
    for reason in reasons:
        count = sum(cell.error == reason for cell in cells)
        yield Finding("failed cell", f"{count} of {len(cells)} cells: {reason}")


def failures(requests: Sequence[RequestRecord]) -> Iterable[Finding]:
    """Failed requests: what is left may be the easier part."""
    failed = [request for request in requests if request.error is not None]
    if failed:
        yield Finding("failures", f"{len(failed)} of {len(requests)} requests failed, the first: {failed[0].error}")


def silent_non_speculation(
    requests: Sequence[RequestRecord], phases: Iterable[PhaseTimes], drafts: bool
) -> Iterable[Finding]:
    """An arm with a draft that decoded without verify steps, or had nothing proposed in any of them.

    What a prefill gives, the first token and one after each retraction, takes no step.
    """
    if not drafts:
        return
    rounds = rounds_of(requests)
    done = [request for request in requests if request.error is None]
    decoded = sum(max(0, request.num_output_tokens - 1 - request.num_retractions) for request in done)
    recorded = list(phases)
    num_rounds, num_empty = (sum(getattr(each, name) for each in recorded) for name in ("num_rounds", "num_empty"))
    if not rounds and decoded:
        yield Finding("silent non-speculation", f"{decoded} tokens were decoded, and no verify step was recorded")
    elif rounds and (num_empty >= num_rounds > 0 or not any(round_.num_proposed_drafts for round_ in rounds)):
        yield Finding("silent non-speculation", f"nothing was proposed in any of {len(rounds)} rounds")


def nothing_accepted(requests: Sequence[RequestRecord]) -> Iterable[Finding]:
    """Many rounds, none of which accepted a draft."""
    rounds = rounds_of(requests)
    if len(rounds) >= MANY_ROUNDS and acceptance_length(rounds) == 1:
        yield Finding("nothing accepted", f"none of {len(rounds)} rounds accepted a draft")


def unequal_prompts(requests: Iterable[RequestRecord], baseline: Mapping[PromptKey, str]) -> Iterable[Finding]:
    """Prompts that differ from the baseline's on the same prompt and turn."""
    for request in requests:
        same = baseline.get((request.prompt_id, request.turn))
        if same is not None and request.error is None and request.prompt_sha256 != same:
            yield Finding("unequal prompts", f"{request.prompt_id} was rendered otherwise than for vanilla")
            return


def unequal_cache(
    blocks: Mapping[CellKey, Sequence[RequestRecord]],
    baseline: Mapping[CellKey, Sequence[RequestRecord]],
    shorter_by: int = 0,
    is_on: bool = True,
) -> Iterable[Finding]:
    """Prompt tokens from the prefix cache that are not the baseline's in the same block.

    Where requests run side by side, those that are sent before the first prefill ends find nothing in the cache, and
    which of them comes first is chance. So there a block's sum is looked at, and it may be off by what the requests
    that run at once can find at most.

    Args:
        shorter_by: by how many tokens each prefix may be shorter than the baseline's.
        is_on: the suite asks for the cache; else nobody may find anything, at any concurrency.
    """
    plain = {(cell.launch, cell.block): requests for cell, requests in baseline.items()}
    for cell, requests in blocks.items():
        ours, theirs = _cached(requests), _cached(plain.get((cell.launch, cell.block), ()))
        pairs = {key: (ours[key], theirs[key]) for key in ours if key in theirs}
        if cell.concurrency == 1 or not is_on:
            off = [key for key, (own, other) in pairs.items() if not max(0, other - shorter_by) <= own <= other]
            if off:
                own, other = pairs[off[0]]
                yield Finding("unequal cache", f"{off[0][0]}: {own} cached tokens, vanilla had {other}")
                return
            continue
        own, other = (sum(pair[side] for pair in pairs.values()) for side in (0, 1))
        at_once = cell.concurrency or _most_at_once(plain.get((cell.launch, cell.block), ()))
        chance = max(sum(sorted(found.values())[-at_once:]) for found in (ours, theirs))
        if not other - shorter_by * len(pairs) - chance <= own <= other + chance:
            evidence = f"block {cell.block}: {own} cached tokens of {len(pairs)} prompts, vanilla had {other}"
            yield Finding("unequal cache", evidence)
            return


def _cached(requests: Iterable[RequestRecord]) -> dict[PromptKey, int]:
    """Cached tokens of the requests that finished, where the engine tells them."""
    return {
        (request.prompt_id, request.turn): request.num_cached_tokens
        for request in requests
        if request.error is None and request.num_cached_tokens is not None
    }


def _most_at_once(requests: Sequence[RequestRecord]) -> int:
    """Requests that were under way at one time."""
    return max((sum(r.began_ns <= at.began_ns < r.finished_ns for r in requests) for at in requests), default=1) or 1


def other_prompt_tokens(requests: Iterable[RequestRecord]) -> Iterable[Finding]:
    """Requests whose prompt the engine counted otherwise: it cut it, or added tokens of its own."""
    wrong = [
        request
        for request in requests
        if request.engine_prompt_tokens is not None and request.engine_prompt_tokens != request.num_prompt_tokens
    ]
    if wrong:
        first = wrong[0]
        evidence = (
            f"{len(wrong)} requests, the first: {first.prompt_id} was sent with {first.num_prompt_tokens} tokens, "
            f"the engine saw {first.engine_prompt_tokens}"
        )
        yield Finding("prompt tokens", evidence)


def split_blocks(cells: Iterable[CellRecord], baseline: Iterable[CellRecord]) -> Iterable[Finding]:
    """Blocks in which the baseline was measured before the run was resumed and the arm after it, or the other way."""
    sessions = {(record.cell.launch, record.cell.block): record.session for record in baseline}
    blocks = [(record, (record.cell.launch, record.cell.block)) for record in cells]
    split = [block for record, block in blocks if sessions.get(block, record.session) != record.session]
    if split:
        evidence = f"{len(split)} of {len(blocks)} blocks, the first: launch {split[0][0]}, block {split[0][1]}"
        yield Finding("split block", evidence)


def unequal_sampling(cells: Iterable[CellRecord], baseline: Iterable[CellRecord]) -> Iterable[Finding]:
    """Sampling parameters that are not the baseline's."""
    ours, theirs = ({str(cell.sampling) for cell in cells if cell.sampling} for cells in (cells, baseline))
    if theirs and ours - theirs:
        yield Finding(
            "unequal sampling", f"sent {', '.join(sorted(ours - theirs))}; vanilla {', '.join(sorted(theirs))}"
        )


def engine_counters(requests: Iterable[RequestRecord]) -> Iterable[Finding]:
    """Recorded rounds that contradict the engine's own counters."""
    wrong = [text for request in requests if (text := disagrees_with_engine(request)) is not None]
    if wrong:
        yield Finding("engine counters", f"{len(wrong)} requests, the first: {wrong[0]}")


def unsteady_acceptance(
    blocks: Iterable[Sequence[RequestRecord]], greedy: bool, exact: bool, keeps_state: bool
) -> Iterable[Finding]:
    """Greedy blocks repeat the same tokens, so their acceptance must be the same.

    Args:
        exact: float32 at concurrency 1, where nothing but leftover state can move it.
        keeps_state: the suite lets the draft remember.
    """
    if not greedy or keeps_state:
        return
    lengths = [acceptance_length(rounds_of(requests)) for requests in blocks]
    present = [length for length in lengths if length is not None]
    if present and max(present) - min(present) > 1e-9:
        evidence = "acceptance length by block: " + ", ".join(f"{length:.3f}" for length in present)
        yield Finding("leftover state" if exact else "unsteady acceptance", evidence)


def unsteady_load(blocks: Iterable[Sequence[RequestRecord]]) -> Iterable[Finding]:
    """Blocks of an open loop without a steady window."""
    found = [block for block in blocks if block]
    unsteady = [block for block in found if steady_window_ns(block, None) is None]
    if unsteady:
        longest = max(request.finished_ns - request.began_ns for block in unsteady for request in block)
        span = max(max(r.began_ns for r in block) - min(r.began_ns for r in block) for block in unsteady)
        evidence = (
            f"none in {len(unsteady)} of {len(found)} blocks: the longest request took {seconds(longest):.1f} s, "
        )
        yield Finding("unsteady load", evidence + f"requests arrived within {seconds(span):.1f} s")


def late_sends(requests: Sequence[RequestRecord]) -> Iterable[Finding]:
    """Requests of an open loop that the client sent well after they were due."""
    late_s = [seconds(request.sent_ns - request.due_ns) for request in requests if request.due_ns is not None]
    for gate, what, metric in (("late sends", "TTFT", ttft_s), ("late client", "latency", latency_s)):
        whole_s = mean(map(metric, requests))
        if late_s and whole_s is not None and fmean(late_s) > LATE * whole_s:
            evidence = f"sent {1000 * fmean(late_s):.1f} ms late on average, at most {1000 * max(late_s):.1f} ms; "
            yield Finding(gate, evidence + f"{what} is {1000 * whole_s:.1f} ms")


def impossible_speedup(low: float | None, acceptance: float | None, concurrency: int | None) -> Iterable[Finding]:
    """At concurrency 1 a round costs at least a vanilla step, so no decode speedup can exceed the acceptance length."""
    if concurrency == 1 and low is not None and acceptance is not None and low > acceptance:
        evidence = f"decode speedup of at least {low:.2f} with an acceptance length of {acceptance:.2f}"
        yield Finding("impossible speedup", evidence)


def unstable_step_time(steps: Sequence[float]) -> Iterable[Finding]:
    """Blocks whose mean step times are far apart."""
    if len(steps) > 1 and max(steps) > STEADY * min(steps):
        yield Finding("unstable step time", f"from {1000 * min(steps):.1f} to {1000 * max(steps):.1f} ms in the blocks")


def looping_outputs(requests: Sequence[RequestRecord]) -> Iterable[Finding]:
    """Outputs that go round in circles."""
    done = [request for request in requests if request.error is None]
    count = sum(loops(request.output_ids) for request in done)
    if done and count > FEW_LOOPS * len(done):
        yield Finding("looping outputs", f"{count} of {len(done)} outputs end in a loop")


def beyond_training(requests: Sequence[RequestRecord], trained_tokens: int | None) -> Iterable[Finding]:
    """Requests whose prompt and output are longer than the draft was trained for."""
    lengths = [request.num_prompt_tokens + len(request.output_ids) for request in requests if request.error is None]
    longer = [length for length in lengths if trained_tokens is not None and length > trained_tokens]
    if longer:
        evidence = f"{len(longer)} of {len(lengths)} requests, up to {max(longer)} tokens"
        yield Finding("beyond training", f"{evidence}; the draft was made for {trained_tokens}")


def loops(output: Sequence[int]) -> bool:
    """Whether an output's end repeats a short piece."""
    tail = output[-LOOP_TOKENS:]
    if len(tail) < LOOP_TOKENS:
        return False
    return any(tail[period:] == tail[:-period] for period in range(1, LONGEST_PERIOD + 1))


def not_lossless(found: Losslessness | None) -> Iterable[Finding]:
    """Greedy outputs that differ from vanilla's by more than ties that fall differently."""
    if found is None:
        return
    if found.num_wrong:
        yield Finding("not lossless", found.wrong_text())
    if found.num_unscored:
        yield Finding("unexplained difference", f"{found.num_unscored} of {found.num_different} were not scored again")


def other_distribution(found: SameDistribution | None, expected: bool = False) -> Iterable[Finding]:
    """Samples that are unlikely to come from vanilla's distribution, or none where there should be some."""
    if found is None and expected:
        yield Finding("untested distribution", "no continuations of both, or all of them equal")
    if found is not None and found.p < LEAST_P:
        yield Finding("other distribution", f"{found.num_samples} continuations: p = {found.p:.2g}")


def endpoint(requests: Sequence[RequestRecord], has_reference: bool) -> Iterable[Finding]:
    """What could not be checked of a server that ran already, and what its prefix cache may have given away."""
    done = [request for request in requests if request.error is None]
    lacks = [
        ("round records: acceptance, silent non-speculation, engine counters", True),
        ("output token ids: losslessness, loops", any(request.counted_tokens is not None for request in done)),
        ("count of prompt tokens", any(request.engine_prompt_tokens is None for request in done)),
        ("count of cached tokens", any(request.num_cached_tokens is None for request in done)),
    ]
    evidence = "no " + "; no ".join(what for what, lacking in lacks if lacking)
    evidence += "; arguments and energy of a server of its own"
    yield Finding("not checked", evidence + ("" if has_reference else "; no vanilla reference for losslessness"))
    cached = sum(request.num_cached_tokens or 0 for request in done)
    if cached:
        whole = sum(request.num_prompt_tokens for request in done)
        yield Finding("warm endpoint", f"{cached} of {whole} prompt tokens came from its cache")


def lossy_setting(arm: ArmInfo, vanilla: ArmInfo | None, greedy: bool) -> Iterable[Finding]:
    """Engine arguments of SGLang 0.5.17 under which samples are not the target's, or are another target's."""
    if greedy:
        return
    # eagle_utils.py: taken if coin <= mass / acc or p >= single. An acc above 1 refuses too often, and what is refused
    # is not drawn again (speculative/eagle_utils.py and the kernel tree_speculative_sampling_target_only).
    single, acc = (arm.argument(name, 1.0) for name in (THRESHOLD_SINGLE, THRESHOLD_ACC))
    found = [f"{THRESHOLD_SINGLE}: {single}"] if arm.drafts and single < 1 else []
    found += [f"{THRESHOLD_ACC}: {acc}"] if arm.drafts and acc != 1 else []
    for name in TARGET_SETTINGS:
        if vanilla is None or not (name in arm.engine or name in vanilla.engine):
            continue
        ours, theirs = arm.argument(name, None), vanilla.argument(name, None)
        if ours != theirs:
            found.append(f"{name}: {ours} (vanilla: {theirs})")
    if found:
        yield Finding("lossy setting", ", ".join(found))


def own_settings(engine: Mapping[str, Any]) -> Iterable[Finding]:
    """Engine arguments that only this arm has."""
    if engine:
        yield Finding("own settings", ", ".join(f"{name}: {value}" for name, value in engine.items()))


def made_up(alphas: Sequence[float] | None, random_weights: bool) -> Iterable[Finding]:
    """What was not measured but given: acceptance, weights."""
    if alphas is not None:
        drawn = ", ".join(f"{alpha:.2f}" for alpha in alphas)
        yield Finding("simulated acceptance", f"accepted by chance with α = {drawn}")
    if random_weights:
        yield Finding("random weights", "made on the device for times at this shape")


def machine(windows: Sequence[WindowRecord], baseline: Sequence[WindowRecord]) -> Iterable[Finding]:
    """GPUs that were slowed down, or ran at other clocks than for the baseline."""
    for gate, evidence in (("held back", held_back(windows)), ("unequal clocks", unequal_clocks(windows, baseline))):
        if evidence is not None:
            yield Finding(gate, evidence)


def energy(windows: Sequence[WindowRecord], baseline: Sequence[WindowRecord]) -> Iterable[Finding]:
    """Joules that cannot be trusted or compared."""
    found = {
        "short energy window": too_short(windows),
        "unequal energy sources": different_sources(windows, baseline),
    }
    for gate, evidence in found.items():
        if evidence is not None:
            yield Finding(gate, evidence)
