"""What a study of PRISM and its controls decides: pairs of arms, beside what the paper's artifact has for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tabulate import tabulate

from draftbench.harness.metrics.trained import Trained, ratio
from draftbench.harness.units import MISSING


@dataclass(frozen=True)
class Question:
    """Two arms on equal tokens.

    Attributes:
        artifact: their mean acceptance lengths over the artifact's six sets (LLaMA-3-8B, 800K samples, T=0, 6 steps,
            10 branches, 60 verified tokens); None where it has no such pair.
    """

    asks: str
    above: str
    below: str
    artifact: tuple[float, float] | None = None


QUESTIONS = (
    Question("Does PRISM accept more than HASS, trained as long?", "prism", "hass"),
    Question("And than one module, trained as PRISM is?", "prism", "prism-1"),
    Question("Does one module, trained as PRISM is, accept more than HASS?", "prism-1", "hass"),
    Question("Does PRISM that keeps HASS's loss on hidden states?", "prism-features", "hass"),
    Question("And PRISM than HASS trained for its first phase alone?", "prism", "hass-half", (5.46, 5.06)),
    Question("What do three layers add to PRISM?", "prism-layers", "prism", (5.68, 5.46)),
    Question("What do three layers add to HASS?", "hass-layers", "hass"),
    Question("What do three layers add to EAGLE?", "eagle-layers", "eagle"),
    Question("Does PRISM accept more than HASS, both on three layers?", "prism-layers", "hass-layers"),
    Question("PRISM on three layers against EAGLE-3?", "prism-layers", "eagle3", (5.68, 5.45)),
    Question("PRISM against two stacked layers?", "prism", "stacked-2", (5.46, 5.14)),
    Question("PRISM against three stacked layers?", "prism", "stacked-3", (5.46, 5.36)),
    Question("Two modules against three?", "prism", "prism-3", (5.77, 5.68)),
    Question("Gradients through the passes, or stopped?", "prism", "prism-detached"),
    Question("The loss on hidden states left out, or kept?", "prism", "prism-features"),
    Question("Our way of training it, or the artifact's?", "prism", "prism-artifact"),
    Question("Trained as the artifact does, more than HASS for as long?", "prism-artifact", "hass-artifact"),
)
"""Source of the artifact's: Akemiiii/prism-mlsys-ae at 3b00014, evaluation/prep_figure1456/draw. Its HASS had 40 epochs
where its PRISM had those and 10 more; its pair of modules is with three layers."""
HEADERS = ("question", "arms", "ratio of acceptance lengths [95%]", "seeds", "answer", "the artifact's ratio")
MEANING = (
    "Ratio above 1: the first of the two arms accepts more. The artifact's are ratios of its mean acceptance lengths "
    "over six sets on LLaMA-3-8B (6 steps, 10 branches, 60 verified tokens, T=0), without intervals; its HASS had 40 "
    "epochs, its PRISM 10 more, and of its figures that of two and three modules is on three layers."
)


def answers(drafts: Mapping[str, Sequence[Trained]]) -> str:
    """A line for each question whose two arms were trained; nothing where there is none."""
    rows = []
    for question in QUESTIONS:
        if question.above not in drafts or question.below not in drafts:
            continue
        above, below = drafts[question.above], drafts[question.below]
        found, low, high = ratio(above, below)
        said = "more" if low > 1 else "less" if high < 1 else "not shown"
        theirs = MISSING if question.artifact is None else f"{question.artifact[0] / question.artifact[1]:.3f}"
        rows.append(
            (
                question.asks,
                f"{question.above} / {question.below}",
                f"{found:.3f} [{low:.3f}, {high:.3f}]",
                f"{len(above)}, {len(below)}",
                said,
                theirs,
            )
        )
    return f"{tabulate(rows, HEADERS, 'github')}\n\n{MEANING}" if rows else ""
