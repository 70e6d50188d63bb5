"""The GPU script's steps with commands of the shell in place of engines: time, skipping, resuming, failing, ending."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import gpu
from benchmarks.gpu import STEPS, Outcome, Script, Step


def script(tmp_path: Path, steps: list[Step], seconds: float = 60.0, **names: str) -> Script:
    known = {"python": sys.executable, "host_python": sys.executable, "out": str(tmp_path), "data": "", "wheels": ""}
    return Script(steps, tmp_path, {**known, **names}, seconds)


def shell(name: str, text: str, **fields: object) -> Step:
    """A step that runs a line of shell, written to a file because commands are split at spaces."""
    return Step(name, "sh {out}/" + name, "true", 1, 0, **fields)  # type: ignore[arg-type]


def write(tmp_path: Path, **lines: str) -> None:
    for name, text in lines.items():
        (tmp_path / name).write_text(text)


def test_a_step_that_fails_does_not_stop_the_others_and_says_why(tmp_path):
    """Its last line and exit code stand in the table; the step after it is made."""
    write(tmp_path, a="echo no kernel here; exit 3", b="echo fine")
    run = script(tmp_path, [shell("a", ""), shell("b", "")])
    run.run()
    assert run.outcomes["a"].state == "failed"
    assert run.outcomes["a"].reason == "exit code 3: no kernel here"
    assert run.outcomes["b"].state == "done"
    assert "no kernel here" in run.table()
    assert (tmp_path / "summary.txt").read_text().strip() == run.table()


def test_nothing_is_begun_after_a_vital_step_that_failed(tmp_path):
    """Without a set-up or with a driver that does not fit, nothing is measured."""
    write(tmp_path, a="exit 1", b="touch $(dirname $0)/made")
    run = script(tmp_path, [shell("a", "", vital=True), shell("b", "")])
    run.run()
    assert run.outcomes["b"] == Outcome("skipped", reason="a failed")
    assert not (tmp_path / "made").exists()


def test_time_that_a_step_leaves_goes_to_later_ones_and_one_that_has_too_little_is_skipped(tmp_path, monkeypatch):
    """Shares are of the time that is left; the clock is a fake."""
    now = SimpleNamespace(s=0.0)
    allowed = {}

    def watch(self: Script, step: Step, command: list[str], allowed_s: float) -> Outcome:
        allowed[step.name] = allowed_s
        now.s += {"a": 10.0, "b": 70.0}[step.name]
        return Outcome("done")

    monkeypatch.setattr(gpu.time, "monotonic", lambda: now.s)
    monkeypatch.setattr(Script, "_watch", watch)
    steps = [Step("a", "", "", 1), Step("b", "", "", 2), Step("c", "", "", 1, least_s=30)]
    run = script(tmp_path, steps, 100.0)
    run.run()
    assert allowed == {"a": 30.0, "b": pytest.approx(60.0)}
    assert run.outcomes["c"] == Outcome("skipped", reason="20 s left, 30 needed")


def test_a_step_whose_time_is_up_is_interrupted_keeps_its_report_and_leaves_no_process(tmp_path):
    """It is told by SIGINT, as by Ctrl-C, writes what it has, and its children end with it."""
    write(
        tmp_path,
        slow="sleep 60 & echo $! > $(dirname $0)/child; trap 'echo half > $(dirname $0)/report.md; exit 130' INT; wait",
    )
    step = Step("slow", "sh {out}/slow", "true", 1, 0, report="report.md")
    run = script(tmp_path, [step], seconds=1.5)
    run.run()
    assert run.outcomes["slow"].state == "shortened"
    assert (tmp_path / "report.md").read_text() == "half\n"
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        if not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]:
            return
        time.sleep(0.05)
    raise AssertionError("the step's child still runs")


def test_a_later_run_makes_only_what_is_not_done_and_vital_steps_again(tmp_path):
    """The next half hour may be on a bare machine: it is set up and checked anew."""
    write(
        tmp_path, setup="echo x >> $(dirname $0)/setups", a="echo x >> $(dirname $0)/as", b="test -e $(dirname $0)/as2"
    )
    steps = [shell("setup", "", vital=True), shell("a", ""), shell("b", "")]
    script(tmp_path, steps).run()
    (tmp_path / "as2").touch()
    again = script(tmp_path, steps)
    again.run()
    assert (tmp_path / "setups").read_text() == "x\nx\n"
    assert (tmp_path / "as").read_text() == "x\n"
    assert {name: outcome.state for name, outcome in again.outcomes.items()} == dict.fromkeys(
        ("setup", "a", "b"), "done"
    )


def test_training_is_skipped_with_the_reason_where_there_are_no_data(tmp_path):
    """Everything else can run."""
    run = script(tmp_path, [Step("training", "true", "true", 1, needs_data=True), Step("sweep", "true", "true", 1)])
    run.run()
    assert run.outcomes["training"] == Outcome("skipped", reason="no data: give DATA=folder")
    assert run.outcomes["sweep"].state == "done"


def test_the_steps_can_be_filled_in_and_fit_the_time():
    """Every command and dry command names known things; the least times leave the long steps room in 25 minutes."""
    names = dict.fromkeys(("python", "host_python", "out", "data", "wheels"), "x")
    for step in STEPS:
        assert "{" not in step.command.format(**names) + step.dry.format(**names)
    assert sum(step.least_s for step in STEPS) < 0.8 * 60 * gpu.MINUTES
    assert [step.name for step in STEPS if step.vital] == ["setup", "checks"]


def test_the_script_needs_no_package():
    """It runs before anything is installed."""
    code = (
        "import sys, benchmarks.gpu;"
        "print({m.split('.')[0] for m in sys.modules} - set(sys.stdlib_module_names) - {'benchmarks', '__main__'})"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
