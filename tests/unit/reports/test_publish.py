"""Publishing: what is published holds no names and no texts, and passes verify where it lies."""

from __future__ import annotations

import pytest

from draftbench.harness.errors import RecordError
from draftbench.harness.records import ReferenceRecord
from draftbench.harness.store import REFERENCES, REQUESTS, RunStore
from draftbench.reports.files import read_run, write_results
from draftbench.reports.publish import prepare
from draftbench.reports.verify import verify
from tests.fakes.known import rewritten


@pytest.fixture
def named(run):
    """A run that names its user in a path and holds a prompt's token ids."""
    store = RunStore(run)
    with rewritten(run) as manifest:
        manifest["suite"]["target"]["model"] = "/home/alice/llama"
        manifest["note"] = "alice's run"
    ids = {"prompt_ids": (11111, 22222), "output_ids": (0, 1, 2, 3)}
    store.append(ReferenceRecord(workload="w", prompt_id="p", turn=0, prompt_sha256="h", finish_reason="length", **ids))
    return run


def test_a_published_run_passes_verify_and_names_nobody(named, tmp_path):
    """Its metrics are those of the run, losslessness too."""
    home = tmp_path / "published"
    draft = prepare(named, "mine", published=home)
    assert ("/home/alice/llama", "PATH/llama", 1) in draft.replaced
    report = draft.publish()
    assert verify(report).mismatches == ()
    texts = "".join(path.read_text() for path in report.parent.iterdir() if path.is_file())
    assert "alice" not in texts
    assert "11111" not in texts
    rows = read_run(report.parent).rows
    assert rows == read_run(named).rows
    assert rows[0].lossless_share == 1
    assert "[mine](mine/report.md)" in (home / "README.md").read_text()


def test_nothing_is_published_over_another_run(named, tmp_path):
    """The name is taken until the run is removed."""
    prepare(named, "mine", published=tmp_path / "published").publish()
    with pytest.raises(RecordError, match="is published already"):
        prepare(named, "mine", published=tmp_path / "published")


def test_a_name_stays_in_the_folder(named, tmp_path):
    """It is no path."""
    with pytest.raises(RecordError, match=r"--name is '\.\./x'; allowed: letters"):
        prepare(named, "../x", published=tmp_path / "published")


def test_a_dropped_draft_leaves_nothing(named, tmp_path):
    """Not even its folder."""
    prepare(named, "mine", published=tmp_path / "published").drop()
    assert list((tmp_path / "published").iterdir()) == []


def test_damaged_records_are_not_published(named, tmp_path):
    """A line that cannot be read cannot be redacted."""
    with (named / REQUESTS).open("a") as file:
        file.write("{broken\n")
    assert (named / REFERENCES).exists()
    write_results(named)
    with pytest.raises(RecordError, match=r"requests\.jsonl:7: not a RequestRecord"):
        prepare(named, "mine", published=tmp_path / "published")


def test_redaction_that_would_change_results_is_refused(run, request_record, cell_record, tmp_path):
    """Two prompts that become one when their names are redacted would be compared with each other."""
    store = RunStore(run)
    for block in (5, 6):
        for arm in ("vanilla", "eagle"):
            records = [
                request_record(
                    arm=arm,
                    block=block,
                    accepted=None if arm == "vanilla" else (2,),
                    prompt_id=name,
                    prompt_sha256=name[0],
                )
                for name in ("a@x.org", "b@x.org")
            ]
            for record in records:
                store.append(record)
            store.append(cell_record(records[0], num_requests=2))
    for name in ("a@x.org", "b@x.org"):
        store.append(
            ReferenceRecord(
                workload="w", prompt_id=name, turn=0, prompt_sha256=name[0], finish_reason="length",
                prompt_ids=(1,), output_ids=(0, 1, 2, 3),
            )
        )  # fmt: skip
    home = tmp_path / "published"
    with pytest.raises(RecordError, match="redacting it would change its results"):
        prepare(run, "mine", published=home)
    assert not list(home.glob(".*"))


def test_only_the_runs_own_files_are_taken(named, tmp_path):
    """A file of prompts that happens to lie there stays."""
    (named / "prompts.jsonl").write_text('{"text": "a secret prompt"}\n')
    report = prepare(named, "mine", published=tmp_path / "published").publish()
    assert not (report.parent / "prompts.jsonl").exists()
