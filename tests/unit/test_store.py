"""Result files: nothing measured is lost, a killed run can be resumed, damage is told."""

from __future__ import annotations

import pytest

from draftbench.harness.errors import RecordError
from draftbench.harness.manifest import Manifest
from draftbench.harness.records import RequestRecord, RescoreRecord
from draftbench.harness.store import CELLS, FILES, INTERRUPTED, REQUESTS, TELEMETRY, RunStore, read_records
from draftbench.harness.telemetry.records import ProcessUsage, WindowRecord
from tests.fakes.known import suite_object

MANIFEST = Manifest.of({"suite": suite_object([{"name": "vanilla", "architecture": "vanilla"}]), "suite_sha256": "s"})


def test_a_sealed_cell_is_not_pending(tmp_path, request_record, cell_record):
    """Cells without a seal, and cells that failed, are run again."""
    store = RunStore.create(tmp_path / "run", MANIFEST)
    done, open_, failed = request_record(), request_record(block=1), request_record(block=2)
    store.append(done)
    store.append(cell_record(done))
    store.append(cell_record(failed, error="died"))
    assert store.pending([done.cell, open_.cell, failed.cell]) == (open_.cell, failed.cell)


def test_resuming_sets_unsealed_requests_aside(tmp_path, request_record, cell_record):
    """They move to interrupted.jsonl, so that the cell can be measured anew; a half-written line is dropped."""
    store = RunStore.create(tmp_path, MANIFEST)
    done, loose = request_record(), request_record(block=1)
    store.append(done)
    store.append(cell_record(done))
    store.append(loose)
    with (tmp_path / REQUESTS).open("ab") as file:
        file.write(b'{"version": 1, "ce')
    RunStore.reopen(tmp_path, "s")
    assert list(read_records(tmp_path / REQUESTS, RequestRecord)) == [done]
    assert loose.model_dump_json() in (tmp_path / INTERRUPTED).read_text()


def test_resuming_sets_telemetry_of_unsealed_cells_aside(tmp_path, request_record, cell_record):
    """Windows of sealed cells stay, and those of launches at rest, which belong to no cell."""
    store = RunStore.create(tmp_path, MANIFEST)
    done, loose = request_record(), request_record(block=1)
    usage = ProcessUsage(
        client_cpu_s=0.1, engine_cpu_s=None, engine_peak_rss_bytes=None, host_cpu_share=0.5, reason="ended"
    )
    rest, kept, aside = (
        WindowRecord(
            launch=0,
            arm="a",
            cell=cell,
            started_ns=0,
            finished_ns=1,
            devices=(),
            processes=usage,
            telemetry_cpu_s=0.0,
        )
        for cell in (None, done.cell, loose.cell)
    )
    for record in (rest, kept, cell_record(done), aside):
        store.append(record)
    RunStore.reopen(tmp_path, "s")
    assert list(read_records(tmp_path / TELEMETRY, WindowRecord)) == [rest, kept]
    assert aside.model_dump_json() in (tmp_path / INTERRUPTED).read_text()


def test_runs_are_not_overwritten_or_mixed(tmp_path):
    """A second run in the same folder, another suite, or no run at all is refused."""
    RunStore.create(tmp_path, MANIFEST)
    with pytest.raises(RecordError, match="already holds a run"):
        RunStore.create(tmp_path, MANIFEST)
    with pytest.raises(RecordError, match="another version of this suite"):
        RunStore.reopen(tmp_path, "t")
    with pytest.raises(RecordError, match="holds no run to resume"):
        RunStore.reopen(tmp_path / "none", "s")


def test_a_damaged_line_is_told_with_its_number(tmp_path, request_record):
    """Only the last line may be incomplete."""
    path = tmp_path / CELLS
    path.write_text("{}\n" + request_record().model_dump_json() + "\n")
    with pytest.raises(RecordError, match=r"cells\.jsonl:1: not a RequestRecord"):
        list(read_records(path, RequestRecord))


def test_a_half_written_line_does_not_spoil_the_next_record(tmp_path):
    """Whatever file the process was killed in, the run goes on after its last whole line."""
    store = RunStore.create(tmp_path, MANIFEST)
    first, second = (RescoreRecord(
        workload="w", prompt_id=name, turn=0, output_ids=(1,), deficit=0.0, deficit_at=0, top2_gap=None, noise=None
    ) for name in "ab")  # fmt: skip
    store.append(first)
    with (tmp_path / FILES[RescoreRecord]).open("ab") as file:
        file.write(b'{"version": 1, "wor')
    store = RunStore.reopen(tmp_path, "s")
    store.append(second)
    assert store.read(RescoreRecord) == (first, second)


def test_a_run_counts_how_often_it_was_resumed(tmp_path):
    """Cells carry it, so that blocks which were measured in two sessions can be told."""
    assert RunStore.create(tmp_path, MANIFEST).session == 0
    assert [RunStore.reopen(tmp_path, "s").session for _ in range(2)] == [1, 2]
