"""The GPU script's steps with commands of the shell in place of engines: time, skipping, resuming, failing, ending."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import gpu
from benchmarks.gpu import Outcome, Script, shown
from benchmarks.gpu_steps import COSTS, STEPS, Cost, Step
from benchmarks.trained_target import set_aside


def script(tmp_path: Path, steps: list[Step], seconds: float = 60.0, **names: str) -> Script:
    known = {"python": sys.executable, "host_python": sys.executable, "out": str(tmp_path), "data": "", "wheels": ""}
    return Script(steps, tmp_path, {**known, **names}, seconds)


def shell(name: str, text: str, **fields: object) -> Step:
    """A step that runs a line of shell, written to a file because commands are split at spaces."""
    return Step(name, "sh {out}/" + name, "true", Cost(0, 0), **fields)  # type: ignore[arg-type]


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
    assert run.table().endswith("besides set-up and checks: a")


def test_nothing_is_begun_after_a_vital_step_that_failed(tmp_path):
    """Without a set-up or with a driver that does not fit, nothing is measured."""
    write(tmp_path, a="exit 1", b="touch $(dirname $0)/made")
    run = script(tmp_path, [shell("a", "", vital=True), shell("b", "")])
    run.run()
    assert run.outcomes["b"] == Outcome("left", reason="a failed", visits=0)
    assert not (tmp_path / "made").exists()


@dataclass
class Visit:
    """A visit with a fake clock: every step takes what it is told to, or is cut at what it is allowed."""

    folder: Path
    steps: list[Step]
    takes: dict[str, float]
    monkeypatch: pytest.MonkeyPatch
    began: list[tuple[str, float]] = field(default_factory=list)

    def run(self, seconds: float, cold: bool = False, **names: str) -> Script:
        """One visit; what began, and with how much time."""
        self.began.clear()
        now = SimpleNamespace(s=0.0)

        def watch(_: Script, step: Step, command: list[str], allowed_s: float) -> Outcome:
            self.began.append((step.name, round(allowed_s)))
            spent = min(self.takes[step.name], allowed_s)
            now.s += spent
            if step.leaves:
                (self.folder / step.leaves).touch()
            return Outcome("done" if spent == self.takes[step.name] else "shortened", spent)

        self.monkeypatch.setattr(time, "monotonic", lambda: now.s)
        self.monkeypatch.setattr(Script, "_watch", watch)
        known = {"python": "p", "host_python": "p", "out": str(self.folder), "data": "d", "wheels": "", **names}
        found = Script(self.steps, self.folder, known, seconds, cold=cold)
        found.run()
        return found

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.began]


def priced(name: str, starts: float, measuring: float, first: float = 0, **fields: Any) -> Step:
    return Step(name, "x", "x", Cost(starts, measuring, first), **fields)


def test_a_step_that_does_not_fit_is_left_and_later_ones_that_fit_are_made(tmp_path, monkeypatch):
    """Of 200 s, 100 are spent; a step that is of use only when whole wants 80 and its end 25, a short one fits."""
    steps = [priced("a", 10, 90), priced("whole", 30, 50), priced("short", 0, 2)]
    visit = Visit(tmp_path, steps, {"a": 100, "whole": 80, "short": 2}, monkeypatch)
    found = visit.run(200)
    assert visit.names == ["a", "short"]
    assert found.outcomes["whole"] == Outcome("left", 0, "100 s left, 105 needed", 0)
    assert "left for another visit with the same OUT, about 80 s besides set-up and checks: whole" in found.table()
    visit.run(200)
    assert visit.names == ["whole"]


def test_a_step_that_can_be_cut_begins_with_time_for_a_first_result_and_goes_on_where_it_was(tmp_path, monkeypatch):
    """Starts of 30 s and 40 s of measuring are enough; what was measured is not counted again, the starts are."""
    steps = [priced("cells", 30, 200, 40)]
    visit = Visit(tmp_path, steps, {"cells": 230}, monkeypatch)
    assert visit.run(90).outcomes["cells"].state == "left"
    assert visit.run(155).outcomes["cells"] == Outcome("shortened", 130, "", 1)
    visit.takes["cells"] = 130
    found = visit.run(200)
    assert visit.began == [("cells", 175)]
    assert found.outcomes["cells"] == Outcome("done", 260, "", 2)


def test_on_a_cold_host_the_first_engines_compile_and_the_next_do_not(tmp_path, monkeypatch):
    """70 s more are needed once; and what compiled says nothing about how fast the host is."""
    steps = [priced("setup", 0, 20, vital=True), priced("a", 30, 10), priced("b", 30, 10)]
    visit = Visit(tmp_path, steps, {"setup": 20, "a": 110, "b": 40}, monkeypatch)
    assert visit.run(150, cold=True).outcomes["a"].reason == "130 s left, 135 needed"
    assert visit.names == ["setup"]
    found = visit.run(210, cold=True)
    assert visit.names == ["setup", "a", "b"]
    assert found.outcomes["a"].compiled
    assert not found.outcomes["b"].compiled


def test_what_steps_took_here_tells_what_later_ones_take(tmp_path, monkeypatch):
    """A host on which 100 s became 50 has time for a step of 100 s in 80."""
    visit = Visit(tmp_path, [priced("a", 10, 90), priced("b", 10, 90)], {"a": 50, "b": 50}, monkeypatch)
    visit.run(130)
    assert visit.names == ["a", "b"]


def test_a_step_that_hangs_does_not_take_the_whole_visit(tmp_path, monkeypatch):
    """It gets twice what it should take, and a minute; then what comes after it has its turn."""
    visit = Visit(tmp_path, [priced("hangs", 30, 20, 10), priced("b", 0, 5)], {"hangs": 9999, "b": 5}, monkeypatch)
    visit.run(600)
    assert visit.began[0] == ("hangs", 160)
    assert visit.names == ["hangs", "b"]


def test_what_failed_on_an_earlier_visit_waits_for_what_was_not_tried(tmp_path, monkeypatch):
    """Set-up and checks come first all the same."""
    steps = [priced("setup", 0, 5, vital=True), priced("a", 5, 5), priced("b", 5, 5)]
    (tmp_path / "state.json").write_text(json.dumps({"a": {"state": "failed"}, "setup": {"state": "failed"}}))
    visit = Visit(tmp_path, steps, dict.fromkeys(("setup", "a", "b"), 5), monkeypatch)
    visit.run(600)
    assert visit.names == ["setup", "b", "a"]


def test_training_begins_with_time_for_its_report_and_is_made_again_where_its_models_are_gone(tmp_path, monkeypatch):
    """The report reads the drafts; another machine has none of them, and a report that is done needs none."""
    steps = [priced("train", 0, 100, leaves="model", then="report"), priced("report", 30, 60, 20, needs="train")]
    visit = Visit(tmp_path, steps, {"train": 100, "report": 90}, monkeypatch)
    visit.run(170)
    assert visit.names == []
    assert visit.run(180).outcomes["report"].state == "shortened"
    (tmp_path / "model").unlink()
    visit.run(400)
    assert visit.names == ["train", "report"]
    (tmp_path / "model").unlink()
    visit.run(400)
    assert visit.names == []


def test_the_first_table_is_there_two_minutes_into_a_warm_host():
    """Set-up, checks, and vanilla, EAGLE and PRISM on the embedded target, by what was seen; lossless is begun too."""
    costs = [step.cost.whole for step in STEPS[:3]]
    assert [step.name for step in STEPS[:3]] == ["setup", "checks", "first-table"]
    assert sum(costs) - COSTS["setup"].whole <= 120
    assert "name: vanilla" in Path("suites/gpu/first-table.yaml").read_text()


def test_a_visit_of_six_minutes_can_begin_every_step():
    """Each has its least, and its end, after set-up and checks; only training wants seven, for its report follows."""
    before = COSTS["setup"].whole + COSTS["checks"].whole
    for step in STEPS:
        following = sum(COSTS[each.name].least(0) for each in STEPS if each.name == step.then)
        assert before + step.cost.least(0) + following + gpu.STOP_S <= (420 if step.then else 360), step.name


def test_what_is_brought_back_has_no_models(tmp_path):
    """Folders that hold weights, and those of the trained target and its drafts, stay behind; the rest comes along."""
    kept = ("rounds/rounds.md", "rounds/run/engines/eagle/engine.log", "trained/x.yaml")
    models = ("rounds/eagle/model.safetensors", "rounds/eagle/config.json", "trained/drafts/ledger.json")
    for name in (*kept, *models, "trained/target/training.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    gpu.archive(tmp_path)
    gpu.archive(tmp_path)
    with tarfile.open(tmp_path / "kept.tgz") as tar:
        assert sorted(tar.getnames()) == sorted(kept)


def test_reports_begun_on_an_earlier_target_are_set_aside(tmp_path):
    """They are of weights that are gone, and cannot be gone on with; a finished one stays."""
    for name, finished in (("quickstart", True), ("sweep", False), ("sweep-earlier-1", False)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(json.dumps({"finished": finished}))
    set_aside(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["quickstart", "sweep-earlier-1", "sweep-earlier-2"]


def test_results_are_kept_however_the_script_ends(tmp_path):
    """Killed while the second step runs: the first is in the archive, the second is known to have begun."""
    write(tmp_path, a="echo 1 > $(dirname $0)/result", b="kill -9 $PPID; sleep 1")
    code = (
        "import pathlib, sys; from benchmarks.gpu import *; from benchmarks.gpu_steps import *\n"
        f"out = pathlib.Path({str(tmp_path)!r})\n"
        "steps = [Step(n, 'sh {out}/' + n, '', Cost(0, 0)) for n in 'ab']\n"
        "Script(steps, out, {'out': str(out), 'data': ''}, 60).run()"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    states = {name: found["state"] for name, found in json.loads((tmp_path / "state.json").read_text()).items()}
    assert states == {"a": "done", "b": "begun"}
    with tarfile.open(tmp_path / "kept.tgz") as kept:
        assert "result" in kept.getnames()


def test_the_first_table_of_a_report_is_shown(tmp_path):
    """Its lines alone; nothing where there is no report."""
    (tmp_path / "report.md").write_text("# x\n\n| a |\n|---|\n| 1 |\n\n| b |\n")
    assert shown(tmp_path / "report.md") == "| a |\n|---|\n| 1 |\n"
    assert shown(tmp_path / "none.md") == shown(tmp_path) == ""


def test_a_step_whose_time_is_up_is_interrupted_keeps_its_report_and_leaves_no_process(tmp_path, monkeypatch):
    """It is told by SIGINT, as by Ctrl-C, writes what it has, and its children end with it."""
    write(
        tmp_path,
        slow="sleep 60 & echo $! > $(dirname $0)/child; trap 'echo half > $(dirname $0)/report.md; exit 130' INT; wait",
    )
    step = Step("slow", "sh {out}/slow", "true", Cost(0, 1, 0.1), report="report.md")
    monkeypatch.setattr(gpu, "STOP_S", 5.0)
    run = script(tmp_path, [step], seconds=6.5)
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
    """Everything else can run, also what would otherwise wait for it."""
    training = Step("training", "true", "true", Cost(0, 1), needs_data=True, leaves="model")
    run = script(tmp_path, [training, Step("sweep", "true", "true", Cost(0, 1), needs="training")])
    run.run()
    assert run.outcomes["training"] == Outcome("skipped", reason="no data: give DATA=folder")
    assert run.outcomes["sweep"].state == "done"


def test_the_steps_can_be_filled_in():
    """Every command and dry command names known things, every needed step comes earlier, and each has its cost."""
    names = dict.fromkeys(("python", "host_python", "out", "data", "wheels"), "x")
    known = [step.name for step in STEPS]
    for number, step in enumerate(STEPS):
        assert "{" not in step.command.format(**names) + step.dry.format(**names)
        assert not step.needs or step.needs in known[:number]
        assert not step.then or step.then == known[number + 1]
    assert [step.name for step in STEPS if step.vital] == ["setup", "checks"]
    assert known == list(COSTS)


def test_the_script_needs_no_package():
    """It runs before anything is installed."""
    code = (
        "import sys, benchmarks.gpu;"
        "print({m.split('.')[0] for m in sys.modules} - set(sys.stdlib_module_names) - {'benchmarks', '__main__'})"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
