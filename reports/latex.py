"""results.tex: the report's tables for a paper, as booktabs floats that pdfLaTeX takes as they are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from draftbench.harness.manifest import Manifest
from draftbench.harness.metrics.overall import overall
from draftbench.harness.metrics.row import Row
from draftbench.reports.acceptance_tables import acceptance_table, overall_acceptance_table
from draftbench.reports.sections import round_table
from draftbench.reports.table import main_headers, main_row, overall_table

CAPTIONS: Mapping[str, str] = {
    "τ": "τ: tokens per verify step, bonus token included",
    "tokens/s": "tokens/s: delivered tokens over wall clock",
    "speedup [95%]": "speedup: throughput ratio to vanilla within a block, geometric mean, with its 95% interval",
    "against vanilla [95%]": "against vanilla: ratio of throughputs, or of latencies in an open loop, and its 95%",
    "TTFT ms": "TTFT: time to first token",
    "TPOT ms": "TPOT: time per output token after it",
    "c": "c: time of a round over time of a vanilla step",
    "lossless": "lossless: share of greedy outputs equal to vanilla's, at a temperature above 0 the p value of a "
    "two-sample test",
    "latency ms": "latency: from a request's arrival to its last token",
    "goodput/s": "goodput: requests a second that meet every limit, and their share",
    "J/token": "J/token: energy a delivered token",
    "net J/token": "net: above an engine at rest",
    "decode speedup [95%]": "decode speedup: of decoding alone, as median steps tell it",
}
"""What a column means, for the caption of a table that has it."""
MARKS = {"†": "†: synthetic prompts", "‡": "‡: a server that ran already"}
_SPECIAL = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "τ": r"$\tau$", "×": r"$\times$", "–": "--", "−": "$-$", "Σ": r"$\Sigma$", "→": r"$\rightarrow$",
    "†": r"$\dagger$", "‡": r"$\ddagger$", "<": r"$<$", ">": r"$>$", "µ": r"$\mu$", "±": r"$\pm$",
}  # fmt: skip
_NUMBER = re.compile(r"(\d+)\.(\d.*)")


def render_latex(rows: Sequence[Row], manifest: Manifest) -> str:
    """The valid rows' tables; a struck-through row has no place in a paper."""
    valid = [row for row in rows if row.valid]
    name = re.sub(r"[^A-Za-z0-9-]+", "-", manifest.suite.name)
    headers, lines = main_headers(valid), [main_row(row, valid) for row in valid]
    marks = [meaning for mark, meaning in MARKS.items() if any(mark in cell for line in lines for cell in line)]
    meanings = [CAPTIONS[header] for header in headers if header in CAPTIONS]
    floats = [
        _float(
            *overall_table(overall(rows, manifest.suite.first_stage)),
            "Speedup over vanilla over all workloads: geometric mean with its 95% interval, and mean τ.",
            f"{name}-overall",
        ),
        _float(headers, lines, "Results. " + "; ".join([*meanings, *marks]) + ".", f"{name}-results"),
        _float(
            *overall_acceptance_table(valid),
            "Conditional acceptance α by draft step, mean over workloads: of the rounds that accepted the step before, "
            "the share that accepted this one.",
            f"{name}-steps",
        ),
        _float(
            *acceptance_table(valid),
            "Conditional acceptance α by draft step and workload.",
            f"{name}-steps-by-workload",
        ),
        _float(*round_table(valid), "Where a round's time goes.", f"{name}-rounds"),
    ]
    return "% needs \\usepackage{booktabs}; wide tables fit a page of two columns as table*\n" + "\n".join(
        text for text in floats if text
    )


def _float(headers: Sequence[str], lines: Sequence[Sequence[str]], caption: str, label: str) -> str:
    """One table; a column of numbers is set so that its points stand below each other."""
    if not lines:
        return ""
    pointed = [any(_NUMBER.fullmatch(line[at]) for line in lines) for at in range(len(headers))]
    columns = "".join("r@{.}l" if has_point else "l" for has_point in pointed)
    head = [
        rf"\multicolumn{{2}}{{l}}{{{_text(header)}}}" if has_point else _text(header)
        for header, has_point in zip(headers, pointed, strict=True)
    ]
    body = [" & ".join(map(_cell, line, pointed)) + r" \\" for line in lines]
    return "\n".join(
        (
            r"\begin{table}", r"\centering", rf"\caption{{{_text(caption)}}}", rf"\label{{tab:{label}}}",
            rf"\begin{{tabular}}{{{columns}}}", r"\toprule", " & ".join(head) + r" \\", r"\midrule", *body,
            r"\bottomrule", r"\end{tabular}", r"\end{table}", "",
        )
    )  # fmt: skip


def _cell(text: str, has_point: bool) -> str:
    if not has_point:
        return _text(text)
    found = _NUMBER.fullmatch(text)
    if found is None:
        return rf"\multicolumn{{2}}{{l}}{{{_text(text)}}}"
    return f"{found[1]} & {_text(found[2])}"


def _text(text: str) -> str:
    """As LaTeX takes it; α3 becomes a symbol with its index."""
    escaped = "".join(_SPECIAL.get(character, character) for character in text)
    escaped = re.sub(r"α(\d+)", r"$\\alpha_{\1}$", escaped)
    return escaped.replace("α", r"$\alpha$")
