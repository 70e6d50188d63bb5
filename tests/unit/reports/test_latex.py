"""results.tex: what a paper takes: captions that fit, labels, numbers at their points, and TeX that compiles."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from draftbench import load_run
from draftbench.harness.metrics.overall import by_step
from draftbench.reports.latex import CAPTIONS, render_latex
from draftbench.reports.plots import draw_figures
from draftbench.reports.table import main_headers

PUBLISHED = sorted(Path("reports/published").glob("*/results.tex"))
DOCUMENT = r"""\documentclass{article}
\usepackage[margin=1cm,landscape,paperwidth=60cm]{geometry}
\usepackage{booktabs}
\begin{document}
See Table~\ref{tab:LABEL}.
BODY
\end{document}
"""


def rendered(name: str) -> str:
    run = load_run(f"reports/published/{name}")
    return render_latex(run.rows, run.manifest)


def test_captions_say_what_is_shown_and_no_more() -> None:
    """Every column that needs a word has one; joules are explained where there are some."""
    text = rendered("zoo-cpu")
    results = text[text.index("Results.") : text.index("tab:zoo-results")]
    assert r"$\tau$: tokens per verify step" in results
    assert "lossless: share of greedy outputs" in results
    assert r"$\dagger$: synthetic prompts" in results
    assert "J/token" not in text
    run = load_run("reports/published/zoo-cpu")
    with_joules = [replace(row, joules_per_token=0.5, net_joules_per_token=0.25) for row in run.rows]
    assert "J/token: energy a delivered token; net: above an engine at rest" in render_latex(with_joules, run.manifest)
    assert all(header in CAPTIONS or header in ("arm", "workload", "conc.") for header in main_headers(with_joules))


def test_tables_have_labels_of_their_own() -> None:
    """By the suite's name, so that two runs can stand in one paper."""
    labels = re.findall(r"\\label\{tab:([^}]*)\}", rendered("zoo-cpu"))
    assert labels == ["zoo-overall", "zoo-results", "zoo-steps", "zoo-steps-by-workload", "zoo-rounds"]
    assert "quickstart-steps" in rendered("quickstart-cpu")


def test_numbers_stand_at_their_points() -> None:
    """A column of them is set in two halves; words span both."""
    text = rendered("zoo-cpu")
    overall = text[text.index("tab:zoo-overall") : text.index(r"\end{table}")]
    assert r"\begin{tabular}{lllr@{.}lr@{.}ll}" in overall
    assert re.search(
        r"^prism & 1 & 5 & 5 & 22 & 1 & 95x \[1\.71, 2\.23\] & over 3 launches \\\\$", overall, re.MULTILINE
    )
    assert r"\multicolumn{2}{l}{baseline}" in overall
    assert r"\multicolumn{2}{l}{--}" in overall


def test_acceptance_by_step_is_shown_over_all_workloads() -> None:
    """The mean of each workload's, as a table and as a figure: an arm a line."""
    run = load_run("reports/published/zoo-cpu")
    prism = next(each for each in by_step(run.rows) if each.row.arm == "prism")
    own = [row.acceptance.conditional_acceptance for row in run.rows if row.arm == "prism" and row.valid]
    firsts = [curve[0] for curve in own if curve[0] is not None]
    assert prism.num_workloads == len(own) == 5
    assert prism.alphas[0] == pytest.approx(sum(firsts) / 5)
    (plot,) = [plot for plot in draw_figures(run.rows) if plot.name == "acceptance-all"]
    assert "on all workloads, c=1, a line for each arm" in plot.caption
    assert by_step([row for row in run.rows if row.workload == "code"]) == ()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs texlive-latex-recommended")
@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.parent.name)
def test_it_compiles(path: Path, tmp_path: Path) -> None:
    """Without an error, an undefined reference or a character that TeX does not know."""
    body = path.read_text()
    label = re.search(r"\\label\{tab:([^}]*)\}", body)
    assert label is not None
    (tmp_path / "paper.tex").write_text(DOCUMENT.replace("LABEL", label[1]).replace("BODY", body))
    for _ in range(2):
        done = subprocess.run(
            ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "paper.tex"],
            cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:]
    log = (tmp_path / "paper.log").read_text(errors="replace")
    assert "undefined" not in log
    assert "Missing character" not in log
    assert (tmp_path / "paper.pdf").stat().st_size > 10_000
