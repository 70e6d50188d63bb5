"""Result files: nothing measured is lost, a killed run can be resumed, damage is told."""

from __future__ import annotations

import json
import resource
import signal

import pytest

from draftbench.harness.errors import RecordError
from draftbench.harness.manifest import Manifest
from draftbench.harness.records import RequestRecord, RescoreRecord
from draftbench.harness.store import CELLS, DAMAGED, FILES, INTERRUPTED, REQUESTS, TELEMETRY, RunStore, read_records
from draftbench.harness.telemetry.window_records import ProcessUsage, WindowRecord
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
    for record in (rest, done, kept, cell_record(done), aside):
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


def test_records_without_a_manifest_are_no_new_run(tmp_path, request_record):
    """Whoever finds them cannot know which suite they are of; another suite's cells would be taken as measured."""
    RunStore.create(tmp_path, MANIFEST).append(request_record())
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(RecordError, match=r"holds requests\.jsonl, but no manifest\.json"):
        RunStore.create(tmp_path, MANIFEST)


def test_a_file_of_another_suite_is_refused(tmp_path, request_record, cell_record):
    """Each file's first line carries the suite's hash; nothing is changed by the refusal."""
    for name, suite in (("ours", "s"), ("theirs", "t")):
        store = RunStore.create(tmp_path / name, MANIFEST.noting(suite_sha256=suite))
        for block in range(2):
            store.append(request_record(block=block))
            store.append(cell_record(request_record(block=block)))
    (tmp_path / "ours" / CELLS).write_bytes((tmp_path / "theirs" / CELLS).read_bytes())
    before = (tmp_path / "ours" / "manifest.json").read_bytes()
    with pytest.raises(RecordError, match=r"cells\.jsonl:1: it was measured with another suite"):
        RunStore.reopen(tmp_path / "ours", "s")
    assert (tmp_path / "ours" / "manifest.json").read_bytes() == before
    lines = (tmp_path / "ours" / REQUESTS).read_text().splitlines()
    assert ['"suite_sha256":"s"' in line for line in lines] == [True, False]


def test_a_file_keeps_its_suite_when_it_is_written_again(tmp_path, request_record, cell_record):
    """Its first record may be what is set aside."""
    store = RunStore.create(tmp_path, MANIFEST)
    loose, done = request_record(), request_record(block=1)
    for record in (loose, done, cell_record(done)):
        store.append(record)
    RunStore.reopen(tmp_path, "s")
    assert (tmp_path / REQUESTS).read_text().count('"suite_sha256":"s"') == 1


def test_a_damaged_line_in_the_middle_costs_its_own_cell_alone(tmp_path, request_record, cell_record):
    """It is set aside and told, and the cell is measured again; the others stay."""
    store = RunStore.create(tmp_path, MANIFEST)
    records = [request_record(block=block) for block in range(3)]
    for record in records:
        store.append(record)
        store.append(cell_record(record))
    lines = (tmp_path / REQUESTS).read_bytes().splitlines(keepends=True)
    (tmp_path / REQUESTS).write_bytes(lines[0] + b"\x00{damaged\n" + lines[2])
    store = RunStore.reopen(tmp_path, "s")
    assert [record.cell.block for record in store.read(RequestRecord)] == [0, 2]
    assert store.pending([record.cell for record in records]) == (records[1].cell,)
    assert (tmp_path / DAMAGED).read_bytes() == b"\x00{damaged\n"
    assert "requests.jsonl:2: not a RequestRecord" in store.mended[0]
    assert "l0-b1-eagle-w-c1 was sealed, but 0 of its 1 requests are there" in store.mended[1]


def test_a_line_of_another_version_is_no_record(tmp_path, request_record):
    """Its fields may mean something else."""
    store = RunStore.create(tmp_path, MANIFEST)
    store.append(request_record())
    store.append(request_record(block=1, version=2))
    with pytest.raises(RecordError, match=r"requests\.jsonl:2: version is 2; this draftbench reads version 1"):
        store.read(RequestRecord)


def test_a_manifest_of_a_later_version_is_left_as_it_was(tmp_path):
    """Refused before anything is written."""
    RunStore.create(tmp_path, MANIFEST)
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 2}))
    before = {each: each.read_bytes() for each in tmp_path.iterdir()}
    with pytest.raises(RecordError, match="version is 2"):
        RunStore.reopen(tmp_path, "s")
    assert {each: each.read_bytes() for each in tmp_path.iterdir()} == before


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n\x00\xff", b"{" * 100_000, b"[" * 100_000, b"[]", b""])
def test_a_binary_manifest_is_told(tmp_path, content):
    """In a sentence."""
    RunStore.create(tmp_path, MANIFEST)
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(RecordError, match=r"manifest\.json"):
        RunStore.reopen(tmp_path, "s")


@pytest.mark.parametrize("name", [REQUESTS, "manifest.json.partial", "manifest.json"])
def test_links_are_not_written_through(tmp_path, request_record, name):
    """Whoever put them there would have another file written."""
    outside = tmp_path / "outside"
    outside.write_text("")
    store = RunStore.create(tmp_path / "run", MANIFEST)
    (store.folder / name).unlink(missing_ok=True)
    if name == "manifest.json":
        outside.write_text(json.dumps(MANIFEST.recorded))
    before = outside.read_text()
    (store.folder / name).symlink_to(outside)
    if name == REQUESTS:
        with pytest.raises(RecordError, match="it is a link; remove it"):
            store.append(request_record())
    else:
        store.note(finished=True)
        assert store.manifest().finished
    assert outside.read_text() == before


def test_a_full_disk_leaves_whole_lines(tmp_path, request_record, monkeypatch):
    """A sentence; half a line would spoil the next record."""
    store = RunStore.create(tmp_path, MANIFEST)
    store.append(request_record())
    whole = (tmp_path / REQUESTS).read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 100, limit[1]))
    try:
        with pytest.raises(RecordError, match=r"requests\.jsonl cannot be written \(File too large\)"):
            store.append(request_record(block=1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    assert (tmp_path / REQUESTS).read_bytes() == whole
    store.append(request_record(block=1))
    assert len(store.read(RequestRecord)) == 2
