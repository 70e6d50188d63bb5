"""A draft that is updated between blocks, on the real engine, from the command line to the report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from draftbench.drafts.api import Tree
from draftbench.drafts.training.load import load_draft
from draftbench.drafts.training.online_update import update
from draftbench.drafts.updated import UpdateJob
from draftbench.harness.models.find import EMBEDDED
from draftbench.harness.records import ReferenceRecord, RequestRecord
from draftbench.harness.store import RunStore
from draftbench.harness.update_records import UpdateRecord
from tests.runtime.oracle import Oracle

TINY = EMBEDDED / "tiny"
TREE = Tree(3, 1, 4)
SUITE = """\
version: 1
name: online
target: {model: tiny, dtype: float32}
arms:
  - {name: vanilla, architecture: vanilla}
  - {name: online, architecture: online, checkpoint: tiny/standalone, num_steps: 3, topk: 1, num_draft_tokens: 4,
     options: {learning_rate: 0.001, steps: 6}}
workloads:
  - {name: recall, source: synthetic, family: recall, num_prompts: 6}
sampling: {temperature: 0, max_tokens: 32, seed: 0}
load: [{concurrency: 1}]
blocks: 2
block_prompts: fresh
"""


@dataclass(frozen=True)
class Ran:
    """A run's folder and what was printed."""

    folder: Path
    told: str

    def block(self, number: int) -> list[RequestRecord]:
        """The arm's requests in a block."""
        found = RunStore(self.folder).read(RequestRecord)
        return [request for request in found if (request.cell.arm, request.cell.block) == ("online", number)]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, command: Callable[..., tuple[int, str]]) -> Ran:
    folder = tmp_path_factory.mktemp("online")
    (folder / "online.yaml").write_text(SUITE)
    code, told = command("run", str(folder / "online.yaml"), "--out", str(folder / "run"))
    assert code == 0, told
    return Ran(folder / "run", told)


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle(TINY / "target")


def engine_rounds(requests: list[RequestRecord]) -> list[list[int]]:
    return [[round_.num_accepted_drafts for round_ in request.rounds or ()] for request in requests]


def simulated(ran: Ran, oracle: Oracle, draft: Path, requests: list[RequestRecord]) -> list[list[int]]:
    """The rounds that plain torch makes of the same answers with the weights of a folder."""
    references = {each.prompt_sha256: each for each in RunStore(ran.folder).read(ReferenceRecord)}
    answers = [(references[request.prompt_sha256].prompt_ids, request.output_ids) for request in requests]
    return list(oracle.rounds(load_draft("online", draft, oracle.target, TREE), answers, TREE))


def test_a_block_after_an_update_has_the_rounds_of_the_updated_draft(ran: Ran, oracle: Oracle):
    """Those of plain torch with the new weights, which are not those of the old ones; before it they are the old's."""
    old, new = TINY / "standalone", ran.folder / "updates" / "l0-b0-online"
    assert engine_rounds(ran.block(0)) == simulated(ran, oracle, old, ran.block(0))
    assert engine_rounds(ran.block(1)) == simulated(ran, oracle, new, ran.block(1))
    assert engine_rounds(ran.block(1)) != simulated(ran, oracle, old, ran.block(1))


def test_the_update_can_be_made_again_from_what_was_kept(ran: Ran, tmp_path: Path):
    """The job in its folder gives the weights whose hash is recorded."""
    (record,) = RunStore(ran.folder).read(UpdateRecord)
    assert record.folder is not None
    job = UpdateJob.model_validate_json((ran.folder / record.folder / "job.json").read_text())
    assert sum(len(request.rejected) for request in job.requests) == record.num_positions > 0
    again = update(job, tmp_path)
    assert again.weights_sha256 == record.weights_sha256
    assert (again.loss_before, again.loss_after) == (record.loss_before, record.loss_after)
    assert again.loss_after < again.loss_before


def test_its_outputs_stay_vanillas_and_its_cost_is_told(ran: Ran):
    """Losslessness, the row's name, and both throughputs."""
    rows: dict[str, dict[str, Any]] = {row["arm"]: row for row in json.loads((ran.folder / "results.json").read_text())}
    row = rows["online (updated between blocks)"]
    assert (row["valid"], row["lossless_share"]) == (True, 1.0)
    found = row["detail"]["updating"]
    assert 0 < found["output_tokens_per_s"] < row["output_tokens_per_s"]
    assert 0 < found["made"][0]["learning_s"] < found["made"][0]["update_s"]
    assert found["made"][0]["processor_s"] > 0
    assert "online: update after launch 0 block 0" in " ".join(ran.told.split())


@pytest.mark.slow
def test_a_resumed_run_has_the_rounds_that_it_would_have_had(
    ran: Ran, command: Callable[..., tuple[int, str]], tmp_path
):
    """Its second block taken away, as if it had been interrupted: the new engine gets the recorded weights."""
    run = tmp_path / "run"
    shutil.copytree(ran.folder, run)
    for name in ("requests.jsonl", "cells.jsonl", "telemetry.jsonl"):
        lines = (run / name).read_text().splitlines(keepends=True)
        kept = [line for line in lines if ((json.loads(line)["cell"] or {}).get("block")) != 1]
        assert 0 < len(kept) < len(lines)
        (run / name).write_text("".join(kept))
    code, told = command("run", str(ran.folder.parent / "online.yaml"), "--out", str(run), "--resume")
    assert code == 0, told
    again = Ran(run, told)
    assert (run / "updates.jsonl").read_bytes() == (ran.folder / "updates.jsonl").read_bytes()
    by_prompt = lambda requests: {each.prompt_id: engine_rounds([each]) for each in requests}  # noqa: E731
    assert by_prompt(again.block(1)) == by_prompt(ran.block(1))


@pytest.mark.slow
def test_sampled_its_distribution_is_the_targets(command: Callable[..., tuple[int, str]], tmp_path: Path):
    """By the run's own test, with samples of the updated draft."""
    (tmp_path / "online.yaml").write_text(SUITE.replace("temperature: 0", "temperature: 0.7"))
    code, told = command("run", str(tmp_path / "online.yaml"), "--out", str(tmp_path / "run"))
    assert code == 0, told
    (row,) = [r for r in json.loads((tmp_path / "run" / "results.json").read_text()) if r["architecture"] == "online"]
    assert row["detail"]["sampling"]["p"] > 0.001
    assert not {found["gate"] for found in row["detail"]["findings"]} & {
        "other distribution", "untested distribution", "failed update", "learnt prompts",
    }  # fmt: skip
