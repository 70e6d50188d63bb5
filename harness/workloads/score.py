"""Whether an answer is right, where the set says what is right: pure functions of texts, and programs if asked for."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from draftbench.harness.workloads.prompts import Answer, Exact, Formula, Number, Program
from draftbench.harness.workloads.sandbox import run_isolated

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?|-?\.\d+")
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
        case Program() if run_programs:
            return run_isolated(program(text, answer), answer.tests, answer.prompt, answer.entry_point)
    return None


def same_number(text: str, value: str) -> bool:
    """Whether a text's final number is this one: what follows ####, else its last number."""
    found = _NUMBER.findall(text.rpartition("####")[2])
    if not found:
        return False
    try:
        return Decimal(found[-1].replace(",", "")) == Decimal(value.replace(",", ""))
    except InvalidOperation:
        return False


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
