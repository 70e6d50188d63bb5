"""Whether the target said what it says without a draft, and whether that is worth measuring."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from draftbench.harness.metrics.arm_point import ArmPoint
from draftbench.harness.metrics.distribution import SameDistribution
from draftbench.harness.metrics.evidence import KnownArm
from draftbench.harness.metrics.gates.gate import Gate
from draftbench.harness.metrics.lossless import Losslessness, key_of
from draftbench.harness.records import RequestRecord

LEAST_P = 0.001
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


def looping_outputs(requests: Sequence[RequestRecord]) -> Iterable[str]:
    """Outputs that go round in circles."""
    done = [request for request in requests if request.error is None]
    count = sum(loops(request.output_ids) for request in done)
    if done and count > FEW_LOOPS * len(done):
        yield f"{count} of {len(done)} outputs end in a loop"


def loops(output: Sequence[int]) -> bool:
    """Whether an output's end repeats a short piece."""
    tail = output[-LOOP_TOKENS:]
    if len(tail) < LOOP_TOKENS:
        return False
    return any(tail[period:] == tail[:-period] for period in range(1, LONGEST_PERIOD + 1))


LOOPING_OUTPUTS = Gate(
    "looping outputs", "warning", "row",
    f"At most {FEW_LOOPS:.0%} of the outputs end in a loop of up to {LONGEST_PERIOD} tokens.",
    "Loops are easy to draft: acceptance rises with text that nobody would want.",
    "Let stop tokens end outputs, lower max_tokens, or take prompts that the target can answer.",
    lambda at: () if at.simulated or at.design.random_weights else looping_outputs(at.requests),
)  # fmt: skip


def missing_records(at: ArmPoint) -> Iterable[str]:
    """Outputs that nothing is there to judge by, though the run made it."""
    if not at.design.has_passes or at.simulated:
        return
    if at.greedy:
        done = {key_of(request) for request in at.requests if request.error is None}
        missing = len(done - at.judged.references.keys())
        if missing:
            yield f"{missing} of {len(done)} prompts without vanilla's reference"
    elif at.arm.drafts and at.baseline is not None:
        names = [name for name in (at.arm.name, at.baseline) if not at.judged.samples.get(name)]
        if names:
            yield f"no sampled continuations of {' and '.join(names)}"


MISSING_RECORDS = Gate(
    "missing records", "invalid", "row",
    "What outputs are judged by is there: vanilla's reference of every prompt, or sampled continuations.",
    "Without it nobody can say whether the draft changed what the target says.",
    "Put references.jsonl or samples.jsonl back, or start a new run.",
    missing_records,
)  # fmt: skip


def wrong_outputs(found: Losslessness | None) -> Iterable[str]:
    """Greedy outputs that differ from vanilla's by more than ties that fall differently."""
    if found is not None and found.num_wrong:
        yield found.wrong_text()


NOT_LOSSLESS = Gate(
    "not lossless", "invalid", "row",
    "Greedy outputs are vanilla's, or differ only where the target's scores are all but tied.",
    "A draft must not change what the target says; a faster wrong answer is no speedup.",
    "See the losslessness table: the first difference and how far the token was from the best one.",
    lambda at: wrong_outputs(at.same),
)  # fmt: skip


def unscored_outputs(found: Losslessness | None) -> Iterable[str]:
    """Greedy outputs that differ from vanilla's and were not scored again."""
    if found is not None and found.num_unscored:
        yield f"{found.num_unscored} of {found.num_different} were not scored again"


UNEXPLAINED_DIFFERENCE = Gate(
    "unexplained difference", "invalid", "row",
    "Greedy outputs that differ from vanilla's were scored again by the target.",
    "Without it nobody knows whether a tie fell differently or a token was wrong.",
    "Run the suite to its end; the scores are taken after the last launch.",
    lambda at: unscored_outputs(at.same),
)  # fmt: skip


def other_distribution(found: SameDistribution | None) -> Iterable[str]:
    """Samples that are unlikely to come from vanilla's distribution."""
    if found is not None and found.p < LEAST_P:
        tokens = "" if found.num_tokens is None else f", {found.num_tokens} tokens of them verified"
        yield f"{found.num_samples} continuations{tokens}: p = {found.p:.2g}"


OTHER_DISTRIBUTION = Gate(
    "other distribution", "invalid", "row",
    "At a temperature above 0, continuations of open questions are distributed as vanilla's (p ≥ 0.001).",
    "A draft must not change what is sampled; rejection sampling is easy to get almost right. What is found this way, "
    "and how surely, stands in docs/measuring.md.",
    "Read the p value; repeat the run: chance alone brings this about once in a thousand rows.",
    lambda at: other_distribution(at.sampled),
)  # fmt: skip


def untested_distribution(at: ArmPoint) -> Iterable[str]:
    """No samples where there should be some, or none that the target scored."""
    if not at.arm.drafts or at.greedy or at.simulated:
        return
    if at.sampled is None:
        yield "no continuations of both, or all of them equal"
    elif at.sampled.num_tokens is None:
        yield "the target scored none of the continuations, so only gross faults would be found"


UNTESTED_DISTRIBUTION = Gate(
    "untested distribution", "warning", "row",
    "At a temperature above 0 the arm's continuations could be compared with vanilla's, token by token.",
    "Without that nothing shows that the draft leaves what is sampled as it is.",
    "Run the suite to its end, with a vanilla arm; its engine scores the continuations after a launch. At a very low "
    "temperature every continuation is the same one.",
    untested_distribution,
)  # fmt: skip


def lossy_setting(known: KnownArm, vanilla: KnownArm | None, greedy: bool) -> Iterable[str]:
    """Engine arguments of SGLang 0.5.17 under which samples are not the target's, or are another target's."""
    if greedy:
        return
    # eagle_utils.py: taken if coin <= mass / acc or p >= single. An acc above 1 refuses too often, and what is refused
    # is not drawn again (speculative/eagle_utils.py and the kernel tree_speculative_sampling_target_only).
    single, acc = (known.argument(name, 1.0) for name in (THRESHOLD_SINGLE, THRESHOLD_ACC))
    found = [f"{THRESHOLD_SINGLE}: {single}"] if known.arm.drafts and single < 1 else []
    found += [f"{THRESHOLD_ACC}: {acc}"] if known.arm.drafts and acc != 1 else []
    for name in TARGET_SETTINGS:
        if vanilla is None or not (name in known.arm.engine or name in vanilla.arm.engine):
            continue
        ours, theirs = known.argument(name, None), vanilla.argument(name, None)
        if ours != theirs:
            found.append(f"{name}: {ours} (vanilla: {theirs})")
    if found:
        yield ", ".join(found)


LOSSY_SETTING = Gate(
    "lossy setting", "invalid", "row",
    "At a temperature above 0 no engine argument changes what the target says or is accepted.",
    "Acceptance thresholds other than 1 take drafts that the target would not; another precision is another "
    "target. The sampling test does not find every one of them. Greedy verification heeds no threshold, and its "
    "outputs are held against vanilla's token by token.",
    "Leave these arguments out, or give those of the target's precision to vanilla too.",
    lambda at: lossy_setting(at.known, at.baseline_arm, at.greedy),
)  # fmt: skip
