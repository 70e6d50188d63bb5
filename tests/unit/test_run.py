"""A run from the command line to its report, on engines that follow a script: what is started, sent, kept and told."""

from __future__ import annotations

import asyncio
import errno
import json
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from draftbench import bench
from draftbench.drafts.api import Tree
from draftbench.harness import safe_files
from draftbench.harness.metrics.results import wanted_launches
from draftbench.harness.models.find import EMBEDDED
from draftbench.harness.records import ControlRecord, ReferenceRecord, SampleRecord
from draftbench.harness.run import apart, run_suite, samples
from draftbench.harness.runtime import fleet
from draftbench.harness.runtime.tensors import read_tensors
from draftbench.harness.store import RunStore
from draftbench.harness.suite import load_suite
from draftbench.harness.workloads.conversations import load_set
from draftbench.reports import files
from draftbench.reports.verify import verify
from tests.fakes.scripted_engine import EOS, WORDS, Asked, Script, ScriptedFleet, Stage, another_word, own_answer

SUITE = """\
version: 1
name: small
target: {model: tiny, dtype: float32}
arms:
  - {name: vanilla, architecture: vanilla}
  - {name: hass, architecture: eagle, checkpoint: tiny/hass, num_steps: 3, topk: 1, num_draft_tokens: 4}
  - {name: lookup, architecture: prompt_lookup, num_steps: 3, topk: 1, num_draft_tokens: 4}
workloads:
  - {name: chat, source: chat_jsonl, path: chat.jsonl}
sampling: {temperature: 0, max_tokens: 24, seed: 0}
load: [{concurrency: 1}, {concurrency: 2}]
blocks: 2
"""
ONE_LOAD = SUITE.replace("[{concurrency: 1}, {concurrency: 2}]", "[{concurrency: 1}]")
AUTO = ONE_LOAD.replace("path: chat.jsonl", "path: chat.jsonl, num_prompts: 1").replace(
    "blocks: 2", "blocks: auto\nauto: {half_width: HALF, time_limit_s: LIMIT}"
)
CHAT = [{"id": f"c{n}", "turns": [f"Work out {n} + 57.", "Now add 10 to it."]} for n in (34, 45, 56)]
DRAFTS = Script(accepted=(2, 0, 3), round_s=0.003)
SOUND = {"hass": DRAFTS, "lookup": replace(DRAFTS, accepted=(0, 1))}
"""Scripts of drafts with which nothing is wrong."""
NOISES = {"unstable step time", "impossible speedup"}
"""Gates that a busy machine can make fire at these times of milliseconds."""


@cache
def tensors(folders: tuple[Path, ...]) -> Any:
    """Of embedded drafts, read once: that takes a process of its own."""
    return read_tensors(folders)


class Play:
    """Calls bench.py in this process, the report too, its engines on the stage. Figures are drawn where asked for."""

    def __init__(
        self, folder: Path, stage: Stage, patch: pytest.MonkeyPatch, output: pytest.CaptureFixture[str]
    ) -> None:
        self.folder, self.out, self.stage = folder, folder / "run", stage
        self.chat = list(CHAT)
        self.told, self.said_wrong = "", ""
        """What the last command printed."""
        self._patch, self._output = patch, output

    def __call__(
        self, scripts: dict[str, Script], *words: str, suite: str = SUITE, room: int = 8, slow: str | None = None,
        figures: bool = False,
    ) -> int:  # fmt: skip
        """Run the suite."""
        (self.folder / "chat.jsonl").write_text("".join(json.dumps(record) + "\n" for record in self.chat))
        (self.folder / "small.yaml").write_text(suite)
        with pytest.MonkeyPatch.context() as patch:
            if not figures:
                patch.setattr(files, "draw_figures", lambda *_: ())
            named = (str(self.folder / "small.yaml"), "--out", str(self.out))
            return self.command(scripts, *named, *words, room=room, slow=slow)

    def command(
        self, scripts: dict[str, Script], *words: str, room: int = 8, slow: str | None = None,
        call: Callable[[list[str]], int] = bench.main,
    ) -> int:  # fmt: skip
        """Any command.

        Args:
            call: what runs it in place of the command line.
        """

        def find(*asked: Any, preload: bool = False) -> ScriptedFleet:
            return ScriptedFleet(find_fleet(*asked[:4], False), scripts, self.stage, room, slow)  # type: ignore[call-arg]

        self._patch.setattr(fleet, "find_fleet", find)
        self._patch.setattr(apart, "report", lambda folder: bench.main(["report", str(folder)]))
        self._patch.setattr(fleet, "read_tensors", lambda folders: tensors(tuple(folders)))
        load_set.cache_clear()  # as in a process of its own
        code = call(list(words))
        assert self.stage.running == [], "whatever happens, no engine is left"
        printed = self._output.readouterr()
        self.told, self.said_wrong = (" ".join(text.split()) for text in printed)
        return code

    def mismatches(self) -> tuple[str, ...]:
        """What `verify` finds, but for the figures that were not drawn."""
        drawn = any((self.out / "figures").glob("*.svg"))
        with pytest.MonkeyPatch.context() as patch:
            if not drawn:
                patch.setattr(files, "draw_figures", lambda *_: ())
            return verify(self.out).mismatches

    @property
    def rows(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Of results.json, by arm and load."""
        return {(row["arm"], row["load"]): row for row in json.loads((self.out / "results.json").read_text())}

    @property
    def manifest(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.out / "manifest.json").read_text())
        return found

    def findings(self, arm: str, load: str = "c=1") -> dict[str, str]:
        """The gates that fired, with their evidence."""
        return {found["gate"]: found["evidence"] for found in self.rows[arm, load]["detail"]["findings"]}

    def events(self, *kinds: str) -> list[str]:
        return [event for event in self.stage.events if event.split()[0] in kinds]

    def lines(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.out / name).read_text().splitlines()]


find_fleet = fleet.find_fleet


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Play]:
    # Tests that were started in the background may ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with Stage() as stage:
        yield Play(tmp_path, stage, monkeypatch, capsys)
    signal.signal(signal.SIGINT, before)


def once(*slugs: str) -> Callable[[Asked], bool]:
    """Whether a request is the first one of these cells."""
    seen: list[Asked] = []

    def is_first(asked: Asked) -> bool:
        if asked.is_of(*slugs):
            seen.append(asked)
        return [asked] == seen

    return is_first


def test_a_run_starts_everything_side_by_side_once_and_reports_every_row(play):
    """Passes of vanilla, warm-ups, cells after a flush each, and a report whose numbers come from the records."""
    assert play(SOUND, figures=True) == 0
    assert list((play.out / "figures").glob("throughput-chat.*"))
    assert sorted(play.events("begin")) == ["begin hass", "begin lookup", "begin vanilla"]
    assert [event.split()[0] for event in play.events("begin", "ready")] == ["begin", "ready"] + ["begin"] * 2 + [
        "ready"
    ] * 2, "vanilla makes its passes, the others then start together"
    assert play.stage.events[0] == "preload"
    assert len(play.events("flush")) == 3 * 2 * 2
    assert play.manifest["finished"]
    assert play.manifest["engine_starts"] == "forked from a preloaded process"
    assert play.manifest["engines"]["hass"]["draft_class"] == "LlamaForCausalLMEagle"
    assert list(play.rows) == [(arm, load) for load in ("c=1", "c=2") for arm in ("vanilla", "hass", "lookup")]
    for (arm, load), row in play.rows.items():
        assert set(play.findings(arm, load)) <= NOISES
        assert (row["num_requests"], row["num_failed"], row["lossless_share"]) == (12, 0, 1)
    assert play.rows["hass", "c=1"]["acceptance_length"] > play.rows["lookup", "c=1"]["acceptance_length"] > 1
    assert f"report: {play.out / 'report.md'}".replace(" ", "") in play.told.replace(" ", "")
    assert play.mismatches() == ()


def test_prompts_are_equal_across_arms_and_turns_have_history(play):
    """One hash for a request whoever is asked; second turns hold vanilla's answer to the first."""
    assert play(SOUND) == 0
    sent = {(asked.arm, asked.prompt_ids) for asked in play.stage.sent("l0-b0-", "l0-b1-")}
    prompts = {prompt for _, prompt in sent}
    assert (len(prompts), len(sent)) == (6, 3 * 6)
    references = RunStore(play.out).read(ReferenceRecord)
    first, second = ([record for record in references if record.turn == turn] for turn in (0, 1))
    assert {record.prompt_ids for record in references} == prompts
    for before, after in zip(first, second, strict=True):
        assert before.output_ids == own_answer(Asked("", "", before.prompt_ids, 24, 0))
        assert len(after.prompt_ids) > len(before.prompt_ids) + len(before.output_ids)
    assert len(play.stage.sent("l0-b-1-reference-")) == len(play.stage.sent("l0-b-2-reference-")) == 3
    assert len(play.stage.sent("l0-b-50-control-")) == 6


def test_engines_rest_while_another_is_measured(play):
    """Where arms take turns prompt by prompt, and where they take turns cell by cell; one that rests answers nobody."""
    assert play(SOUND) == 0
    for load in ("c1", "c2"):
        measured = [asked for asked in play.stage.asked if asked.request_id[:5] in ("l0-b0", "l0-b1")]
        measured = [asked for asked in measured if f"-{load}-" in asked.request_id]
        assert {asked.arm for asked in measured} == {"vanilla", "hass", "lookup"}
        assert all(asked.awake == (asked.arm,) for asked in measured)


def test_an_engine_that_cannot_be_measured_rests_too(play):
    """Whichever place it has among those that take turns."""
    assert play({**SOUND, "hass": replace(DRAFTS, flush_error="requests are running")}, suite=ONE_LOAD) == 0
    measured = [asked for asked in play.stage.asked if asked.is_of("l0-b0-", "l0-b1-")]
    assert {asked.arm for asked in measured} == {"vanilla", "lookup"}
    assert all(asked.awake == (asked.arm,) for asked in measured)


def test_an_interrupted_run_goes_on_where_it_was(play):
    """Ctrl-C in a cell: engines end, sealed cells and references stay, the cell is measured anew from its beginning."""
    interrupted = {**SOUND, "hass": replace(DRAFTS, interrupts=once("l0-b1-hass-"))}
    assert play(interrupted) == 130
    assert "what was measured is kept" in play.said_wrong
    sealed = play.lines("cells.jsonl")
    assert 0 < len(sealed) < 12
    before = len(play.stage.asked)
    assert play(SOUND) == 2
    assert "already holds a run" in play.said_wrong
    assert play(SOUND, "--resume") == 0
    again = play.stage.asked[before:]
    assert not [asked for asked in again if asked.is_of("l0-b-1-reference", "l0-b-50-control")]
    measured = {asked.request_id.rsplit("-", 2)[0] for asked in again if asked.is_of("l0-b0-", "l0-b1-")}
    assert len(measured) == 12 - len(sealed)
    assert play.lines("cells.jsonl")[: len(sealed)] == sealed
    assert {row["num_requests"] for row in play.rows.values()} == {12}
    assert all(set(play.findings(*row)) <= NOISES | {"split block"} for row in play.rows)
    assert play.manifest["num_resumed"] == 1
    assert play.mismatches() == ()


def test_a_full_disk_ends_a_run_that_goes_on_once_there_is_space(play, monkeypatch):
    """A sentence and exit code 2, engines end, whole lines stay; the cell is measured anew."""
    written, write = [], safe_files._write

    def fill(file: Any, data: bytes) -> None:
        written.append(len(data))
        if len(written) > 40:
            write(file, data[:20])
            raise OSError(errno.ENOSPC, "No space left on device")
        write(file, data)

    with monkeypatch.context() as patch:
        patch.setattr(safe_files, "_write", fill)
        assert play(SOUND, suite=ONE_LOAD) == 2
    assert "cannot be written (No space left on device): make space. What was measured is kept" in play.said_wrong
    for name in ("requests.jsonl", "cells.jsonl", "references.jsonl"):
        assert play.lines(name), name
    sealed = play.lines("cells.jsonl")
    assert play(SOUND, "--resume", suite=ONE_LOAD) == 0
    assert play.lines("cells.jsonl")[: len(sealed)] == sealed
    assert {row["num_requests"] for row in play.rows.values()} == {12}
    assert all(set(play.findings(arm)) <= NOISES | {"split block"} for arm, _ in play.rows)


def test_every_sealed_cell_has_one_window_around_its_requests(play):
    """Also in a run that was interrupted; the engine's processes are counted."""
    assert play({**SOUND, "lookup": replace(DRAFTS, interrupts=once("l0-b0-lookup-"))}) == 130
    assert play(SOUND, "--resume") == 0
    windows = {json.dumps(window["cell"]): window for window in play.lines("telemetry.jsonl")}
    assert sorted(windows) == sorted(json.dumps(record["cell"]) for record in play.lines("cells.jsonl"))
    assert len(windows) == len(play.lines("telemetry.jsonl")) == 12
    for request in play.lines("requests.jsonl"):
        window = windows[json.dumps(request["cell"])]
        assert window["started_ns"] <= request["sent_ns"]
        assert request["finished_ns"] <= window["finished_ns"]
    used_s = [window["processes"]["engine_cpu_s"] for window in windows.values()]
    assert None not in used_s
    assert sum(used_s) > 0  # a turn of this engine may be shorter than the system's clock tells


def test_an_engine_that_dies_fails_its_cell_alone_and_is_started_anew(play):
    """Its row names the reason; cells before and after stay, and the other arms' are all there."""
    assert play({**SOUND, "hass": replace(DRAFTS, dies=once("l0-b0-hass-chat-c1"))}) == 0
    assert play.events("begin").count("begin hass") == 2
    failed = [record for record in play.lines("cells.jsonl") if record["error"] is not None]
    assert [(record["cell"]["arm"], record["cell"]["block"], record["cell"]["concurrency"]) for record in failed] == [
        ("hass", 0, 1)
    ]
    assert "it was killed" in failed[0]["error"]
    assert len(play.lines("cells.jsonl")) == 12
    assert {"failed cell", "failures"} <= set(play.findings("hass"))
    assert not play.rows["hass", "c=1"]["valid"]
    assert play.rows["hass", "c=1"]["detail"]["against"] == {}
    assert set(play.findings("hass", "c=2")) <= NOISES
    assert set(play.findings("vanilla")) | set(play.findings("lookup")) <= NOISES
    assert play(SOUND, "--resume") == 0, "a cell that failed is tried again"
    assert set(play.findings("hass")) <= NOISES | {"split block"}


def test_an_engine_that_does_not_start_fails_its_own_cells_only(play):
    """With the reason, once; a run that goes on starts it, and nobody whose cells are all there."""
    assert play({**SOUND, "hass": replace(DRAFTS, start_error="no such tensor")}) == 0
    assert play.events("begin").count("begin hass") == 1
    assert play.findings("hass")["failed cell"] == "2 of 2 cells: arm hass: no such tensor"
    assert "hass: FAILED: arm hass: no such tensor" in play.told
    assert play.told.count("FAILED: as before") == 3
    assert set(play.findings("vanilla")) | set(play.findings("lookup", "c=2")) <= NOISES
    play.stage.events.clear()
    assert play(SOUND, "--resume") == 0
    assert play.events("begin") == ["begin hass"], "references are recorded, the others' cells are sealed"
    assert set(play.findings("hass")) <= NOISES | {"split block"}


def test_a_finished_run_starts_nothing_again(play):
    """Nor does it import anything that it would start it with."""
    assert play(SOUND, suite=ONE_LOAD) == 0
    rows = (play.out / "results.json").read_bytes()
    play.stage.events.clear()
    assert play(SOUND, "--resume", suite=ONE_LOAD) == 0
    assert play.events("begin") == []
    assert (play.out / "results.json").read_bytes() == rows


def test_engines_that_have_no_room_take_turns(play):
    """One at a time: an arm runs all its cells of a block before the next engine starts."""
    assert play(SOUND, room=1) == 0
    orders = [record["cell"]["arm"] for record in play.lines("cells.jsonl")]
    assert all(first == second for first, second in zip(orders[::2], orders[1::2], strict=True))
    running = 0
    for event in play.events("begin", "stop"):
        running += 1 if event.startswith("begin") else -1
        assert running <= 1
    assert all(set(play.findings(*row)) <= NOISES for row in play.rows)


def test_caches_that_cannot_be_flushed_fail_the_cell(play):
    """A warm cache must not be measured as a cold one."""
    assert play({**SOUND, "hass": replace(DRAFTS, flush_error="requests are running")}, suite=ONE_LOAD) == 0
    assert "the engine did not flush its caches: requests are running" in play.findings("hass")["failed cell"]
    assert not play.stage.sent("l0-b0-hass-", "l0-b1-hass-")
    assert set(play.findings("vanilla")) <= NOISES


def test_gates_fire_for_what_engines_do_wrong(play):
    """A draft that is never right, a cache that is warm on one side, requests that fail."""
    scripts = {
        "hass": replace(DRAFTS, accepted=(0,), cached_tokens=4),
        "lookup": replace(DRAFTS, fails=lambda asked: "out of memory" if asked.is_of("l0-b0-lookup-chat-c2") else None),
    }
    assert play(scripts) == 0
    found = play.findings("hass")
    assert found["nothing accepted"].endswith("rounds accepted a draft")
    assert "4 cached tokens, vanilla had 0" in found["unequal cache"]
    assert (
        play.findings("lookup", "c=2")["failures"]
        == "6 of 12 requests failed, the first: the server ended the request: out of memory"
    )
    for row in (("hass", "c=1"), ("lookup", "c=2")):
        assert not play.rows[row]["valid"]
        assert play.rows[row]["detail"]["against"] == {}
        assert row[0] not in play.rows["vanilla", row[1]]["detail"]["against"]


def test_engines_that_run_under_other_conditions_are_refused(play):
    """Their resolved arguments are in the way; what the others measure stands."""
    assert play({**SOUND, "hass": replace(DRAFTS, arguments={"max_running_requests": 1})}) == 0
    assert "the arms would not run under equal conditions: max_running_requests" in play.findings("hass")["failed cell"]
    assert set(play.findings("lookup")) <= NOISES


@pytest.mark.parametrize(
    ("deficit", "gates", "num_wrong"), [(1e-5, set(), 0), (2.0, {"not lossless"}, 3)], ids=["a tie", "a wrong token"]
)
def test_outputs_that_differ_are_scored_by_the_target(play, deficit, gates, num_wrong):
    """A token that is all but the best one may differ, another may not; what was scored is not scored again."""
    wrong = replace(DRAFTS, answer=another_word)
    scripts = {**SOUND, "vanilla": Script(deficit=deficit), "hass": wrong}
    assert play(scripts, suite=ONE_LOAD) == 0
    same = play.rows["hass", "c=1"]["detail"]["lossless"]
    assert (same["share"], same["num_different"], same["num_unscored"]) == (0, 6, 0)
    assert same["num_wrong"] == (6 if num_wrong else 0)
    assert same["first_difference"] == 4
    assert same["largest_deficit"] == pytest.approx(deficit)
    assert set(play.findings("hass")) - NOISES == gates
    assert set(play.findings("lookup")) <= NOISES
    assert play.events("begin").count("begin vanilla") == 1, "the launch's own vanilla engine scores"
    scores = play.lines("rescores.jsonl")
    assert sum(score["noise"] is not None for score in scores) == 6
    assert max(score["noise"] for score in scores if score["noise"] is not None) == pytest.approx(1e-5)
    play.stage.events.clear()
    assert play(scripts, "--resume", suite=ONE_LOAD) == 0
    assert play.events("begin") == []
    assert play.lines("rescores.jsonl") == scores


def test_differences_that_cannot_be_scored_are_told_and_scored_later(play):
    """The report leaves them unexplained; a run that goes on starts vanilla's engine for them alone."""
    scripts = {**SOUND, "hass": replace(DRAFTS, answer=another_word)}
    assert play({**scripts, "vanilla": Script(score_error="no memory")}, suite=ONE_LOAD) == 0
    assert "outputs that differ could not be scored: the engine did not score: HTTP 500: no memory" in play.told
    assert play.findings("hass")["unexplained difference"] == "6 of 6 were not scored again"
    play.stage.events.clear()
    assert play(scripts, "--resume", suite=ONE_LOAD) == 0
    assert play.events("begin") == ["begin vanilla"]
    assert set(play.findings("hass")) - NOISES == {"not lossless"}


def test_vanilla_that_differs_from_itself_at_another_batch_shape_is_the_control(play):
    """Its share stands beside every arm's, and its outputs are scored as well."""
    shifted = Script(
        answer=lambda asked: (another_word if asked.is_of("l0-b-50-") else own_answer)(asked), deficit=1e-5
    )
    assert play({**SOUND, "vanilla": shifted}) == 0
    assert play.rows["hass", "c=1"]["detail"]["lossless"]["control_share"] == 0
    assert play.rows["hass", "c=1"]["lossless_share"] == 1
    assert len(RunStore(play.out).read(ControlRecord)) == 6
    assert len(play.lines("rescores.jsonl")) == 6 + 6


def test_launches_are_added_until_intervals_are_narrow_enough(play):
    """The first five say how many it takes; each starts every engine anew, none makes vanilla's passes again."""

    def mood(asked: Asked) -> float:
        return 0.012 * (int(asked.request_id[1]) % 2)  # far above what a busy machine adds

    text = AUTO.replace("HALF", "0.4").replace("LIMIT", "600")
    assert play({**SOUND, "hass": replace(DRAFTS, round_s=0.004, stall_s=mood)}, suite=text) == 0
    launches = {record["cell"]["launch"] for record in play.lines("cells.jsonl")}
    rows = files.read_run(play.out).rows
    assert launches == set(range(wanted_launches(rows, 0.4, 5)))
    assert len(launches) > 5
    assert all(play.events("begin").count(f"begin {arm}") == len(launches) for arm in ("vanilla", "hass", "lookup"))
    assert len(play.stage.sent("l0-b-1-reference-")) == 1
    assert len(play.stage.sent("l0-b-50-control-")) == 2


def test_no_launch_is_added_once_the_time_is_up(play):
    """It is said that intervals stay wider."""
    assert play(SOUND, suite=AUTO.replace("HALF", "0.0001").replace("LIMIT", "1")) == 0
    launches = {record["cell"]["launch"] for record in play.lines("cells.jsonl")}
    assert f"time limit reached after {len(launches)} launches of " in play.told
    assert len(launches) >= 5


def test_prompts_that_do_not_fit_are_refused_before_anything_starts(play):
    """With the prompt and the numbers."""
    assert play(SOUND, suite=SUITE + "max_total_tokens: 32\n") == 2
    assert "max_total_tokens of the suite is 32" in play.said_wrong
    assert play.events("begin") == []
    assert not (play.out / "requests.jsonl").exists()


def test_a_later_turn_that_does_not_fit_ends_the_run_before_anything_is_measured(play):
    """Its length is known once the turn before is answered."""
    assert play(SOUND, suite=SUITE + "max_total_tokens: 56\n") == 2
    assert "(turn 2) has" in play.said_wrong
    assert {asked.arm for asked in play.stage.asked} == {"vanilla"}
    assert not (play.out / "requests.jsonl").exists()


def change_data(play: Play) -> None:
    play.chat[1] = {**play.chat[1], "turns": ["Work out 45 + 58.", "Now add 10 to it."]}


def change_template(play: Play) -> None:
    config = play.folder / "target" / "tokenizer_config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps({**values, "chat_template": "Now: " + values["chat_template"]}))


@pytest.mark.parametrize(
    "change",
    [change_data, change_template],
    ids=["data", "template"],
)
def test_prompts_that_changed_are_refused_where_a_run_goes_on(play, change):
    """Those of the second half would not be those of the first."""
    shutil.copytree(EMBEDDED / "tiny" / "target", play.folder / "target")
    text = ONE_LOAD.replace("model: tiny", "model: ./target")
    assert play({**SOUND, "hass": replace(DRAFTS, start_error="not now")}, suite=text) == 0
    change(play)
    requests = play.lines("requests.jsonl")
    assert play(SOUND, "--resume", suite=text) == 2
    assert "is not the prompt that this run began with" in play.said_wrong
    assert play.lines("requests.jsonl") == requests


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("checkpoint: tiny/hass", "checkpoint: tiny/medusa", "missing: fc.weight"),
        ("architecture: eagle, checkpoint: tiny/hass", "architecture: medusa, checkpoint: tiny/hass", "no Medusa"),
        (
            "architecture: eagle, checkpoint: tiny/hass",
            "architecture: prism, options: {step_to_module: [0, 0, 0]}, checkpoint: tiny/prism",
            "options.step_to_module is [0, 0, 0], but the file's modules are 0 to 1",
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_before_anything_starts(play, old, new, said):
    """The arm and the tensor or key are named, and no run is left behind."""
    assert play(SOUND, suite=SUITE.replace(old, new)) == 2
    assert "arm hass: " in play.said_wrong
    assert said in play.said_wrong
    assert not play.stage.events
    assert not play.out.exists()


def test_a_failed_reference_ends_the_run(play):
    """There would be nothing to hold anything against."""
    assert (
        play({"vanilla": Script(fails=lambda asked: "out of memory" if asked.is_of("l0-b-1-reference") else None)}) == 2
    )
    assert "the reference pass failed at " in play.said_wrong
    assert not (play.out / "requests.jsonl").exists()


def test_at_a_temperature_every_arm_samples_once_and_is_held_against_vanilla(play, monkeypatch):
    """Continuations of open prompts, scored by the target; another distribution is found, a run that goes on does not
    sample or score again."""
    monkeypatch.setattr(samples, "OPEN_TOKENS", 8)
    text = ONE_LOAD.replace("temperature: 0", "temperature: 0.8")
    flat = replace(DRAFTS, answer=lambda asked: (WORDS[0],) * 2 + (EOS,))
    scripts = {**SOUND, "hass": flat}
    assert play(scripts, suite=text) == 0
    assert sorted(record.arm for record in RunStore(play.out).read(SampleRecord)) == sorted(
        arm for arm in ("vanilla", "hass", "lookup") for _ in range(4)
    )
    assert len(play.stage.sent("l0-b-20-hass-open")) == 240
    assert "other distribution" in play.findings("hass")
    assert "other distribution" not in play.findings("lookup")
    assert play.rows["lookup", "c=1"]["lossless_share"] is None
    assert not play.stage.sent("l0-b-50-control")
    assert {(len(line["odds"]), len(line["odds"][0])) for line in play.lines("sample_scores.jsonl")} == {
        (60, 3),
        (60, 8),
    }
    assert len(play.lines("sample_scores.jsonl")) == 12
    (play.out / "cells.jsonl").write_text("")
    before = len(play.stage.sent("l0-b-20-"))
    assert play(scripts, "--resume", suite=text) == 0
    assert len(play.stage.sent("l0-b-20-")) == before
    assert len(play.lines("sample_scores.jsonl")) == 12


def test_samples_that_could_not_be_scored_are_told(play, monkeypatch):
    """The row says that it was hardly tested, and is kept."""
    monkeypatch.setattr(samples, "OPEN_TOKENS", 8)
    text = ONE_LOAD.replace("temperature: 0", "temperature: 0.8")

    def heads_or_tails(asked: Asked) -> tuple[int, ...]:
        return own_answer(asked) if not asked.temperature else tuple(random.choices(WORDS[:2], k=asked.max_tokens))

    scripts = {
        "vanilla": Script(answer=heads_or_tails, score_error="no memory"),
        "hass": replace(DRAFTS, answer=heads_or_tails),
        "lookup": replace(DRAFTS, answer=heads_or_tails),
    }
    assert play(scripts, suite=text) == 0
    assert "sampled continuations could not be scored: the engine did not score: HTTP 500: no memory" in play.told
    assert "the target scored none" in play.findings("lookup")["untested distribution"]
    assert play.rows["lookup", "c=1"]["valid"]


def test_where_starts_cannot_be_quick_it_is_said_and_recorded(play):
    """So it is where the user asks for cold ones."""
    assert play(SOUND, slow="no memory for it", suite=ONE_LOAD) == 0
    assert "engines are started cold: no memory for it" in play.told
    assert play.manifest["engine_starts"] == "cold"
    play.stage.events.clear()
    play.out = play.folder / "cold"
    assert play(SOUND, "--cold-start", suite=ONE_LOAD) == 0
    assert play.manifest["engine_starts"] == "cold"
    assert "preload" not in play.stage.events


def test_requests_beyond_a_drafts_training_are_told_before_and_in_the_row(play):
    """A head made for fewer positions than the target runs (sglang#3574); its row carries a warning with the length."""
    shutil.copytree(EMBEDDED / "tiny" / "hass", play.folder / "short")
    config = play.folder / "short" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "max_position_embeddings": 20}))
    assert play(SOUND, suite=ONE_LOAD.replace("tiny/hass", "./short")) == 0
    assert "arm hass: its draft was made for 20 tokens, and a request may be" in play.told
    assert play.findings("hass")["beyond training"].endswith("the draft was made for 20")
    assert "beyond training" not in play.findings("lookup")
    assert play.rows["hass", "c=1"]["valid"]
    assert play.mismatches() == ()


def test_a_run_in_which_every_cell_failed_does_not_end_with_0(play):
    """Whatever asked for the run must not take its report for results; without vanilla there is no report."""
    failing = {name: replace(script, flush_error="requests are running") for name, script in SOUND.items()}
    failing["vanilla"] = Script(flush_error="requests are running")
    assert play(failing, suite=ONE_LOAD) == 1
    assert not any(row["valid"] for row in play.rows.values())
    play.out = play.folder / "unstarted"
    assert play({**SOUND, "vanilla": Script(start_error="no such tensor")}, suite=ONE_LOAD) == 2


TUNED = """\
version: 1
name: small
target: {model: tiny, dtype: float32}
arms:
  - {name: vanilla, architecture: vanilla}
  - {name: lookup, architecture: prompt_lookup, num_steps: 3, topk: 2, num_draft_tokens: 6}
workloads:
  - {name: recall, source: synthetic, family: recall, num_prompts: 2}
sampling: {temperature: 0, max_tokens: 16, seed: 0}
load: [{concurrency: 1}]
blocks: 1
tune: {configurations: 2, prompts: 2, blocks: 1}
"""


def test_trees_are_tried_and_the_tuned_suite_says_how(play):
    """A run with its report, on other prompts than the suite's; resumed, it is not run again and says the same."""
    suite, runs = play.folder / "small.yaml", play.folder / "runs"
    suite.write_text(TUNED)
    scripts = {
        "lookup.3x2x6": Script(accepted=(1,), round_s=0.03),
        "lookup.3x8x16": Script(accepted=(3,), round_s=0.004),
    }
    assert play.command(scripts, "tune", str(suite), "--runs", str(runs)) == 0
    arm = load_suite(play.folder / "small-tuned.yaml").arms[-1]
    assert arm.tuning is not None
    assert (arm.tuning.configurations, arm.tuning.run) == (2, "runs")
    assert arm.tree == Tree(3, 8, 16), "the faster one"
    play.out = runs / "last"
    assert play.manifest["finished"]
    assert [each["name"] for each in play.manifest["suite"]["arms"]] == ["vanilla", "lookup.3x2x6", "lookup.3x8x16"]
    assert (play.out / "report.md").exists()
    assert {record.prompt_id for record in RunStore(play.out).read(ReferenceRecord)} == {"recall-2", "recall-3"}
    play.stage.events.clear()
    again = play.folder / "again.yaml"
    assert play.command(scripts, "tune", str(suite), "--runs", str(runs), "--resume", "--out", str(again)) == 0
    assert play.events("begin") == []
    assert again.read_text() == (play.folder / "small-tuned.yaml").read_text()


def test_a_notebook_runs_a_suite_where_an_event_loop_runs_already(play):
    """The same records as from the command line, the loop goes on afterwards, and progress comes in plain lines."""
    (play.folder / "chat.jsonl").write_text("".join(json.dumps(record) + "\n" for record in CHAT))
    (play.folder / "small.yaml").write_text(ONE_LOAD)

    async def cell() -> None:
        before = asyncio.get_running_loop()
        run = run_suite(play.folder / "small.yaml", play.out)
        assert asyncio.get_running_loop() is before
        await asyncio.sleep(0)
        assert {row.arm for row in run.rows} == {"vanilla", "hass", "lookup"}

    def call(words: list[str]) -> int:
        asyncio.run(cell())
        return 0

    assert play.command(SOUND, call=call) == 0
    assert play.manifest["finished"]
    assert (play.manifest["command"], play.manifest["suite_text"]) == ("run_suite", ONE_LOAD)
    assert "[6/6] launch 0 block 1" in play.told
    assert not (play.out / "report.md").exists(), "what is measured is presented when it is asked for"


def test_a_suite_made_in_a_program_runs(play):
    """From an object, into the folder of its name and time; its text is what it says."""
    suite = load_suite(Path("suites/selftest.yaml")).model_copy(update={"name": "made"})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(play.folder)

        def call(words: list[str]) -> int:
            play.out = play.folder / run_suite(suite).folder
            return 0

        equal = {arm.name: Script() for arm in suite.arms}
        assert play.command(equal, call=call) == 0
    assert play.out.parent == play.folder / "runs"
    assert play.out.name.startswith("made-")
    assert json.loads(play.manifest["suite_text"])["name"] == "made"
