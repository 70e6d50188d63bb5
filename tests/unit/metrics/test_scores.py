"""Task scores of two arms on the same prompts, and the gate on the engine's prompt tokens."""

from __future__ import annotations

import pytest

from draftbench.harness.metrics.gates.conditions import PROMPT_TOKENS, other_prompt_tokens
from draftbench.harness.metrics.scores import answers_of, mcnemar, outcomes
from draftbench.harness.records import CellKey, ScoreRecord


def scored(correct: bool, prompt_id: str, block: int = 0, arm: str = "eagle") -> ScoreRecord:
    cell = CellKey(launch=0, block=block, arm=arm, workload="w", concurrency=1)
    return ScoreRecord(cell=cell, prompt_id=prompt_id, turn=0, correct=correct)


def test_repeats_of_a_prompt_count_once():
    """The first block that has a score decides, in whatever order the records come."""
    scores = [scored(False, "a", 1), scored(True, "a", 0), scored(True, "b", 1), scored(True, "c", arm="other")]
    assert outcomes(scores, "eagle", "w", "c=1") == {("a", 0): True, ("b", 0): True}
    found = answers_of(scores[0].cell, None, scores)
    assert found is not None
    assert (found.num_answers, found.accuracy, found.against_baseline) == (2, 1, None)
    assert answers_of(scores[0].cell, None, []) is None


def test_mcnemar_counts_only_prompts_on_which_the_arms_differ():
    """1 to 5 of six: p = 2 (C(6,0) + C(6,1)) / 2^6 = 0.21875."""
    arm = {(str(n), 0): n == 0 or n > 5 for n in range(9)}
    baseline = {(str(n), 0): n > 0 for n in range(9)} | {("only here", 0): True}
    result = mcnemar(arm, baseline)
    assert result is not None
    assert (result.num_only_arm, result.num_only_baseline) == (1, 5)
    assert result.p_value == pytest.approx(0.21875)


def test_mcnemar_without_a_difference_or_without_prompts():
    """Equal answers give p = 1; no shared prompt gives nothing."""
    same = mcnemar({("a", 0): True}, {("a", 0): True})
    assert same is not None
    assert same.p_value == 1
    assert mcnemar({("a", 0): True}, {("b", 0): True}) is None


def test_another_count_of_prompt_tokens_makes_a_row_invalid(request_record):
    """Equal counts and counts that the engine did not give pass."""
    fine = [request_record(engine_prompt_tokens=5), request_record(engine_prompt_tokens=None)]
    assert not list(other_prompt_tokens(fine))
    (evidence,) = other_prompt_tokens([*fine, request_record(engine_prompt_tokens=6)])
    assert PROMPT_TOKENS.severity == "invalid"
    assert "1 requests, the first: p was sent with 5 tokens, the engine saw 6" in evidence
