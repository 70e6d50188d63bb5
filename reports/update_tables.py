"""The tables of drafts that are updated between blocks."""

from __future__ import annotations

from collections.abc import Sequence

from draftbench.harness.metrics.row import Row
from draftbench.harness.units import MISSING, fixed
from draftbench.reports.table import Table, arm_text, load_text, workload_text

UPDATING_MEANING = (
    "The draft's state is kept on purpose from block to block of a launch; every launch begins with the checkpoint as "
    "it was given. By block: over all launches, the first before any update. Blocks have prompts of their own, none "
    "of which was learnt from before, unless the warning `learnt prompts` says so. Some blocks are easier than others: "
    "hold one against the same block of a draft that is not updated. With updates: the row's throughput "
    "and speedup with the updates' time in, each shared out over the tokens that it could learn from."
)
UPDATES_MEANING = (
    "Made between blocks, outside of all cells, by a process on the same machine. Positions: where the target rejected "
    "what was drafted. Loss: at these positions, in nats (tvd: a share). All s: until the engine had the new weights, "
    "with the start of Python and the reading of both models; learning: without these."
)


def updating_table(rows: Sequence[Row]) -> Table:
    """Rows of drafts that are updated, from block to block."""
    headers = ["arm", "workload", "conc.", "τ by block", "speedup by block", "updates' time", "tokens/s", "speedup"]
    headers += ["tokens/s with updates", "speedup with updates"]
    lines = []
    for row in rows:
        found = row.updating
        if found is None:
            continue
        lines.append(
            [
                arm_text(row),
                workload_text(row),
                load_text(row),
                " → ".join(fixed(block.acceptance_length, 2) for block in found.blocks),
                MISSING if found.speedups is None else " → ".join(fixed(speedup, 2, "x") for speedup in found.speedups),
                MISSING if found.time_share is None else f"{found.time_share:.0%}",
                fixed(row.output_tokens_per_s, 1),
                fixed(row.speedup, 2, "x"),
                fixed(found.output_tokens_per_s, 1),
                fixed(found.speedup, 2, "x"),
            ]
        )
    return headers, lines


def updates_table(rows: Sequence[Row]) -> Table:
    """Every update, once."""
    headers = ["arm", "launch", "after block", "requests", "positions", "steps", "loss", "all s", "learning s"]
    headers += ["processor s", "failed"]
    lines: dict[tuple[str, int, int], list[str]] = {}
    for row in rows:
        for made in row.updating.made if row.updating is not None else ():
            losses = (made.loss_before, made.loss_after)
            dropped = f" (of {made.num_positions + made.num_dropped})" if made.num_dropped else ""
            lines[row.arm, made.launch, made.block] = [
                arm_text(row),
                str(made.launch),
                str(made.block),
                str(made.num_requests),
                f"{made.num_positions}{dropped}",
                MISSING if made.num_steps is None else str(made.num_steps),
                MISSING if None in losses else " → ".join(fixed(loss, 3) for loss in losses),
                fixed(made.update_s, 1),
                fixed(made.learning_s, 1),
                fixed(made.processor_s, 1),
                made.error or "",
            ]
    return headers, list(lines.values())
