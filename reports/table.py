"""The tables of a report as headers and cells of text; tabulate and rich only lay them out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.fairness import Training, tuning_text
from harness.metrics.rows import Row
from harness.units import MISSING, fixed

MAIN_HEADERS = ("arm", "workload", "conc.", "τ", "tokens/s", "speedup [95%]", "TTFT ms", "TPOT ms", "c", "lossless")
ENERGY_HEADERS = ("J/token", "net J/token")
COLUMN_MEANINGS = (
    "τ: tokens per verify step, bonus token included, 1 + Σ accepted / steps; tokens/s: delivered tokens over wall "
    "clock; speedup: throughput ratio to vanilla within a block, geometric mean; TTFT: time to first token; TPOT: "
    "time per output token after it; c: time of a round over time of a vanilla step, break-even is τ = c; lossless: "
    "share of greedy outputs equal to vanilla's, token for token; at a temperature above 0 the p value of a two-sample "
    "test of short continuations against vanilla's; J/token: energy a delivered token, net: above an engine at rest; "
    "†: synthetic prompts."
)


def main_headers(rows: Sequence[Row]) -> list[str]:
    """The main table's columns; energy only where a row has it."""
    return [*MAIN_HEADERS, *(ENERGY_HEADERS if _has_energy(rows) else ())]


def _has_energy(rows: Sequence[Row]) -> bool:
    return any(row.joules_per_token is not None for row in rows)


def main_row(row: Row, rows: Sequence[Row]) -> list[str]:
    """One line of the main table of all rows."""
    joules = [fixed(row.joules_per_token, 3), fixed(row.net_joules_per_token, 3)] if _has_energy(rows) else []
    return [
        row.arm,
        workload_text(row),
        str(row.concurrency),
        fixed(row.acceptance_length, 2),
        fixed(row.output_tokens_per_s, 1),
        speedup_text(row),
        fixed(None if row.ttft_s is None else 1000 * row.ttft_s, 1),
        fixed(None if row.tpot_s is None else 1000 * row.tpot_s, 2),
        fixed(row.step_cost_ratio, 2),
        lossless_text(row),
        *joules,
    ]


def speedup_text(row: Row) -> str:
    """`1.62x [1.55, 1.70]`; the baseline has none."""
    if row.speedup is None:
        return MISSING
    if row.detail["is_baseline"]:
        return "baseline"
    interval = "" if row.speedup_low is None else f" [{row.speedup_low:.2f}, {row.speedup_high:.2f}]"
    return f"{row.speedup:.2f}x{interval}"


def workload_text(row: Row) -> str:
    """The workload's name, marked where its prompts are synthetic."""
    return row.workload + (" †" if row.detail["synthetic"] else "")


def lossless_text(row: Row) -> str:
    """Greedy: the share of outputs that are vanilla's; sampled: the p value of the two-sample test."""
    sampled = row.detail["sampling"]
    if sampled is not None:
        return f"p {sampled['p']:.2g}"
    return MISSING if row.lossless_share is None else whole_percent(row.lossless_share)


def whole_percent(share: float) -> str:
    """Rounded down, so that 100% is all of them."""
    return f"{math.floor(100 * share + 1e-9)}%"


def best_rows(rows: Sequence[Row]) -> set[int]:
    """Indices of the fastest valid row of each workload and load point."""
    best: dict[tuple[str, int], int] = {}
    for index, row in enumerate(rows):
        if not row.valid or row.output_tokens_per_s is None:
            continue
        point = (workload_text(row), row.concurrency)
        held = best.get(point)
        if held is None or row.output_tokens_per_s > (rows[held].output_tokens_per_s or 0):
            best[point] = index
    return set(best.values())


def arms_table(arms: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """What each arm is, as the suite has it: architecture, weights, tree, and what it sets for itself."""
    headers = ["arm", "architecture", "checkpoint", "depth", "width", "nodes", "options and engine arguments"]
    lines = []
    for arm in arms:
        sizes = (arm.get(name) for name in ("checkpoint", "num_steps", "topk", "num_draft_tokens"))
        own = {**(arm.get("options") or {}), **(arm.get("engine") or {})}
        settings = ", ".join(f"{name}: {value}" for name, value in own.items())
        cells = [MISSING if size is None else str(size) for size in sizes]
        lines.append([arm["name"], arm["architecture"], *cells, settings or MISSING])
    return headers, lines


TRAINING_MEANING = (
    "From the training.json beside each checkpoint. Corpus: the beginning of its SHA-256; tokens: of the corpus; seen: "
    "tokens that went through the draft in all steps; active: parameters that work at one draft step; tree: depth × "
    "width, nodes. Drafts whose corpus, steps or tokens seen differ were not trained alike."
)
TRAINING_HEADERS = (
    "arm", "corpus", "tokens", "steps", "seen", "FLOPs", "trained parameters", "active", "learning rate", "seed",
    "tree", "tuning",
)  # fmt: skip


def training_table(manifest: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """How each draft was trained, as far as its checkpoint says, and how its tree was chosen."""
    ledgers = manifest.get("training") or {}
    lines = []
    for arm in manifest["suite"]["arms"]:
        if arm.get("num_steps") is None:
            continue
        ledger = ledgers.get(arm["name"])
        if ledger is not None:
            cells = _training_cells(Training.of(ledger))
        else:
            known = "unknown training" if arm["name"] in ledgers or arm.get("checkpoint") else "needs no training"
            cells = [known, *[MISSING] * (len(TRAINING_HEADERS) - 4)]
        tree = f"{arm['num_steps']} × {arm['topk']}, {arm['num_draft_tokens']}"
        lines.append([arm["name"], *cells, tree, tuning_text(arm)])
    return list(TRAINING_HEADERS), lines


def _training_cells(training: Training) -> list[str]:
    tried = "" if training.learning_rates_tried is None else f" (of {training.learning_rates_tried})"
    return [
        MISSING if training.corpus_sha256 is None else training.corpus_sha256[:8],
        _count(training.corpus_tokens),
        _count(training.steps),
        _count(training.tokens),
        MISSING if training.flops is None else f"{training.flops:.2g}",
        _count(training.parameters),
        _count(training.active_parameters),
        MISSING if training.learning_rate is None else f"{training.learning_rate:g}{tried}",
        MISSING if training.seed is None else str(training.seed),
    ]


def _count(value: int | None) -> str:
    return MISSING if value is None else f"{value:,}"


def clear(found: Mapping[str, Any]) -> bool:
    """Whether a comparison shows a difference: its interval leaves 1 out."""
    return found["low"] is not None and not found["low"] <= 1 <= found["high"]
