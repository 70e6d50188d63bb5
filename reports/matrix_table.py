"""The table over all suites of a matrix: what each run says of its arms, a point of the matrix after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tabulate import tabulate

from draftbench.harness.errors import RecordError
from draftbench.harness.manifest import MANIFEST
from draftbench.harness.metrics.ratios import Ratio
from draftbench.harness.safe_files import write_whole
from draftbench.harness.units import MISSING, fixed
from draftbench.reports.answer import answer
from draftbench.reports.files import REPORT, Run, read_run
from draftbench.reports.foreign import markdown_text
from draftbench.reports.site import Shown, entries_of
from draftbench.reports.table import Table, numeric_columns, ratio_text

MATRIX_REPORT = "matrix.md"
HEADERS = ("point", "target", "arm", "load", "workloads", "τ", "c", "τ / c", "speedup [95%]", "interval", "row")
MEANING = (
    "A point is a suite and a run of its own, with its own vanilla: speedups of two points are over two baselines. τ, "
    "c and the speedup are over all workloads of the point (means, geometric mean); each run's report has the rest."
)


def matrix_table(runs: Mapping[str, Run]) -> Table:
    """Every arm of every point, over all of its workloads.

    Args:
        runs: by the point's name.
    """
    lines = []
    found = {point: [each for each in entries_of(Shown(point, run, None)) if each.whole] for point, run in runs.items()}
    has_devices = len({entry.device for entries in found.values() for entry in entries}) > 1
    for point, entries in found.items():
        for entry in entries:
            ratio = None if entry.speedup is None else Ratio(entry.speedup, entry.low, entry.high, entry.scope)
            state = entry.out or ("valid, simulated acceptance" if entry.is_simulated else "valid")
            numbers = [fixed(number, 2) for number in (entry.acceptance_length, entry.step_cost_ratio, entry.gain)]
            target = f"{entry.target}, {entry.device}" if has_devices else entry.target
            where = [point, target, entry.arm, entry.load, entry.workload]
            lines.append([*where, *numbers, ratio_text(ratio), entry.scope or MISSING, state])
    return list(HEADERS), lines


def write_matrix(folder: Path) -> tuple[Path, Table]:
    """Read every run of a matrix's folder and write the table over all.

    Raises:
        RecordError: there is none.
    """
    found = {path.parent.name: read_run(path.parent) for path in sorted(folder.glob(f"[!.]*/{MANIFEST}"))}
    if not found:
        raise RecordError(f"{folder} holds no run (no {MANIFEST}), nor a folder that does; give one that a run wrote.")
    runs = dict(sorted(found.items(), key=lambda item: item[1].manifest.started_at))
    table = matrix_table(runs)
    write_whole(folder / MATRIX_REPORT, _markdown(folder.resolve().name, runs, *table))
    return folder / MATRIX_REPORT, table


def _markdown(title: str, runs: Mapping[str, Run], headers: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    safe = [[markdown_text(cell) for cell in line] for line in lines]
    align = ["right" if numeric else "left" for numeric in numeric_columns(headers, lines)]
    said = [
        f"- [{point}]({point}/{REPORT}): {markdown_text(answer(run.rows, run.manifest).replace('**', ''))}"
        for point, run in runs.items()
    ]
    table = tabulate(safe, headers, "github", colalign=align, disable_numparse=True)
    return "\n".join([f"# {markdown_text(title)}", "", *said, "", table, "", MEANING, ""])
