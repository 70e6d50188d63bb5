"""Acceptance and cost against layers and tokens, beside the log-linear form that Scylla's authors found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tabulate import tabulate

from draftbench.harness.metrics.trained import ScalingPoint, Trained, by_layers, interval, log_linear, mean_length
from draftbench.harness.units import MISSING

MEANING = (
    "Scylla (arXiv 2505.07858) finds acceptance to be a straight line in the logarithm of the draft's training tokens, "
    "and in that of its capacity, for targets of 7B and more and up to thousands of times these tokens. The line here "
    "is fitted to both at once, by least squares; intervals hold the spread over held-out answers, not over trainings. "
    "Its slopes hold within the grid."
)


def layers_section(drafts: Mapping[str, Sequence[Trained]]) -> str:
    """A table and a fitted line for each family that was trained on a grid; nothing where there is none."""
    return "\n\n".join(_family(name, points) for name, points in by_layers(drafts).items())


def _family(name: str, points: Sequence[ScalingPoint]) -> str:
    told = (
        f"`{name}`, acceptance length [95%] by layers and training tokens; FLOPs are those of its longest training, "
        "parameters those that a later draft step reads."
    )
    return "\n\n".join((told, _table(points), _line(points), MEANING))


def _table(points: Sequence[ScalingPoint]) -> str:
    amounts = sorted({point.tokens for point in points})
    rows = []
    for layers in sorted({point.layers for point in points}):
        own = {point.tokens: point.seeds for point in points if point.layers == layers}
        ledger = own[max(own)][0].ledger
        by_step = ledger.get("num_active_parameters_by_step") or [ledger["num_active_parameters"]]
        cells = [_length(own[amount]) if amount in own else MISSING for amount in amounts]
        rows.append((layers, *cells, f"{by_step[-1]:,}", f"{ledger['training_flops']:.2e}"))
    heads = ("layers", *(f"{amount:,} tokens" for amount in amounts), "active a later step", "FLOPs")
    return str(tabulate(rows, heads, "github", disable_numparse=True))


def _length(seeds: Sequence[Trained]) -> str:
    low, high = interval(seeds)
    return f"{mean_length(seeds):.2f} [{low:.2f}, {high:.2f}]"


def _line(points: Sequence[ScalingPoint]) -> str:
    found = log_linear(points)
    if found is None:
        return "Too few drafts for a line."
    tenfold, doubled = (
        f"{value:+.2f} [{low:+.2f}, {high:+.2f}]" for value, low, high in (found.tenfold, found.doubled)
    )
    return (
        f"Log-linear fit: ten times the tokens {tenfold} tokens a round, twice the layers {doubled}; it explains "
        f"{found.explained:.0%} of the variance between these drafts, the farthest lies {found.farthest:.2f} off."
    )
