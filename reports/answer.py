"""The answer on top of a report: which arm is fastest, by how much and how sure that is, over all workloads first.

It claims what an interval shows: where one holds 1, no difference is shown, and nobody is called the fastest.
"""

from __future__ import annotations

from collections.abc import Sequence

from draftbench.harness.manifest import Manifest
from draftbench.harness.metrics.overall import Overall, is_clear, leaders, overall
from draftbench.harness.metrics.row import Row, by_device
from draftbench.harness.records import ENDPOINT
from draftbench.reports.table import (
    arm_text,
    best_rows,
    is_supported,
    latency_text,
    place,
    ratio_text,
    share_text,
    speedup_text,
)

SHOWN_EXCEPTIONS = 3
"""Workloads that are named because another arm is faster there than over all."""


def answer(rows: Sequence[Row], manifest: Manifest) -> str:
    """In a few sentences; and what was invalid."""
    sentences: list[str] = []
    for device, own in by_device(rows).items():
        sentences += [] if device is None else [f"On {device}:"]
        sentences += _of_device(own, manifest)
    invalid = [row for row in rows if not row.valid]
    if invalid:
        sentences.append(f"{len(invalid)} of {len(rows)} rows are invalid and take part in no comparison.")
    if not manifest.finished:
        sentences.append("The run was not finished; rows hold the cells that were.")
    return " ".join(sentences) if sentences else "Nothing was measured."


def _of_device(rows: Sequence[Row], manifest: Manifest) -> list[str]:
    """What rows of one kind of device say."""
    whole = overall(rows, manifest.suite.first_stage)
    sentences: list[str] = []
    for load in dict.fromkeys(row.load for row in rows):
        here = [row for row in rows if row.load == load]
        arms = [each for each in whole if each.load == load]
        if arms and any(each.is_baseline for each in arms):
            sentences += _over_workloads(arms, here)
        else:
            sentences += [_at_point(rows[index], here) for index in sorted(best_rows(rows)) if rows[index].load == load]
    return sentences


def _over_workloads(arms: Sequence[Overall], rows: Sequence[Row]) -> list[str]:
    """What an arm's workloads say together, and where a single one says something else."""
    where = f"Over {arms[0].num_workloads} workloads at concurrency {arms[0].concurrency}"
    lead = leaders(arms)
    drafts = [each for each in lead if not each.is_baseline]
    if not lead:
        return [f"{where} no arm has a valid row on each."]
    if not any(each.is_whole and not each.is_baseline for each in arms):
        return [f"{where} no draft has a valid row on each beside vanilla."]
    first = lead[0]
    if not drafts:
        said = "no draft is faster than vanilla"
    elif first.is_baseline or not is_clear(first.speedup):
        names = ", ".join(each.arm for each in drafts)
        said = f"no difference is shown between vanilla and {names}"
        said += f" ({drafts[0].arm}: {ratio_text(drafts[0].speedup)}, {_scope(drafts[0])})"
    else:
        said = _claim(first.arm, [each.arm for each in drafts[1:]], ratio_text(first.speedup), _scope(first), "")
    lines = [f"{where} {said}."]
    if drafts and (exceptions := _exceptions(first, rows)):
        more = len(exceptions) - SHOWN_EXCEPTIONS
        shown = "; ".join(exceptions[:SHOWN_EXCEPTIONS])
        lines.append(f"{shown[0].upper()}{shown[1:]}" + (f"; {more} more differ." if more > 0 else "."))
    return lines


def _scope(found: Overall) -> str:
    return "" if found.speedup is None else found.speedup.scope


def _exceptions(first: Overall, rows: Sequence[Row]) -> list[str]:
    """Workloads on which another arm is shown to be faster than the one that is fastest over all."""
    best = [rows[index] for index in sorted(best_rows(rows))]
    held = [(row, row.against.get(first.arm)) for row in best if row.arm != first.arm]
    return [f"on {row.workload} {found.verdict}" for row, found in held if found is not None and found.is_clear]


def _at_point(row: Row, here: Sequence[Row]) -> str:
    """What the best row of a single workload says."""
    rivals = [other for other in here if other.workload == row.workload]
    return f"On {place(row)} {_at(row, rivals)}{_within(row, rivals)}."


def _at(row: Row, rivals: Sequence[Row]) -> str:
    is_open = row.concurrency is None
    baseline = next((other for other in rivals if other.is_baseline), None)
    close = [other for other, found in row.against.items() if not found.is_clear]
    if row.is_baseline or row.architecture == "vanilla":
        if not any(other.valid and other.architecture != "vanilla" for other in rivals):
            what = "another arm" if any(other.architecture == ENDPOINT for other in rivals) else "a draft"
            return f"there is no valid row of {what}"
        if close:
            return f"no difference is shown between vanilla and {', '.join(close)}"
        no = "no other arm" if any(other.architecture == ENDPOINT for other in rivals) else "no draft"
        return f"{no} {'answers sooner' if is_open else 'is faster'} than vanilla"
    what = "lowest latency" if is_open else "highest throughput"
    if (row.latency_ratio if is_open else row.speedup) is None or baseline is None or not baseline.valid:
        alone = "there is no valid vanilla row to compare with"
        if is_supported(row):
            return f"**{arm_text(row)}** has the {what}; {alone}"
        names = ", ".join([arm_text(row), *close])
        return f"{alone}; no difference is shown between {names}" if close else f"{alone} ({names})"
    scope = (row.speed.latency_scope if is_open else row.speed.speedup_scope) or ""
    figure = latency_text(row).removeprefix("latency ") if is_open else speedup_text(row)
    close = [name for name in close if name != baseline.arm]
    if _is_faster(row):
        return _claim(arm_text(row), close, figure, scope, "latency" if is_open else "")
    names = ", ".join(dict.fromkeys([arm_text(row), *close]))
    return f"no difference is shown between vanilla and {names} ({arm_text(row)}: {figure}, {scope})"


def _is_faster(row: Row) -> bool:
    """Whether the row is shown to be faster than the baseline."""
    if row.concurrency is None:
        return row.latency_ratio_high is not None and row.latency_ratio_high < 1
    return row.speedup_low is not None and row.speedup_low > 1


def _claim(arm: str, close: Sequence[str], figure: str, scope: str, latency: str) -> str:
    """What may be said of the fastest arm, which is shown to be faster than vanilla."""
    if close:
        what = f"answers sooner than vanilla, {figure} its latency" if latency else f"is faster than vanilla, {figure}"
        return f"{arm} {what} ({scope}); no difference shown to {', '.join(close)}"
    if latency:
        return f"**{arm}** has the lowest latency, {figure} vanilla's ({scope})"
    return f"**{arm}** has the highest throughput, {figure} vanilla ({scope})"


def _within(row: Row, rivals: Sequence[Row]) -> str:
    """How many requests met the suite's limits."""
    if row.within_limits is None or row.architecture == "vanilla":
        return ""
    vanilla = next((other for other in rivals if other.is_baseline and other.valid), None)
    theirs = "" if vanilla is None else f", {share_text(vanilla.within_limits)} with vanilla"
    return f"; {share_text(row.within_limits)} of its requests are within the limits{theirs}"
