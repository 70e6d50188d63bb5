"""Whether a draft changed what the target gets right: task scores, and McNemar's test on the same prompts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from draftbench.harness.metrics.blocks import PromptKey
from draftbench.harness.records import CellKey, ScoreRecord


@dataclass(frozen=True)
class McNemar:
    """Prompts that only one of two arms gets right, and how probable so uneven a split is if neither is better."""

    num_only_arm: int
    num_only_baseline: int
    p_value: float


@dataclass(frozen=True)
class ScoredAnswers:
    """Scored answers, the share of right ones, and the test against the baseline, where there is another arm for it."""

    num_answers: int
    accuracy: float
    against_baseline: McNemar | None


def outcomes(scores: Iterable[ScoreRecord], arm: str, workload: str, load: str) -> dict[PromptKey, bool]:
    """An arm's score on every prompt, from the first launch and block that has one: repeats are no new evidence."""

    def order(score: ScoreRecord) -> tuple[int, int]:
        return score.cell.launch, score.cell.block

    def wanted(cell: CellKey) -> bool:
        return (cell.arm, cell.workload, cell.load) == (arm, workload, load)

    found: dict[PromptKey, bool] = {}
    for score in sorted((s for s in scores if wanted(s.cell)), key=order):
        found.setdefault((score.prompt_id, score.turn), score.correct)
    return found


def mcnemar(arm: Mapping[PromptKey, bool], baseline: Mapping[PromptKey, bool]) -> McNemar | None:
    """McNemar's exact test on the prompts that both answered; None if there is none.

    Source: McNemar 1947; exact binomial form, two-sided. Without a prompt on which they differ p is 1.
    """
    from scipy.stats import binomtest

    shared = set(arm) & set(baseline)
    if not shared:
        return None
    only_arm = sum(arm[key] and not baseline[key] for key in shared)
    only_baseline = sum(baseline[key] and not arm[key] for key in shared)
    differ = only_arm + only_baseline
    p_value = float(binomtest(only_arm, differ, 0.5).pvalue) if differ else 1.0
    return McNemar(only_arm, only_baseline, p_value)


def answers_of(cell: CellKey, baseline: str | None, answers: Iterable[ScoreRecord]) -> ScoredAnswers | None:
    """An arm's answers at a point; None where nothing was scored."""
    ours = outcomes(answers, cell.arm, cell.workload, cell.load)
    if not ours:
        return None
    theirs = {} if baseline is None else outcomes(answers, baseline, cell.workload, cell.load)
    test = mcnemar(ours, theirs) if baseline != cell.arm else None
    return ScoredAnswers(len(ours), sum(ours.values()) / len(ours), test)
