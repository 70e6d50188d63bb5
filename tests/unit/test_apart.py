"""Reports in a process of their own: what they say and write, how they end."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from draftbench.harness.errors import RecordError
from draftbench.harness.manifest import Manifest
from draftbench.harness.metrics import results
from draftbench.harness.run import apart
from draftbench.reports.rows import rows_of_run

PUBLISHED = Path("reports/published/quickstart-cpu")


def test_messages_and_exit_codes_come_through(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """As `bench.py report` has them."""
    assert apart.report(tmp_path / "-none") == 2
    printed = capfd.readouterr()
    assert f"error: {tmp_path / '-none'} holds no run" in printed.err
    assert printed.out == ""


def test_launches_are_counted_from_the_same_rows() -> None:
    """By another process as by this one."""
    rows = rows_of_run(PUBLISHED, Manifest.read(PUBLISHED))
    wanted = apart.wanted_launches(PUBLISHED, 0.02, 3)
    assert wanted == results.wanted_launches(rows, 0.02, 3)


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is started in place of Python; its text is the test's."""
    program = tmp_path / "program"
    program.touch(mode=0o755)
    monkeypatch.setattr("sys.executable", str(program))
    return program


def test_an_end_by_a_signal_is_told(stand_in: Path, tmp_path: Path) -> None:
    """As where memory is too small."""
    stand_in.write_text("#!/bin/sh\nkill -9 $$\n")
    for call in (lambda: apart.report(tmp_path), lambda: apart.wanted_launches(tmp_path, 0.1, 2)):
        with pytest.raises(RecordError, match=r"was ended \(signal 9\).*write the report with bench\.py report"):
            call()


def test_an_interruption_ends_it(stand_in: Path, tmp_path: Path) -> None:
    """Ctrl-C reaches the caller alone, and nothing is left running."""
    started = tmp_path / "pid"
    stand_in.write_text(f"#!/bin/sh\necho $$ > {started}.new\nmv {started}.new {started}\nexec sleep 60\n")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt() -> None:
        while not started.exists():
            time.sleep(0.05)  # until the caller waits for it, too
        assert os.getpgid(int(started.read_text())) != os.getpgid(0)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            apart.report(tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
        thread.join()
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)
