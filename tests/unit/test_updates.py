"""Runs with a draft that is updated between blocks, on engines that follow a script: what it learns from, when, what
its engine gets, and what happens where that fails or the run is interrupted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from draftbench.drafts.updated import UpdateJob, UpdateOutcome
from draftbench.harness.errors import SuiteError
from draftbench.harness.host.provenance import file_sha256
from draftbench.harness.run import updates
from draftbench.harness.suite import load_suite
from tests.fakes.scripted_engine import EOS, WORDS, Script
from tests.unit.test_run import DRAFTS, NOISES, Play, once, play  # noqa: F401  # a fixture

ARM = "architecture: online, checkpoint: tiny/standalone, num_steps: 3, topk: 1, num_draft_tokens: 4"
SUITE = f"""\
version: 1
name: small
target: {{model: tiny, dtype: float32}}
arms:
  - {{name: vanilla, architecture: vanilla}}
  - {{name: online, {ARM}}}
workloads:
  - {{name: chat, source: chat_jsonl, path: chat.jsonl}}
sampling: {{temperature: 0, max_tokens: 24, seed: 0}}
load: [{{concurrency: 1}}]
blocks: 3
block_prompts: fresh
"""
SOUND = {"online": DRAFTS}
Failing = Callable[[UpdateJob], bool]


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> dict[str, UpdateJob]:
    """Every update that was made, by its folder; its process is played. Reading the jobs leaves them as they were."""
    found: dict[str, UpdateJob] = {}

    def run_update(module: str, job: UpdateJob, folder: Path) -> UpdateOutcome | str:
        assert module == "draftbench.drafts.training.online_update"
        found[folder.name] = job
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "job.json").write_text(job.model_dump_json())
        if folder.name in FAILING:
            return "exit code 1; the last lines of its log: no space"
        (folder / "model.safetensors").write_text(f"{folder.name} after {job.checkpoint.name}")
        sha256 = file_sha256(folder / "model.safetensors")
        return UpdateOutcome(
            num_steps=2, loss_before=2.0, loss_after=1.5, learning_s=0.5, processor_s=0.4, weights_sha256=sha256
        )

    FAILING.clear()
    monkeypatch.setattr(updates, "run_update", run_update)
    return found


FAILING: set[str] = set()
"""Folders of the updates that fail."""


def loads(play: Play) -> list[str]:  # noqa: F811
    return [event.removeprefix("load online ") for event in play.events("load")]


def test_a_draft_is_updated_after_every_block_from_what_was_rejected_in_it(play: Play, jobs: dict[str, UpdateJob]):  # noqa: F811
    """Each update begins with the weights of the one before; none after the last block; the report tells them."""
    assert play(SOUND, suite=SUITE) == 0
    assert list(jobs) == ["l0-b0-online", "l0-b1-online"]
    assert loads(play) == list(jobs)
    assert [job.checkpoint.name for job in jobs.values()] == ["standalone", "l0-b0-online"]
    assert [job.seed for job in jobs.values()] == [(0, 0), (0, 1)]
    records = play.lines("updates.jsonl")
    assert [(record["launch"], record["block"], record["error"]) for record in records] == [(0, 0, None), (0, 1, None)]
    requests = [line for line in play.lines("requests.jsonl") if line["cell"]["arm"] == "online"]
    for block, job in enumerate(jobs.values()):
        served = {tuple(r["output_ids"]): r for r in requests if r["cell"]["block"] == block}
        assert sum(len(r["output_ids"]) for r in served.values()) == records[block]["num_tokens"]
        for request in job.requests:
            rounds = [round_["num_accepted_drafts"] for round_ in served[request.output_ids]["rounds"]]
            ends = [1 + sum(rounds[: n + 1]) + n for n in range(len(rounds))]
            by_hand = [end for end, count in zip(ends, rounds, strict=True) if count < 3]
            assert list(request.rejected) == [end for end in by_hand if end < len(request.output_ids)]
            assert len(request.prompt_ids) == served[request.output_ids]["num_prompt_tokens"]
    row = play.rows["online (updated between blocks)", "c=1"]
    assert [block["num_updates"] for block in row["detail"]["updating"]["blocks"]] == [0, 1, 2]
    assert row["valid"]
    assert set(play.findings("online (updated between blocks)")) <= NOISES
    report = (play.out / "report.md").read_text()
    assert "## A draft updated between blocks" in report
    assert "online: update after launch 0 block 0:" in play.told
    assert play.mismatches() == ()


def test_every_block_has_prompts_of_its_own_which_all_arms_are_sent(play: Play, jobs: dict[str, UpdateJob]):  # noqa: F811
    """Whole conversations; together they are all prompts."""
    assert play(SOUND, suite=SUITE) == 0
    sent = [
        {(arm, asked.prompt_ids) for arm in ("vanilla", "online") for asked in play.stage.sent(f"l0-b{block}-{arm}")}
        for block in range(3)
    ]
    prompts = [{prompt for _, prompt in block} for block in sent]
    assert [len(block) for block in prompts] == [2, 2, 2]
    assert [len(block) for block in sent] == [4, 4, 4]
    assert len(set.union(*prompts)) == 6


def test_every_launch_begins_with_the_checkpoint_as_it_was_given(play: Play, jobs: dict[str, UpdateJob]):  # noqa: F811
    """Launches repeat each other: the same prompts, the same updates."""
    assert play(SOUND, suite=SUITE + "launches: 2\n") == 0
    names = ["standalone", "l0-b0-online", "standalone", "l1-b0-online"]
    assert [job.checkpoint.name for job in jobs.values()] == names
    assert jobs["l0-b1-online"].requests == jobs["l1-b1-online"].requests
    assert len(play.lines("updates.jsonl")) == 4


def test_updates_come_after_as_many_blocks_as_asked_and_hold_as_many_positions(play: Play, jobs: dict[str, UpdateJob]):  # noqa: F811
    """`every: 2` of three blocks is one update; a buffer of three holds the latest three positions."""
    options = "options: {every: 2, buffer: 3}"
    assert play(SOUND, suite=SUITE.replace(ARM, f"{ARM}, {options}")) == 0
    assert list(jobs) == ["l0-b1-online"]
    (record,) = play.lines("updates.jsonl")
    assert record["num_positions"] == sum(len(r.rejected) for r in jobs["l0-b1-online"].requests) == 3
    assert record["num_dropped"] > 0
    blocks = {r["output_ids"][-2]: r["cell"]["block"] for r in play.lines("requests.jsonl") if r["rounds"]}
    assert {blocks[request.output_ids[-2]] for request in jobs["l0-b1-online"].requests} == {1}


def test_a_run_that_is_resumed_goes_on_with_the_draft_as_it_was(play: Play, jobs: dict[str, UpdateJob]):  # noqa: F811
    """No update is made twice, and the new engine gets the weights that its block has to have."""
    assert play({"online": replace(DRAFTS, interrupts=once("l0-b1-online-"))}, suite=SUITE) == 130
    before, first = (play.out / "updates.jsonl").read_bytes(), dict(jobs)
    assert list(jobs) == loads(play) == ["l0-b0-online"]
    jobs.clear()
    play.stage.events.clear()
    assert play(SOUND, "--resume", suite=SUITE) == 0
    assert list(jobs) == ["l0-b1-online"]
    assert loads(play) == ["l0-b0-online", "l0-b1-online"]
    assert (play.out / "updates.jsonl").read_bytes().startswith(before)
    assert jobs["l0-b1-online"].checkpoint.name == "l0-b0-online"
    assert first["l0-b0-online"].requests


def test_an_engine_that_was_started_anew_gets_the_weights_again(play: Play, jobs: dict[str, UpdateJob]):  # noqa: F811
    """It begins with those of its checkpoint."""
    assert play({"online": replace(DRAFTS, dies=once("l0-b1-online-"))}, suite=SUITE) == 0
    assert loads(play) == ["l0-b0-online", "l0-b0-online"]
    assert list(jobs) == ["l0-b0-online"]
    assert "nothing was rejected, the draft stays as it was" in play.told, "block 1 has no sealed cell"


def test_a_failed_update_leaves_the_draft_as_it_was_and_is_told(play: Play, jobs: dict[str, UpdateJob]):  # noqa: F811
    """The cells go on; the next update learns from both blocks; the row says so."""
    FAILING.add("l0-b0-online")
    assert play(SOUND, suite=SUITE) == 0
    assert loads(play) == ["l0-b1-online"]
    assert jobs["l0-b1-online"].checkpoint.name == "standalone"
    assert set(jobs["l0-b0-online"].requests) < set(jobs["l0-b1-online"].requests)
    assert "update after launch 0 block 0 FAILED, the draft stays as it was: exit code 1" in play.told
    found = play.findings("online (updated between blocks)")
    assert found["failed update"].startswith("1 of 2, the first after launch 0 block 0: exit code 1")
    assert play.rows["online (updated between blocks)", "c=1"]["valid"]


def test_weights_that_an_engine_does_not_take_fail_its_cells(play: Play, jobs: dict[str, UpdateJob]):  # noqa: F811
    """Nobody knows with which it would draft."""
    assert play({"online": replace(DRAFTS, load_error="no such tensor")}, suite=SUITE) == 0
    failed = play.findings("online (updated between blocks)")["failed cell"]
    assert failed.startswith("2 of 3 cells: the engine did not take the draft's weights in ")
    assert failed.endswith("l0-b0-online: no such tensor")
    assert len(play.stage.sent("l0-b0-online-")) == 2
    assert not play.stage.sent("l0-b1-online-", "l0-b2-online-")


def test_weights_that_are_gone_are_not_replaced_by_others(play: Play, jobs: dict[str, UpdateJob]):  # noqa: F811
    """A resumed run whose folder was tampered with fails the cells that need them."""
    assert play({"online": replace(DRAFTS, interrupts=once("l0-b1-online-"))}, suite=SUITE) == 130
    (play.out / "updates" / "l0-b0-online" / "model.safetensors").write_text("other")
    assert play(SOUND, "--resume", suite=SUITE) == 0
    assert (
        "is not there any more as the update after block 0 left it"
        in play.findings("online (updated between blocks)")["failed cell"]
    )


def test_a_draft_that_misses_nothing_is_left_as_it_is(play: Play, jobs: dict[str, UpdateJob]):  # noqa: F811
    """No process is started."""
    whole = Script(accepted=(3,), round_s=0.003, answer=lambda asked: (*WORDS[:8], EOS))
    assert play({"online": whole}, suite=SUITE) == 0
    assert (jobs, loads(play)) == ({}, [])
    assert [record["num_positions"] for record in play.lines("updates.jsonl")] == [0, 0]


def test_samples_are_of_the_draft_that_was_updated(play: Play, jobs: dict[str, UpdateJob]):  # noqa: F811
    """Whether its distribution is the target's is asked after the first update."""
    assert play(SOUND, suite=SUITE.replace("temperature: 0", "temperature: 0.7")) == 0
    asked = [asked.request_id for asked in play.stage.asked if asked.arm == "online"]
    first = next(number for number, name in enumerate(asked) if name.startswith("l0-b-20-online"))
    assert any(name.startswith("l0-b0-online") for name in asked[:first])
    assert not any(name.startswith("l0-b1-online") for name in asked[:first])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("block_prompts: fresh\n", "", "small.yaml:6: arms[1] is updated between blocks and would learn the very"),
        ("blocks: 3", "blocks: 1", "small.yaml:6: arms[1] would be updated after 1 blocks, and a launch has 1"),
        (ARM, f"{ARM}, options: {{loss: l2}}", "small.yaml:6: arms[1].options.loss is 'l2'; "),
        (ARM, f"{ARM}, options: {{every: 0}}", "small.yaml:6: arms[1].options.every is 0; "),
        (ARM, f"{ARM}, simulated_acceptance: [0.5, 0.5, 0.5]", "small.yaml:6: arms[1].simulated_acceptance means not"),
        ("path: chat.jsonl", "path: chat.jsonl, num_prompts: 2", "small.yaml:8: workloads[0].num_prompts is 2, but"),
        ("block_prompts: fresh", "block_prompts: new", "small.yaml:12: block_prompts is 'new'; "),
    ],
)
def test_what_does_not_go_together_is_told_with_its_line(tmp_path: Path, old: str, new: str, said: str):
    """Before anything is started."""
    (tmp_path / "chat.jsonl").write_text(json.dumps({"id": "a", "turns": ["Hello."]}) + "\n")
    (tmp_path / "small.yaml").write_text(SUITE.replace(old, new))
    with pytest.raises(SuiteError) as error:
        load_suite(tmp_path / "small.yaml")
    assert said in " ".join(str(error.value).split())


def test_too_few_conversations_for_the_blocks_are_told_before_anything_is_started(play: Play, jobs: dict[str, Any]):  # noqa: F811
    """Where only the file says how many there are."""
    play.chat = play.chat[:2]
    assert play(SOUND, suite=SUITE) == 2
    assert "has 2 conversations, and block_prompts: fresh shares them out over 3 blocks" in play.said_wrong
    assert play.events("begin") == []


def test_a_process_that_fails_is_told_by_its_last_lines(tmp_path: Path):
    """A module that is none; what it was asked stays in its folder."""
    job = UpdateJob(
        architecture="online", checkpoint=tmp_path, target=tmp_path, options={}, seed=(0, 0), num_threads=1, requests=()
    )
    found = updates.run_update("draftbench.none", job, tmp_path / "updates" / "one")
    assert isinstance(found, str)
    assert found.startswith("exit code 1; the last lines of ")
    assert found.endswith("No module named draftbench.none")
    assert UpdateJob.model_validate_json((tmp_path / "updates" / "one" / "job.json").read_text()) == job
