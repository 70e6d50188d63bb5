"""The tables of acceptance by step, over all workloads, by kind of prompt, and as servers count it."""

from __future__ import annotations

from collections.abc import Sequence

from draftbench.harness.metrics.overall import by_step
from draftbench.harness.metrics.row import Row
from draftbench.harness.units import fixed, tree_text
from draftbench.reports.table import (
    Table,
    arm_text,
    load_text,
    share_text,
    workload_text,
)

STEPS_MEANING = "Mean of α_k over the workloads whose row is valid, weighted alike."
ACCEPTANCE_MEANING = (
    "α_k: of the rounds that accepted k − 1 drafts or more, the share that accepted k or more. S_k, in the figures: of "
    "all rounds, the share that accepted k or more; τ = 1 + Σ S_k."
)
SPREAD_MEANING = "Acceptance length τ of the rounds of each kind; a round belongs to the stretch in which it began."
CHANGING_MEANING = (
    "Of arms whose number of drafts the engine changes while it runs: rounds by the drafts of a round, and how often a "
    "request's round had others than its round before. α_k is over the rounds that drafted k or more; τ over all."
)
SERVED_MEANING = (
    "Of endpoints that tell of their drafts; our own engines' rounds are recorded one by one. Rounds: verify steps. "
    "What a server does not say is –. Over a whole cell only where nobody else asked the server."
)


def acceptance_table(rows: Sequence[Row]) -> Table:
    """Conditional acceptance α_k by step for every row with a draft."""
    curves = [(row, curve) for row in rows if (curve := row.acceptance.conditional_acceptance)]
    depth = max((len(curve) for _, curve in curves), default=0)
    headers = ["arm", "workload", "conc.", "depth × width, nodes", *(f"α{k}" for k in range(1, depth + 1))]
    lines = [
        [arm_text(row), workload_text(row), load_text(row), tree_text(row)]
        + [fixed(value, 2) for value in curve]
        + [""] * (depth - len(curve))
        for row, curve in curves
    ]
    return headers, lines


def overall_acceptance_table(rows: Sequence[Row]) -> Table:
    """α_k of every arm and load point, mean over workloads; nothing for one workload."""
    found = by_step(rows)
    depth = max((len(each.alphas) for each in found), default=0)
    headers = ["arm", "conc.", "depth × width, nodes", "workloads", *(f"α{k}" for k in range(1, depth + 1))]
    lines = [
        [arm_text(each.row), load_text(each.row), tree_text(each.row), str(each.num_workloads)]
        + [fixed(alpha, 2) for alpha in each.alphas]
        + [""] * (depth - len(each.alphas))
        for each in found
    ]
    return headers, lines


def spread_table(rows: Sequence[Row]) -> Table:
    """Acceptance lengths of categories, turns and stretches of the output, where there is more than one of them."""
    headers = ["arm", "workload", "conc.", "by", "acceptance lengths"]
    lines = []
    for row in rows:
        found = row.acceptance
        kinds = {
            "category": [(name, part.acceptance_length) for name, part in found.by_category.items()],
            "turn": [(name, part.acceptance_length) for name, part in found.by_turn.items()],
            "output": [(f"from token {part.from_token}", part.acceptance_length) for part in found.along_output],
        }
        for kind, parts in kinds.items():
            if len(parts) > 1:
                text = ", ".join(f"{name} {length:.2f}" for name, length in parts)
                lines.append([arm_text(row), workload_text(row), load_text(row), kind, text])
    return headers, lines


def changing_table(rows: Sequence[Row]) -> Table:
    """How many drafts the rounds had, for every row whose engine changed that."""
    lines = []
    for row in rows:
        found = row.acceptance.rounds_by_nodes
        if found is not None:
            total = sum(found.values())
            shares = ", ".join(f"{nodes}: {count / total:.0%}" for nodes, count in found.items())
            mean = fixed(sum(nodes * count for nodes, count in found.items()) / total, 2)
            changes = str(row.acceptance.changes_of_nodes)
            lines.append([arm_text(row), workload_text(row), load_text(row), shares, mean, changes])
    return ["arm", "workload", "conc.", "rounds by drafts", "mean", "changes"], lines


def served_table(rows: Sequence[Row]) -> Table:
    """Who counted the acceptance of endpoints, and what they say of it."""
    headers = ["arm", "workload", "conc.", "counted by", "rounds", "τ", "accepted drafts"]
    lines = [
        [
            arm_text(row),
            workload_text(row),
            load_text(row),
            row.acceptance_from,
            str(row.num_rounds),
            fixed(row.acceptance_length, 2),
            share_text(row.acceptance.draft_acceptance),
        ]
        for row in rows
        if row.acceptance_from is not None
    ]
    return headers, lines
