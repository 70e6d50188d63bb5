"""Disks that are full, folders that cannot be written, files that are broken: a sentence, and nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bench
from draftbench.harness.errors import CheckpointError, RecordError
from draftbench.harness.models.fairness import read_ledger
from draftbench.harness.models.find import read_config
from draftbench.harness.safe_files import append_line, make_folder, write_whole
from draftbench.harness.workloads.render import ChatRenderer

TINY = Path("drafts/checkpoints/tiny/target")
BROKEN = {"binary": b"\x89PNG\r\n\x1a\n\x00\xff\xfe", "nested": b"[" * 200_000, "cut off": b'{"a": ', "empty": b""}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "training.json"])
def test_a_broken_file_of_a_model_is_told(tmp_path: Path, name: str, content: bytes) -> None:
    """By its name, in a sentence."""
    shutil.copytree(TINY, tmp_path / "model")
    (tmp_path / "model" / name).write_bytes(content)
    read = {"config.json": read_config, "training.json": read_ledger}.get(name, ChatRenderer)
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        read(tmp_path / "model")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_pipe_in_a_model_is_told(tmp_path: Path, name: str) -> None:
    """Nobody would ever write to it."""
    shutil.copytree(TINY, tmp_path / "model")
    (tmp_path / "model" / name).unlink()
    os.mkfifo(tmp_path / "model" / name)
    read = read_config if name == "config.json" else ChatRenderer
    with pytest.raises(CheckpointError, match="is not a regular file"):
        read(tmp_path / "model")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_full_disk_is_told() -> None:
    """What to do, and that nothing is lost."""
    said = r"/dev/full cannot be written \(No space left on device\): make space\. What was measured is kept"
    with pytest.raises(RecordError, match=said):
        append_line(Path("/dev/full"), b"{}")


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """A file stands in the way, a name is too long, a link leads nowhere."""
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "at all")
    for path in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("n" * 300), tmp_path / "link"):
        with pytest.raises(RecordError, match="cannot be written"):
            make_folder(path)
    with pytest.raises(RecordError, match="cannot be written"):
        write_whole(tmp_path / "file" / "below", "x")


def test_what_stood_there_stays_where_writing_fails(tmp_path: Path) -> None:
    """The file is put in its place in one step."""
    (tmp_path / "file").write_text("before")
    (tmp_path / "file.partial").mkdir()
    with pytest.raises(RecordError, match="cannot be written"):
        write_whole(tmp_path / "file", "after")
    assert (tmp_path / "file").read_text() == "before"


@pytest.mark.parametrize("words", [["report"], ["verify"], ["publish"], ["compare", "."], ["rerun"]])
def test_a_binary_manifest_is_told_by_every_command(tmp_path: Path, words: list[str], capsys) -> None:
    """Exit code 2, no traceback."""
    (tmp_path / "manifest.json").write_bytes(BROKEN["binary"])
    (tmp_path / "report.md").write_text("")
    assert bench.main([words[0], str(tmp_path), *words[1:]]) == 2
    assert "manifest.json" in "".join(capsys.readouterr().err.split("\n"))


def test_a_run_ends_in_a_sentence_where_it_may_not_write(tmp_path: Path) -> None:
    """As a user without rights, in a folder of root's."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    code = (
        "from draftbench.harness.errors import RecordError\nfrom draftbench.harness.safe_files import make_folder\n"
        "from pathlib import Path\ntry: make_folder(Path('/draftbench-test'))\nexcept RecordError as e: print(e)"
    )
    for python in (sys.executable, "/usr/bin/python3"):
        try:
            done = subprocess.run(
                [python, "-c", code], capture_output=True, text=True, user=65534, group=65534, extra_groups=[],
                env={"PYTHONPATH": str(Path.cwd())}, cwd="/",
            )  # fmt: skip
        except OSError:
            continue
        assert "give yourself the right to write there" in done.stdout, done.stderr
        return
    pytest.skip("nobody may run no Python here")


def test_errors_of_the_system_that_nobody_foresaw_are_told_in_a_sentence(tmp_path, monkeypatch, capsys) -> None:
    """The command's last net: no traceback for a disk that fails while a file is read."""

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error", str(tmp_path / "somewhere"))

    monkeypatch.setattr("draftbench.reports.files.records_sha256", fail)
    shutil.copytree("reports/published/quickstart-cpu", tmp_path / "run")
    assert bench.main(["report", str(tmp_path / "run")]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "Input/output error" in said
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())
