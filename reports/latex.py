"""results.tex: the report's tables for a paper, as booktabs floats that pdfLaTeX takes as they are."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tabulate import tabulate

from draftbench.harness.metrics.row import Row
from draftbench.reports.sections import acceptance_table, round_table
from draftbench.reports.table import main_headers, main_row, meanings

_SYMBOLS = {
    "τ": r"$\tau$", "×": r"$\times$", "–": "--", "−": "$-$", "Σ": r"$\Sigma$",
    "†": r"$\dagger$", "‡": r"$\ddagger$",
}  # fmt: skip


def render_latex(rows: Sequence[Row]) -> str:
    """The valid rows' tables; a struck-through row has no place in a paper."""
    valid = [row for row in rows if row.valid]
    floats = [
        _float(main_headers(valid), [main_row(row, valid) for row in valid], meanings(valid)),
        _float(*acceptance_table(valid), "Conditional acceptance by draft step."),
        _float(*round_table(valid), "Where a round's time goes."),
    ]
    return "% needs \\usepackage{booktabs}\n" + "\n".join(text for text in floats if text)


def _float(headers: Sequence[str], lines: Sequence[Sequence[str]], caption: str) -> str:
    if not lines:
        return ""
    table = tabulate(lines, headers, "latex_booktabs", disable_numparse=True)
    caption = caption.replace("%", "\\%")
    return _symbols(f"\\begin{{table}}\n\\caption{{{caption}}}\n{table}\n\\end{{table}}\n")


def _symbols(text: str) -> str:
    text = re.sub(r"α(\d+)", r"$\\alpha_{\1}$", text)
    return text.translate({ord(symbol): command for symbol, command in _SYMBOLS.items()})
