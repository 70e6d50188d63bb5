"""The tables of a report as headers and cells of text; tabulate and rich only lay them out."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from draftbench.harness.metrics.gates.timing import UNSTABLE_STEP_TIME
from draftbench.harness.metrics.overall import Overall
from draftbench.harness.metrics.ratios import Ratio, too_few
from draftbench.harness.metrics.row import Row
from draftbench.harness.records import ENDPOINT
from draftbench.harness.units import MISSING, fixed

Table = tuple[list[str], list[list[str]]]
"""Headers, and lines of cells."""
SYNTHETIC_MARK = " †"
MAIN_HEADERS = ("arm", "workload", "conc.", "τ", "tokens/s", "speedup [95%]", "TTFT ms", "TPOT ms", "c", "lossless")
LATENCY_HEADERS = ("latency ms",)
LIMIT_HEADERS = ("goodput/s",)
DEVICE_HEADERS = ("device",)
ENERGY_HEADERS = ("J/token", "net J/token")
DECODE_HEADERS = ("decode speedup [95%]",)
_NUMERIC = re.compile(r"[-−]?\d[\d.,:%x/s ]*(by \d+|of [\d.,]+)?( ?\[[\d., ]+\]|, too few \w+)?")
_NO_NUMBER = {MISSING, "", "baseline"}
"""Cells that a column of numbers may have besides."""
COLUMN_MEANINGS = (
    "τ: tokens per verify step, bonus token included, 1 + Σ accepted / steps; tokens/s: delivered tokens over wall "
    "clock; speedup: throughput ratio to vanilla within a block, geometric mean; TTFT: time to first token; TPOT: "
    "time per output token after it; c: time of a round over time of a vanilla step, break-even is τ = c; lossless: "
    "share of greedy outputs equal to vanilla's, token for token; at a temperature above 0 the p value of the tests "
    "of sampled continuations against vanilla's; J/token: energy a delivered token, net: above an engine at rest; "
    "†: synthetic prompts."
)
LOAD_MEANING = (
    "Load: requests under way at once, or, as 4/s, arrivals a second whatever is still running (by 8: eight together). "
    "In such an open loop an arm that keeps up delivers what is asked for, so throughputs are no speedups: arms are "
    "compared by latency, the mean time from a request's arrival to its last token, and its ratio to vanilla's within "
    "a block: below 1 is sooner."
)
ENDPOINT_MEANING = (
    "‡: an endpoint, a server that ran already and is measured as it is: its settings, its warmth and the spread "
    "between its starts are not controlled, and what it does not tell is –."
)
DECODE_MEANING = (
    "Decode speedup: τ times vanilla's median step over the arm's median round, prefill left out; shown because step "
    "times were unstable here, and long tails, as other programs make them, hardly move it."
)
LIMIT_MEANING = "Goodput: requests a second that meet every limit of the suite, and their share of all requests."


def numeric_columns(headers: Sequence[str], lines: Sequence[Sequence[str]]) -> list[bool]:
    """Which columns hold numbers, and so are set flush right, where equal decimals stand below each other."""
    return [_is_numeric([line[at] for line in lines]) for at in range(len(headers))]


def _is_numeric(cells: Sequence[str]) -> bool:
    found = [cell.strip("*~") for cell in cells if cell.strip("*~") not in _NO_NUMBER]
    return bool(found) and all(map(_NUMERIC.fullmatch, found))


def main_headers(rows: Sequence[Row]) -> list[str]:
    """The main table's columns; latency, goodput and energy only where a row has them."""
    renamed = {"conc.": load_heading(rows)} | ({"speedup [95%]": "against vanilla [95%]"} if _has_open(rows) else {})
    headers = [renamed.get(header, header) for header in MAIN_HEADERS]
    extra = (
        (_has_open, LATENCY_HEADERS),
        (_has_limits, LIMIT_HEADERS),
        (_has_energy, ENERGY_HEADERS),
        (_is_unsteady, DECODE_HEADERS),
    )
    device = DEVICE_HEADERS if _has_device(rows) else ()
    return [headers[0], *device, *headers[1:], *(header for has, found in extra if has(rows) for header in found)]


def meanings(rows: Sequence[Row]) -> str:
    """What the main table's columns mean, as far as it has them."""
    extra = (
        (_has_open, LOAD_MEANING),
        (_has_limits, LIMIT_MEANING),
        (_has_endpoint, ENDPOINT_MEANING),
        (_is_unsteady, DECODE_MEANING),
    )
    return " ".join([COLUMN_MEANINGS, *(text for has, text in extra if has(rows))])


def load_heading(rows: Sequence[Row]) -> str:
    """What the column of load points is called."""
    return "load" if _has_open(rows) else "conc."


def load_text(row: Row) -> str:
    """`8` requests at once, `4/s` in an open loop."""
    return row.load if row.concurrency is None else str(row.concurrency)


def place(row: Row, joint: str = " at ") -> str:
    """`gsm8k at concurrency 8`, `gsm8k at 4/s`."""
    load = row.load if row.concurrency is None else f"concurrency {row.concurrency}"
    return row.workload + joint + load + _on(row)


def _has_open(rows: Sequence[Row]) -> bool:
    return any(row.concurrency is None for row in rows)


def _has_endpoint(rows: Sequence[Row]) -> bool:
    return any(row.architecture == ENDPOINT for row in rows)


def arm_text(row: Row) -> str:
    """The arm's name, marked where it is an endpoint."""
    return row.arm + (" ‡" if row.architecture == ENDPOINT else "")


def _has_device(rows: Sequence[Row]) -> bool:
    return any(row.device is not None for row in rows)


def _has_limits(rows: Sequence[Row]) -> bool:
    return any(row.within_limits is not None for row in rows)


def _has_energy(rows: Sequence[Row]) -> bool:
    return any(row.joules_per_token is not None for row in rows)


def _is_unsteady(rows: Sequence[Row]) -> bool:
    return any(found.gate is UNSTABLE_STEP_TIME for row in rows for found in row.findings)


def main_row(row: Row, rows: Sequence[Row]) -> list[str]:
    """One line of the main table of all rows."""
    latency = [milliseconds(row.latency_s, 0)] if _has_open(rows) else []
    good = [f"{fixed(row.goodput_per_s, 2)}, {share_text(row.within_limits)}"] if _has_limits(rows) else []
    joules = [fixed(row.joules_per_token, 3), fixed(row.net_joules_per_token, 3)] if _has_energy(rows) else []
    decode = [decode_text(row)] if _is_unsteady(rows) else []
    device = [row.device or MISSING] if _has_device(rows) else []
    return [
        arm_text(row),
        *device,
        row.workload + (SYNTHETIC_MARK if row.synthetic else ""),
        load_text(row),
        fixed(row.acceptance_length, 2),
        fixed(row.output_tokens_per_s, 1),
        speedup_text(row) if row.concurrency is not None else latency_text(row),
        milliseconds(row.ttft_s, 1),
        milliseconds(row.tpot_s, 2),
        fixed(row.step_cost_ratio, 2),
        lossless_text(row),
        *latency,
        *good,
        *joules,
        *decode,
    ]


def milliseconds(value_s: float | None, digits: int) -> str:
    """Seconds as milliseconds."""
    return fixed(None if value_s is None else 1000 * value_s, digits)


def speedup_text(row: Row) -> str:
    """`1.62x [1.55, 1.70]`; the baseline has none."""
    if row.speedup is None:
        return MISSING
    if row.is_baseline:
        return "baseline"
    return f"{row.speedup:.2f}x" + interval_text(row.speedup_low, row.speedup_high, row.speed.speedup_scope or "")


def interval_text(low: float | None, high: float | None, scope: str = "", digits: int = 2) -> str:
    """What follows a ratio: ` [1.55, 1.70]`, nothing, or in place of an interval that says nothing why it does not."""
    if low is None or high is None:
        return ""
    lack = too_few(low, high, scope)
    return f" [{low:.{digits}f}, {high:.{digits}f}]" if lack is None else f", {lack}"


def decode_text(row: Row) -> str:
    """As `speedup_text`, of decoding as median steps tell it."""
    found = row.speed.decode_speedup
    if found is None:
        return "baseline" if row.is_baseline else MISSING
    return ratio_text(found)


def latency_text(row: Row) -> str:
    """`latency 0.62x [0.58, 0.66]` of vanilla's, in an open loop."""
    if row.latency_ratio is None:
        return MISSING
    if row.is_baseline:
        return "baseline"
    interval = interval_text(row.latency_ratio_low, row.latency_ratio_high, row.speed.latency_scope or "")
    return f"latency {row.latency_ratio:.2f}x{interval}"


def workload_text(row: Row) -> str:
    """The workload's name, marked where its prompts are synthetic, and where the run's devices are of several kinds."""
    return row.workload + (SYNTHETIC_MARK if row.synthetic else "") + _on(row)


def _on(row: Row) -> str:
    return "" if row.device is None else f" on {row.device}"


def lossless_text(row: Row) -> str:
    """Greedy: the share of outputs that are vanilla's; sampled: the p value of the two-sample test."""
    if row.is_simulated:
        return "not checked (simulated)"
    if row.sampling is not None:
        return f"p {row.sampling.p:.2g}"
    return share_text(row.lossless_share)


def share_text(share: float | None) -> str:
    """A share in whole percents."""
    return MISSING if share is None else whole_percent(share)


def whole_percent(share: float) -> str:
    """Rounded down, so that 100% is all of them."""
    return f"{math.floor(100 * share + 1e-9)}%"


def best_rows(rows: Sequence[Row]) -> set[int]:
    """Indices of the best valid row of each workload and load point: by throughput, in an open loop by latency.

    What-if rows stand only where no draft has another.
    """
    best: dict[tuple[str, str, str | None], tuple[float, int]] = {}
    real = {
        (row.workload, row.load, row.device) for row in rows if row.architecture != "vanilla" and not row.is_simulated
    }
    for index, row in enumerate(rows):
        figure = row.output_tokens_per_s if row.concurrency is not None or row.latency_s is None else -row.latency_s
        point = (row.workload, row.load, row.device)
        if not row.valid or figure is None or (row.is_simulated and point in real):
            continue
        if point not in best or figure > best[point][0]:
            best[point] = (figure, index)
    return {index for _, index in best.values()}


def is_supported(row: Row) -> bool:
    """Whether every other valid row of its point is shown to differ from this one; one alone is held against nobody."""
    return bool(row.against) and all(found.is_clear for found in row.against.values())


def clear_rows(rows: Sequence[Row]) -> set[int]:
    """Of the best rows those that are shown to be it: what a report may print in bold."""
    return {index for index in best_rows(rows) if is_supported(rows[index])}


def ratio_text(ratio: Ratio | None) -> str:
    """`1.62x [1.55, 1.70]`."""
    if ratio is None:
        return MISSING
    return f"{ratio.value:.2f}x" + interval_text(ratio.low, ratio.high, ratio.scope)


def overall_table(found: Sequence[Overall]) -> Table:
    """Every arm over all workloads of a load point."""
    has_device = any(each.device is not None for each in found)
    headers = ["arm", *(DEVICE_HEADERS if has_device else ()), "conc.", "workloads", "τ", "speedup [95%]", "interval"]
    lines = []
    for each in found:
        counted = str(each.num_valid) if each.is_whole else f"{each.num_valid} of {each.num_workloads}"
        speedup = "baseline" if each.is_baseline else ratio_text(each.speedup)
        scope = MISSING if each.speedup is None else each.speedup.scope
        device = [each.device or MISSING] if has_device else []
        tau = fixed(each.acceptance_length, 2)
        lines.append([each.arm, *device, str(each.concurrency), counted, tau, speedup, scope])
    return headers, lines
