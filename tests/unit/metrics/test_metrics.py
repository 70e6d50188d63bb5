"""Every metric against values worked out by hand, with its zero, one and failed case."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from draftbench.harness.metrics import acceptance
from draftbench.harness.metrics.curves import acceptance_curves
from draftbench.harness.metrics.evidence import Design, Judged
from draftbench.harness.metrics.gates import GATES, conditions, drafting, target_outputs, timing
from draftbench.harness.metrics.latency import mean, tpot_s, ttft_s
from draftbench.harness.metrics.lossless import first_difference, losslessness
from draftbench.harness.metrics.phases import round_split
from draftbench.harness.metrics.ratios import compare
from draftbench.harness.metrics.results import build_rows
from draftbench.harness.metrics.throughput import decode_step_s, median_decode_tokens_per_s, output_tokens_per_s
from draftbench.harness.records import CellKey, PhaseTimes, ReferenceRecord, RescoreRecord, Round
from draftbench.harness.units import NS_PER_S
from tests.fakes.held import Held
from tests.fakes.known import known, receipt

MS = NS_PER_S // 1000


def rounds(*accepted: int) -> list[Round]:
    return [Round(num_accepted_drafts=a, num_proposed_drafts=5) for a in accepted]


def test_acceptance_length_includes_the_bonus_token():
    """Rounds with 0 and 3 accepted drafts give (1 + 4) / 2 tokens."""
    assert acceptance.acceptance_length(rounds(0, 3)) == 2.5
    assert acceptance.acceptance_length(rounds(0)) == 1.0
    assert acceptance.acceptance_length([]) is None


def test_conditional_acceptance_counts_only_rounds_that_came_so_far():
    """Of 4 rounds 3 accept one draft, 1 of those a second one, and it goes no further."""
    assert acceptance.conditional_acceptance(rounds(0, 1, 1, 2), 4) == [3 / 4, 1 / 3, 0.0, None]


def test_rounds_without_a_kth_draft_do_not_count_at_step_k():
    """Where the number of steps changes, a round that took all of its one draft says nothing of a second one."""
    changing = [
        Round(num_accepted_drafts=a, num_proposed_drafts=d) for a, d in ((1, 1), (1, 1), (2, 3), (1, 3), (0, 1))
    ]
    assert acceptance.conditional_acceptance(changing, 3) == [4 / 5, 1 / 2, 0.0]
    assert acceptance.acceptance_length(changing) == 1 + sum(acceptance.survival(changing)) == 2.0


def test_changes_of_the_number_of_drafts_are_counted_within_requests(request_record):
    """Rounds by their drafts, and how often the next round had others; nothing where they stay the same."""
    sizes = ((5, 5, 3, 3, 5), (5, 5))
    requests = [
        request_record(rounds=tuple(Round(num_accepted_drafts=1, num_proposed_drafts=d) for d in each))
        for each in sizes
    ]
    found = acceptance.Acceptance.of(requests, 5, True)
    assert (found.rounds_by_nodes, found.changes_of_nodes) == ({3: 2, 5: 5}, 2)
    same = acceptance.Acceptance.of(requests[1:], 5, True)
    assert (same.rounds_by_nodes, same.changes_of_nodes) == (None, None)


def test_draft_acceptance_and_verify_utilisation():
    """3 of 10 nodes accepted; 5 tokens emitted from 12 verified nodes, roots included."""
    assert acceptance.draft_acceptance(rounds(0, 3)) == pytest.approx(0.3)
    assert acceptance.verify_utilisation(rounds(0, 3)) == pytest.approx(5 / 12)
    assert acceptance.draft_acceptance([]) is None
    assert acceptance.verify_utilisation([]) is None


@given(st.lists(st.integers(0, 9), min_size=1, max_size=50))
def test_acceptance_length_is_one_plus_the_survivals(accepted: list[int]):
    """τ = 1 + Σ S_k for every list of rounds."""
    found = acceptance.acceptance_length(rounds(*accepted))
    assert found == pytest.approx(1 + sum(acceptance.survival(rounds(*accepted))))


def test_failed_requests_lend_no_rounds(request_record):
    """A failed request's rounds are left out of the acceptance length."""
    kept = acceptance.rounds_of([request_record(accepted=(1,)), request_record(accepted=(5,), error="lost")])
    assert [r.num_accepted_drafts for r in kept] == [1]


def test_delivered_tokens_leave_the_prefill_token_out(request_record):
    """4 tokens of which 1 is from prefill, in 2 rounds: 1.5 a round."""
    assert acceptance.delivered_tokens_per_round([request_record(accepted=(2, 0))]) == 1.5
    assert acceptance.delivered_tokens_per_round([request_record(accepted=None)]) is None


def test_rounds_must_agree_with_the_engine(request_record):
    """1 + (2 + 1) tokens were emitted and 4 delivered; other counts, or more delivered than emitted, are named."""
    assert acceptance.disagrees_with_engine(request_record(accepted=(2,))) is None
    assert acceptance.disagrees_with_engine(request_record(accepted=(4,))) is None
    assert "the engine counts 3" in acceptance.disagrees_with_engine(request_record(accepted=(2,), engine_verify_ct=3))
    assert "emit 3 tokens, 4" in acceptance.disagrees_with_engine(request_record(accepted=(1,)))
    assert acceptance.disagrees_with_engine(request_record(accepted=None)) is None


def test_latency_by_hand(request_record):
    """First chunk at 10 ms with 1 token, last at 30 ms after 3 more: TTFT 10 ms, TPOT 20 / 3 ms."""
    assert ttft_s(request_record()) == pytest.approx(0.010)
    assert tpot_s(request_record()) == pytest.approx(0.020 / 3)
    assert tpot_s(request_record(((10, 4),))) is None
    assert ttft_s(request_record(error="lost")) is None
    assert ttft_s(request_record((), None)) is None
    assert mean([None, 2.0, 4.0]) == 3.0
    assert mean([None]) is None


def test_throughput_runs_from_the_first_send_to_the_last_token(request_record):
    """4 + 4 tokens between 0 and 60 ms; a failed request adds neither tokens nor time."""
    requests = [
        request_record(),
        request_record(((50, 1), (60, 3)), sent_ms=40),
        request_record(((900, 4),), error="lost"),
    ]
    assert output_tokens_per_s(requests) == pytest.approx(8 / 0.060)
    assert output_tokens_per_s(requests[2:]) is None


def test_a_decode_step_is_a_round_or_a_token(request_record):
    """20 ms after the first chunk: 2 rounds take 10 ms each; without a draft 3 tokens take 20 / 3 ms each."""
    assert decode_step_s([request_record(accepted=(1, 0))]) == pytest.approx(0.010)
    assert decode_step_s([request_record(accepted=None)]) == pytest.approx(0.020 / 3)
    assert decode_step_s([request_record(((10, 4),))]) is None


def test_ratios_are_paired_within_blocks():
    """Ratios 2 and 8 give the geometric mean 4; blocks that only one side has are left out."""
    found = compare({(0, 0): 20.0, (0, 1): 80.0, (0, 2): 5.0}, {(0, 0): 10.0, (0, 1): 10.0})
    assert found.value == pytest.approx(4)
    assert found.scope == "within one launch"
    half = 12.7062047364 * math.log(2)
    assert found.low == pytest.approx(4 / math.exp(half), rel=1e-6)
    assert compare({(0, 0): 1.0}, {(0, 1): 1.0}) is None
    assert compare({(0, 0): 3.0}, {(0, 0): 1.0}).low is None


def test_with_three_launches_the_interval_is_over_launches():
    """Blocks are averaged within launches first, so equal launch means leave no width."""
    arm = {(launch, block): (2.0, 8.0)[block] for launch in range(3) for block in range(2)}
    found = compare(arm, dict.fromkeys(arm, 1.0))
    assert found.scope == "over 3 launches"
    assert found.low == pytest.approx(4)


def reference(*output_ids: int) -> ReferenceRecord:
    return ReferenceRecord(
        workload="w", prompt_id="p", turn=0, prompt_sha256="h", prompt_ids=(1,), output_ids=output_ids,
        finish_reason="length",
    )  # fmt: skip


def score(
    output_ids: tuple[int, ...], deficit: float, gap: float | None = 0.01, noise: float | None = None
) -> RescoreRecord:
    return RescoreRecord(
        workload="w", prompt_id="p", turn=0, output_ids=output_ids, deficit=deficit, deficit_at=2, top2_gap=gap,
        noise=noise,
    )  # fmt: skip


def test_losslessness_compares_token_ids(request_record):
    """One of two outputs equals the reference, the other parts from it at token 2; a failed request does not count."""
    changed = request_record(output_ids=(0, 1, 9, 3))
    judged = Judged.of([reference(0, 1, 2, 3)], [reference(0, 1, 2, 4)])
    found = losslessness(
        [request_record(), changed, request_record(error="lost")], judged.references, judged.controls, {}
    )
    assert found.share == 0.5
    assert found.control_share == 0.0
    assert (found.num_different, found.num_unscored, found.num_wrong) == (1, 1, 0)
    assert found.first_difference == 2
    assert losslessness([request_record(error="lost")], judged.references, {}, {}) is None
    assert losslessness([request_record()], judged.references, {}, {}).control_share is None
    assert first_difference((0, 1), (0, 1, 9)) == 2
    assert first_difference((0,), (0,)) is None


def test_rounding_explains_only_so_much(request_record):
    """A token 0.02 below the best is a tie where scores move by 0.01, and a fault where they move by 0.009."""
    changed = request_record(output_ids=(0, 1, 9, 3))
    for noise, wrong in ((0.01, 0), (0.009, 1)):
        scores = [score((0, 1, 2, 3), 0.0, None, noise), score((0, 1, 9, 3), 0.02)]
        judged = Judged.of([reference(0, 1, 2, 3)], [], scores)
        found = losslessness([changed], judged.references, {}, judged.scores)
        assert (found.num_wrong, found.num_unscored) == (wrong, 0)
        assert found.delta == pytest.approx(2 * noise)
        assert len(list(target_outputs.wrong_outputs(found))) == wrong
        assert list(target_outputs.unscored_outputs(found)) == []
    unscored = losslessness([changed], judged.references, {}, {})
    assert list(target_outputs.wrong_outputs(unscored)) == []
    assert list(target_outputs.unscored_outputs(unscored)) == ["1 of 1 were not scored again"]


@pytest.mark.parametrize("gap", [14.0, None])
def test_going_on_or_ending_early_is_no_tie(request_record, gap):
    """Each token may be the target's best: where the outputs part, the best two have to be close."""
    longer = request_record(output_ids=(0, 1, 2, 3, 4))
    judged = Judged.of([reference(0, 1, 2, 3)], [], [score((0, 1, 2, 3, 4), 0.0, gap)])
    found = losslessness([longer], judged.references, {}, judged.scores)
    assert found.num_wrong == 1
    (said,) = target_outputs.wrong_outputs(found)
    assert ("14 apart" if gap else "ends early") in said


def test_round_split_gives_shares():
    """Of 100 ns 20 are draft, 60 verify, 10 extend; the rest is other."""
    split = round_split([PhaseTimes(num_rounds=1, draft_ns=20, verify_ns=60, extend_ns=10, round_ns=100)])
    assert vars(split) == pytest.approx({"draft": 0.2, "verify": 0.6, "extend": 0.1, "other": 0.1})
    assert round_split([]) is None


def test_gates_name_their_evidence(request_record):
    """Failures, unequal prompts and impossible speedups are found; healthy rows pass."""
    good = request_record()
    assert list(conditions.failures([good])) == []
    assert "1 of 2 requests failed" in next(iter(conditions.failures([good, request_record(error="lost")])))
    assert list(conditions.unequal_prompts([good], {("p", 0): "h"})) == []
    assert list(conditions.unequal_prompts([good], {("p", 0): "x"})) == ["p was rendered otherwise than for vanilla"]
    assert list(timing.impossible_speedup(2.0, 3.0, 1)) == []
    (impossible,) = timing.impossible_speedup(3.5, 3.0, 1)
    assert impossible == "decode speedup of at least 3.50 with an acceptance length of 3.00"
    assert timing.IMPOSSIBLE_SPEEDUP.severity == "invalid"
    assert list(timing.impossible_speedup(3.5, 3.0, 4)) == []
    steady = {0: [request_record()], 1: [request_record()]}
    assert list(drafting.unsteady_acceptance(steady.values(), greedy=True, keeps_state=False)) == []
    moved = {0: [request_record()], 1: [request_record(accepted=(1,))]}.values()
    judge = drafting.unsteady_acceptance
    assert list(judge(moved, greedy=True, keeps_state=False)) == ["acceptance length by block: 3.000, 2.000"]
    assert list(judge(moved, greedy=True, keeps_state=True)) == []
    assert list(judge(moved, greedy=False, keeps_state=False)) == []


def test_an_engine_that_does_not_draft_is_told_from_a_draft_that_is_never_right(request_record):
    """No step though tokens were decoded, or nothing proposed: silent. Proposed and never accepted: τ = 1, a warning
    after 50 rounds. What prefills give takes no step."""

    def silent(*requests: Any, phases: tuple[PhaseTimes, ...] = (), drafts: bool = True) -> list[str]:
        return list(drafting.silent_non_speculation(requests, phases, drafts))

    def of_rounds(num_empty: int) -> PhaseTimes:
        return PhaseTimes(num_rounds=2, draft_ns=1, verify_ns=1, extend_ns=1, round_ns=3, num_empty=num_empty)

    plain, wrong = request_record(accepted=()), request_record(accepted=(0, 0, 0))
    assert silent(plain) == ["3 tokens were decoded, and no verify step was recorded"]
    assert silent(request_record(accepted=None)) == silent(plain)
    assert silent(plain, drafts=False) == silent() == []
    assert silent(request_record(((10, 1),), ())) == silent(request_record(((10, 1), (20, 1)), (), num_retractions=1))
    assert silent(request_record(((10, 1),), ())) == silent(request_record(accepted=(), error="lost")) == []
    assert silent(wrong) == silent(wrong, phases=(of_rounds(1),)) == []
    assert silent(wrong, phases=(of_rounds(2),) * 2) == ["nothing was proposed in any of 3 rounds"]
    bare = tuple(Round(num_accepted_drafts=0, num_proposed_drafts=0) for _ in range(3))
    assert silent(request_record(rounds=bare)) == ["nothing was proposed in any of 3 rounds"]
    never = request_record(accepted=(0,) * 50)
    assert list(drafting.nothing_accepted([never])) == ["none of 50 rounds accepted a draft"]
    assert drafting.NOTHING_ACCEPTED.severity == "warning"
    assert list(drafting.nothing_accepted([never, request_record()])) == list(drafting.nothing_accepted([wrong])) == []


VANILLA_ALONE = (0, 38, 43, 42, 38, 43, 42, 53)
VANILLA_OF_4 = (0, 38, 43, 38, 38, 43, 42, 53)
"""Cached tokens of eight prompts with one system prompt, recorded at concurrency 1 and 4 from SGLang 0.5.17."""


@pytest.mark.parametrize(
    ("concurrency", "vanilla", "ours", "shorter_by", "finding"),
    [
        (1, VANILLA_ALONE, VANILLA_ALONE, 0, None),
        (1, VANILLA_ALONE, (0, 37, 42, 41, 37, 42, 41, 52), 1, None),
        (1, VANILLA_ALONE, (0, 37, 42, 41, 37, 42, 41, 52), 0, "p1: 37 cached tokens, vanilla had 38"),
        (1, VANILLA_ALONE, (0, 38, 43, 42, 38, 43, 42, 54), 1, "p7: 54 cached tokens, vanilla had 53"),
        (1, VANILLA_ALONE, (0, 36, 42, 41, 37, 42, 41, 52), 1, "p1: 36 cached tokens, vanilla had 38"),
        (1, (1, 0), (0, 0), 1, None),
        (1, (0, 0), (0, 1), 1, "p1: 1 cached tokens, vanilla had 0"),
        (4, VANILLA_OF_4, (42, 37, 37, 0, 37, 42, 41, 52), 1, None),
        (4, VANILLA_OF_4, (37, 0, 42, 37, 37, 42, 41, 52), 1, None),
        (4, VANILLA_OF_4, (0,) * 8, 1, "block 0: 0 cached tokens of 8 prompts, vanilla had 295"),
        (4, VANILLA_OF_4, (76,) * 8, 1, "block 0: 608 cached tokens of 8 prompts, vanilla had 295"),
        (4, (0, 0, 0), (0, 0, 29), 1, None),
        (4, (0, 0, 29), (0, 0, 0), 1, None),
        (None, VANILLA_OF_4, (0, 37, 42, 37, 37, 42, 41, 52), 1, None),
        (None, VANILLA_OF_4, (0,) * 8, 1, "block 0: 0 cached tokens of 8 prompts, vanilla had 295"),
        (None, VANILLA_OF_4, (76,) * 8, 1, "block 0: 608 cached tokens of 8 prompts, vanilla had 295"),
    ],
)
def test_a_shared_prefix_is_equal_up_to_what_pairs_and_chance_take(
    request_record, concurrency, vanilla, ours, shorter_by, finding
):
    """EAGLE's prefixes are one token shorter; of requests that run side by side nobody knows who finds what."""

    def block(arm: str, counts: tuple[int, ...]) -> dict[CellKey, list[Any]]:
        cell = CellKey(
            launch=0, block=0, arm=arm, workload="w", concurrency=concurrency, arrivals=None if concurrency else "2/s"
        )
        return {
            cell: [
                request_record(
                    ((number * 20 + 10, 1), (number * 20 + 30, 3)), cell=cell, prompt_id=f"p{number}",
                    num_cached_tokens=count, sent_ms=number * 20,
                )
                for number, count in enumerate(counts)
            ]
        }  # fmt: skip

    found = list(conditions.unequal_cache(block("eagle", ours), block("vanilla", vanilla), shorter_by))
    assert found == ([] if finding is None else [finding])
    untold = {cell: [each.model_copy(update={"num_cached_tokens": None}) for each in requests]
              for cell, requests in block("eagle", ours).items()}  # fmt: skip
    assert list(conditions.unequal_cache(untold, block("vanilla", vanilla))) == []
    assert list(conditions.unequal_cache(block("eagle", ours), {})) == []
    off = conditions.unequal_cache(block("eagle", (0, 0, 1)), block("vanilla", (0, 0, 0)), shorter_by, is_on=False)
    assert list(off) == ["p2: 1 cached tokens, vanilla had 0"]


LATER_TURNS = {
    "standalone": ((0, 2, 4, 2, 74, 81, 67, 72), 0),
    "hass": ((0, 1, 3, 1, 72, 80, 67, 71), 1),
    "eagle": ((0, 1, 3, 1, 73, 80, 66, 71), 1),
}
"""Cached tokens of four conversations' first and second turns, and by how many they may be shorter; recorded with
suites/prism_paper-tiny.yaml from SGLang 0.5.17, where vanilla had the following."""
LATER_VANILLA = (0, 2, 4, 2, 73, 81, 67, 71)


@pytest.mark.parametrize("concurrency", [1, 2])
@pytest.mark.parametrize("arm", LATER_TURNS)
def test_an_answers_last_token_may_be_cached_where_it_was_drafted(request_record, concurrency, arm):
    """Verification has written its key and value, which vanilla never does for the last one. At a first turn there is
    no answer before, and two tokens more are a warm cache everywhere."""

    def block(counts: tuple[int, ...]) -> dict[CellKey, list[Any]]:
        cell = CellKey(launch=0, block=0, arm="a", workload="w", concurrency=concurrency)
        return {
            cell: [
                request_record(cell=cell, prompt_id=f"p{number % 4}", turn=number // 4, num_cached_tokens=count)
                for number, count in enumerate(counts)
            ]
        }

    counts, shorter_by = LATER_TURNS[arm]
    vanilla = block(LATER_VANILLA)
    longer_by = 1 - shorter_by
    assert list(conditions.unequal_cache(block(counts), vanilla, shorter_by, longer_by)) == []
    if concurrency > 1:
        return
    for changed, finding in (
        ((*counts[:4], 75, *counts[5:]), "p0: 75 cached tokens, vanilla had 73"),
        ((1, *counts[1:]), "p0: 1 cached tokens, vanilla had 0"),
    ):
        assert list(conditions.unequal_cache(block(changed), vanilla, shorter_by, longer_by)) == [finding]
    if arm == "standalone":
        assert list(conditions.unequal_cache(block(counts), vanilla)) == ["p0: 74 cached tokens, vanilla had 73"]


@pytest.mark.parametrize("concurrency", [1, 2])
def test_what_follows_another_answer_is_not_held_against_vanillas_cache(request_record, concurrency):
    """A second turn's prompt holds the reference's answer: where an arm had given another one, as by rounding in
    bfloat16 and always when sampling, it finds less of it, or by chance more."""

    def block(counts: tuple[int, ...], answers: tuple[int, ...]) -> dict[CellKey, list[Any]]:
        cell = CellKey(launch=0, block=0, arm="a", workload="w", concurrency=concurrency)
        return {
            cell: [
                request_record(
                    cell=cell, prompt_id=f"p{number % 2}", turn=number // 2, num_cached_tokens=count,
                    output_ids=(answers[number], 2, 3, 4),
                )
                for number, count in enumerate(counts)
            ]
        }  # fmt: skip

    references = {("p0", 0): (7, 2, 3, 4), ("p1", 0): (8, 2, 3, 4)}

    def found(ours: Any, theirs: Any, shorter_by: int = 0, is_on: bool = True) -> list[str]:
        return list(conditions.unequal_cache(ours, theirs, shorter_by, 0, is_on, references))

    # Recorded at temperature 1 from SGLang 0.5.17: HASS had found 33 tokens of a second turn where vanilla found 36.
    sampled = block((0, 2, 26, 36), (1857, 946, 522, 522))
    assert found(block((0, 1, 25, 33), (379, 294, 1441, 522)), sampled, 1) == []
    vanilla = block((0, 1, 160, 180), (7, 8, 9, 9))
    assert found(block((0, 1, 40, 180), (6, 8, 9, 9)), vanilla) == []
    assert found(block((0, 1, 40, 20), (6, 5, 9, 9)), vanilla) == []
    strayed = block((0, 1, 40, 180), (6, 8, 9, 9))
    assert found(block((0, 1, 160, 180), (7, 8, 9, 9)), strayed) == [], "vanilla had given another answer"
    assert found(block((0, 1, 400, 180), (6, 8, 9, 9)), vanilla, is_on=False), "no cache, no chance"
    if concurrency > 1:
        return
    for ours, theirs in (
        (block((0, 1, 160, 500), (6, 8, 9, 9)), vanilla),
        (block((0, 1, 160, 500), (7, 8, 9, 9)), vanilla),
        (block((0, 1, 160, 20), (7, 8, 9, 9)), vanilla),
        (block((0, 1, 400, 180), (6, 8, 9, 9)), vanilla),
        (block((0, 300, 40, 180), (6, 8, 9, 9)), vanilla),
        (block((0, 300, 40, 180), (7, 8, 9, 9)), strayed),
    ):
        assert len(found(ours, theirs)) == 1


def test_which_arms_may_find_a_longer_prefix_after_an_answer():
    """Whoever drafts, by a page; for EAGLE's family that makes up for what pairs take."""
    algorithms = {"EAGLE": 0, "EAGLE3": 0, "STANDALONE": 1, "NGRAM": 1, None: 1}
    for algorithm, tokens in algorithms.items():
        assert known("a", "prism", receipt(algorithm)).longer_by == tokens
    assert known("a", "vanilla").longer_by == 0
    assert known("a", "ngram", receipt("NGRAM", page_size=16)).longer_by == 16


def test_which_arms_may_find_a_shorter_prefix():
    """SGLang's EAGLE family, by the receipt; without one yet every draft. A page is what they may lack."""
    algorithms = {"EAGLE": 1, "EAGLE3": 1, "STANDALONE": 0, "NGRAM": 0, None: 1}
    for algorithm, tokens in algorithms.items():
        assert known("a", "prism", receipt(algorithm)).shorter_by == tokens
    assert known("a", "prism").shorter_by == 1
    assert known("a", "vanilla").shorter_by == 0
    assert known("a", "eagle", receipt("EAGLE", page_size=16)).shorter_by == 16


def test_gates_on_timing_sampling_and_loops(request_record, cell_record):
    """Steps half as long again, other sampling, outputs that repeat a piece, settings of one arm alone."""
    assert list(timing.unstable_step_time([0.010, 0.015])) == []
    assert list(timing.unstable_step_time([0.010, 0.016])) == ["from 10.0 to 16.0 ms in the blocks"]
    assert list(timing.unstable_step_time([0.010])) == []
    warm, cold = (cell_record(request_record(), sampling={"temperature": value}) for value in (0.7, 0.0))
    assert list(conditions.unequal_sampling([warm], [warm])) == []
    (unequal,) = conditions.unequal_sampling([warm], [cold])
    assert unequal == "sent {'temperature': 0.7}; vanilla {'temperature': 0.0}"
    assert conditions.UNEQUAL_SAMPLING.severity == "invalid"
    assert list(conditions.unequal_sampling([warm], [cell_record(request_record())])) == []
    assert target_outputs.loops([1, 2, 3] * 16)
    assert not target_outputs.loops([1, 2, 3] * 15)
    assert not target_outputs.loops(list(range(60)))
    circles = [request_record(output_ids=(7,) * 60), request_record()]
    assert list(target_outputs.looping_outputs(circles)) == ["1 of 2 outputs end in a loop"]
    assert list(target_outputs.looping_outputs([request_record(output_ids=(7,) * 60, error="lost")])) == []
    assert list(conditions.own_settings({"mem_fraction_static": 0.5})) == ["mem_fraction_static: 0.5"]
    assert conditions.OWN_SETTINGS.severity == "warning"


def test_every_gate_is_explained():
    """A finding's gate says what it looks at, why, and what to do."""
    for gate in GATES.values():
        assert all(text.endswith(".") for text in (gate.looks_at, gate.why, gate.remedy))


def test_acceptance_is_told_by_kind_and_along_the_output(request_record):
    """Categories apart; a round belongs to the stretch in which it began, the prefill's token being token 0."""
    prose = request_record(accepted=(2,), category="prose")
    code = request_record(accepted=(0, 1), category="code")
    found = acceptance.acceptance_by([prose, code, request_record()], lambda request: request.category, 2)
    assert {name: part.acceptance_length for name, part in found.items()} == {"code": 1.5, "prose": 3.0}
    assert found["code"].conditional_acceptance == (0.5, 0.0)
    long = request_record(accepted=(30, 0, 31, 5), output_ids=tuple(range(70)))
    along = acceptance.acceptance_along([long])
    assert [(part.from_token, part.num_rounds) for part in along] == [(0, 1), (32, 2), (64, 1)]
    assert [part.acceptance_length for part in along] == [31.0, 16.5, 6.0]
    assert [acceptance.stretch_of(place) for place in (0, 31, 32, 63, 64, 127, 128)] == [0, 0, 1, 1, 2, 2, 3]


GREEDY = Design(0.0, "float32")
ARMS = (known("vanilla", "vanilla"), known("eagle", "eagle", num_steps=3))


def test_rows_leave_unsealed_cells_out_and_keep_failed_ones(request_record, cell_record):
    """A sealed cell gives numbers, an unsealed one nothing, a failed one an invalid row with its reason."""
    plain = request_record(((10, 1), (50, 3)), None, arm="vanilla")
    fast = request_record(((10, 1), (30, 3)), (2,))
    unsealed = request_record(block=1)
    cells = [cell_record(plain), cell_record(fast)]
    rows = build_rows(ARMS, Held([plain, fast, unsealed], cells), GREEDY)
    assert [row.arm for row in rows] == ["vanilla", "eagle"]
    assert rows[1].num_requests == 1
    assert rows[1].speedup == pytest.approx(50 / 30)
    assert rows[1].acceptance_length == 3.0
    assert rows[1].step_cost_ratio == pytest.approx(20 / (40 / 3))
    assert rows[1].lossless_share is None
    assert rows[1].valid
    failed = build_rows(ARMS, Held([plain], [cells[0], cell_record(fast, error="died")]), GREEDY)
    assert not failed[1].valid
    assert failed[1].reason == "failed cell: 1 of 1 cells: died"
    assert failed[1].output_tokens_per_s is None


def test_the_median_decode_rate_is_tau_over_the_median_gap(request_record):
    """Gaps of 20, 20 and 500 ms, one round each with 2 drafts accepted: 3 tokens in 20 ms; the tail does not count."""
    drafted = request_record(((10, 1), (30, 3), (50, 3), (550, 3)), (2, 2, 2))
    assert median_decode_tokens_per_s([drafted]) == pytest.approx(3 / 0.020)
    plain = request_record(((10, 1), (20, 1), (40, 2), (500, 1)), None)
    assert median_decode_tokens_per_s([plain]) == pytest.approx(1 / 0.010)
    assert median_decode_tokens_per_s([request_record(((10, 1),), ())]) is None
    assert median_decode_tokens_per_s([]) is None


def test_pauses_in_which_other_arms_had_their_turns_take_no_time(request_record):
    """4 tokens in 30 ms, 100 ms of pause, 4 tokens in 30 ms; a failed request's pause is one too."""
    first = request_record(sent_ms=0)
    second = request_record(((140, 1), (160, 3)), sent_ms=130, paused_ns=100 * MS)
    assert output_tokens_per_s([first, second]) == pytest.approx(8 / 0.060)
    failed = request_record((), None, sent_ms=70, paused_ns=40 * MS, error="it broke", finished_ns=70 * MS)
    second = second.model_copy(update={"paused_ns": 60 * MS})
    assert output_tokens_per_s([first, failed, second]) == pytest.approx(8 / 0.060)
    assert output_tokens_per_s([failed, second]) == pytest.approx(4 / 0.030)


def test_acceptance_curves_pool_all_of_an_arms_rounds(request_record):
    """Blocks and load points together; failed requests and other arms are left out."""
    chunks = ((10, 1), (20, 9))
    found = acceptance_curves(
        [
            request_record(chunks, (0, 1), arm="eagle"),
            request_record(chunks, (1, 2), arm="eagle", block=1),
            request_record(chunks, (3,), arm="hass"),
            request_record(chunks, (4,), arm="eagle").model_copy(update={"error": "gone"}),
            request_record(chunks, None, arm="vanilla"),
        ],
        {"eagle": 4, "vanilla": 0},
    )
    assert found == {"eagle": {"w": [3 / 4, 1 / 3, 0.0, 0.0]}}
