"""The table of rounds whose number of drafts the engine changed."""

from __future__ import annotations

from dataclasses import replace

from draftbench.reports.acceptance_tables import changing_table
from tests.fakes.overall import rows_of


def test_rows_whose_drafts_changed_are_told() -> None:
    """Shares of the numbers of drafts, their mean, and how often they changed; rows of fixed trees are left out."""
    rows = rows_of({"sums": {"draft": [0.1, 0.2, 0.3]}})
    assert changing_table(rows)[1] == []
    changed = replace(rows[1], acceptance=replace(rows[1].acceptance, rounds_by_nodes={1: 3, 5: 1}, changes_of_nodes=2))
    headers, lines = changing_table([rows[0], changed])
    assert headers[3:] == ["rounds by drafts", "mean", "changes"]
    assert [line[3:] for line in lines] == [["1: 75%, 5: 25%", "2.00", "2"]]
