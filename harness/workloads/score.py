"""Whether an answer is right, where the set says what is right: pure functions of texts, and programs if asked for."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

import regex

from draftbench.harness.workloads.prompts import Answer, Choice, Exact, Formula, Number, Pattern, Program
from draftbench.harness.workloads.sandbox import run_isolated

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?|-?\.\d+")
LONGEST = 100_000
"""Characters of an answer that an expression is looked for in."""
LONGEST_SEARCH_S = 2.0
"""An expression such as (a+)+$ can take years on one answer."""
_LETTER = r"[(*\[]*([A-Z])(?![\w'])"
_CHOICES = (
    re.compile(rf"(?i:answer\s+is|answer\s*:|answer:\**)\s*{_LETTER}"),
    re.compile(r"\\boxed\{\s*(?:\\text\{)?\(?([A-Z])\)?\}?\s*\}"),
    re.compile(r"^\s*[(*\[]*([A-Z])[)*\].:]*\s*$", re.MULTILINE),
    re.compile(r"(?<![\w'])([B-HJ-Z](?![\w'])|[AI](?=[).:\]*]|\s*$))"),
)
_FENCED = re.compile(r"```[ \t]*(?:python|py|Python)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)


def score(text: str, answer: Answer | None, run_programs: bool = False) -> bool | None:
    """Whether an answer's text is right; None where there is nothing to hold it against or its program is not run."""
    match answer:
        case Exact():
            return text.strip() == answer.text.strip()
        case Number():
            return same_number(text, answer.value)
        case Formula():
            return same_formula(text, answer.latex)
        case Choice():
            return chosen_letter(text) == answer.letter
        case Pattern():
            return matches(text[:LONGEST], answer.expression)
        case Program() if run_programs:
            return run_isolated(program(text, answer), answer.tests, answer.prompt, answer.entry_point)
    return None


def matches(text: str, expression: str) -> bool | None:
    """Whether a text holds a match; None where the search would not end."""
    try:
        return regex.search(expression, text, timeout=LONGEST_SEARCH_S) is not None
    except TimeoutError:
        return None


def same_number(text: str, value: str) -> bool:
    """Whether a text's final number is this one: what follows ####, else its last number."""
    found = final_number(text)
    try:
        return found is not None and Decimal(found) == Decimal(value.replace(",", ""))
    except InvalidOperation:
        return False


def final_number(text: str) -> str | None:
    """The last number of what follows ####, or of the whole text; without commas."""
    found = _NUMBER.findall(text.rpartition("####")[2])
    return found[-1].replace(",", "") if found else None


def chosen_letter(text: str) -> str | None:
    """Which letter a text chooses: after "answer is" or "answer:", in \\boxed{}, alone on a line, else the last
    that stands for itself; A and I only with a mark behind them, as they are words.

    Source of the order: the evaluation of MMLU-Pro (Wang et al. 2024): "answer is", "answer:", then the last letter.
    """
    for pattern in _CHOICES:
        found = pattern.findall(text)
        if found:
            return str(found[-1])
    return None


def same_formula(text: str, latex: str) -> bool:
    """Whether a text's final formula, boxed or not, is mathematically equal to this LaTeX."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    reference = parse(f"\\boxed{{{latex}}}", [LatexExtractionConfig()])
    return bool(verify(reference, parse(text, [LatexExtractionConfig(), ExprExtractionConfig()])))


def program(text: str, answer: Program) -> str:
    """The answer's code: the fenced block with the function, else the last one, else the whole text."""
    blocks = _FENCED.findall(text)
    defining = [block for block in blocks if answer.entry_point and f"def {answer.entry_point}" in block]
    code = (defining or blocks[-1:] or [text])[0]
    # A whole function replaces the prompt's, which is only its docstring; it may need the prompt's imports.
    return f"{answer.prompt}{code}\n"
