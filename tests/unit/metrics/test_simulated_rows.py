"""What-if rows: simulated acceptance is told wherever the arm is and never mistaken for a measurement."""

from __future__ import annotations

from dataclasses import replace

from draftbench.harness.manifest import Manifest
from draftbench.harness.metrics.evidence import Design
from draftbench.harness.metrics.gates.drafting import SIMULATED_ACCEPTANCE
from draftbench.harness.metrics.results import build_rows
from draftbench.harness.metrics.row import Row, rows_as_json
from draftbench.harness.records import CellRecord, GraphUse, ReferenceRecord
from draftbench.reports.arms_tables import arms_table
from draftbench.reports.markdown import render_markdown
from draftbench.reports.sections import graph_table
from draftbench.reports.table import best_rows, lossless_text
from tests.fakes.held import Held
from tests.fakes.known import known, suite_object
from tests.fakes.study import FakeArm, FakeRun
from tests.unit.metrics.test_study import VANILLA, cells, gates_of

LABEL = "guess (simulated acceptance)"
WHAT_IF = FakeArm("guess", round_ms=12.0, accepted=(3, 1), simulated=(0.9, 0.8, 0.7, 0.6))
REAL = FakeArm("real", round_ms=20.0, accepted=(2, 1))
OTHER = [
    ReferenceRecord(
        workload="w", prompt_id=f"p{n}", turn=0, prompt_sha256=f"h{n}", prompt_ids=(1,), output_ids=(9,),
        finish_reason="length",
    )
    for n in range(4)
]  # fmt: skip


def test_the_label_says_so_and_losslessness_is_not_checked() -> None:
    """Outputs differ from the reference's, which says nothing here; the row is valid, marked and warned of."""
    rows = FakeRun([VANILLA, WHAT_IF], cells("vanilla", "guess")).rows(OTHER)
    row = rows[LABEL]
    assert row.valid, row.reason
    assert row.lossless_share is None
    assert lossless_text(row) == "not checked (simulated)"
    assert "simulated acceptance" in gates_of(row)
    assert "unsteady acceptance" not in gates_of(row)
    assert LABEL in rows_as_json(tuple(rows.values()))


def test_beside_real_drafts_it_takes_part_in_no_verdict_and_is_never_the_best() -> None:
    """It is the fastest of three by far, and the answer names the real draft."""
    rows = FakeRun([VANILLA, REAL, WHAT_IF], cells("vanilla", "real", "guess")).rows()
    assert (rows[LABEL].output_tokens_per_s or 0) > 1.3 * (rows["real"].output_tokens_per_s or 0)
    assert rows[LABEL].against == {}
    assert set(rows["real"].against) == {"vanilla"}
    assert set(rows["vanilla"].against) == {"real"}
    listed = list(rows.values())
    assert [listed[index].arm for index in best_rows(listed)] == ["real"]


def test_among_what_if_rows_alone_verdicts_are_made_under_their_labels() -> None:
    """Two simulated drafts and vanilla: all pairs, and the best one is named with the mark."""
    other = FakeArm("other", round_ms=15.0, accepted=(3, 1), simulated=(0.9, 0.8, 0.7, 0.6))
    rows = FakeRun([VANILLA, WHAT_IF, other], cells("vanilla", "guess", "other", blocks=3)).rows()
    against = rows[LABEL].against
    assert set(against) == {"vanilla", "other (simulated acceptance)"}
    assert LABEL in against["vanilla"].verdict
    listed = list(rows.values())
    assert [listed[index].arm for index in best_rows(listed)] == [LABEL]
    arms = [{"name": "guess", "architecture": "eagle", "simulated_acceptance": [0.9, 0.8, 0.7, 0.6]}]
    manifest = Manifest.of({"suite": suite_object(arms, blocks=3), "finished": True})
    report = render_markdown(listed, manifest, "hash")
    lines = [line for line in report.splitlines() if line.startswith("|") and "guess" in line]
    assert len(lines) > 4
    assert all("simulated" in line for line in lines)


def test_acceptance_by_workload_is_told_on_each_row_as_its_own() -> None:
    """The row's workload is w; the table of arms does not repeat all of them."""
    guess = replace(WHAT_IF, simulated={"other": (0.1, 0.1, 0.1, 0.1), "w": (0.9, 0.8, 0.7, 0.6)})
    row = FakeRun([VANILLA, guess], cells("vanilla", "guess")).rows()[LABEL]
    assert row.simulated_acceptance == (0.9, 0.8, 0.7, 0.6)
    told = next(found for found in row.findings if found.gate is SIMULATED_ACCEPTANCE)
    assert told.evidence == "accepted by chance with α = 0.90, 0.80, 0.70, 0.60"
    _, lines = arms_table([guess.known.arm])
    assert lines[0][-1] == "simulated_acceptance: of each workload"


def test_random_weights_are_warned_of_and_may_loop() -> None:
    """Whatever a random model says, it is no text."""
    run = FakeRun([VANILLA], cells("vanilla"))
    records = Held(run.requests, run.cells)
    found = build_rows([VANILLA.known], records, Design(0.0, "bfloat16", random_weights=True))
    assert gates_of(found[0]) == ["random weights"]


def graph_row(*uses: GraphUse | None) -> Row:
    run = FakeRun([VANILLA], cells("vanilla", blocks=len(uses)))
    sealed = [cell.model_copy(update={"graphs": use}) for cell, use in zip(run.cells, uses, strict=True)]
    assert all(isinstance(cell, CellRecord) for cell in sealed)
    return build_rows([known("vanilla", "vanilla")], Held(run.requests, sealed), Design(0.0, "float32"))[0]


def test_the_share_of_passes_in_graphs_is_over_all_blocks() -> None:
    """30 of 40 passes; phases without graphs of their own have none, and rows without any stand in no table."""
    ten = GraphUse(num_passes=10, target=10, draft=None, extend=None)
    row = graph_row(ten, GraphUse(num_passes=30, target=20, draft=None, extend=None))
    assert graph_table([row])[1] == [["vanilla", "w", "1", "75%", "–", "–"]]
    assert graph_table([graph_row(None)])[1] == []
