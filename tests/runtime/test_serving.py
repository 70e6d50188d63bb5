"""Load of its own and servers of others, through bench.py: an open loop, and one drafting SGLang server that was
started beforehand, measured as three arms over its three interfaces."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from draftbench.drafts.api import discover
from draftbench.harness.host.provenance import has_gpu
from draftbench.harness.runtime.fleet import find_fleet
from draftbench.harness.suite import load_suite

SUITE = """\
version: 1
name: serving
target: {model: tiny, dtype: float32}
arms:
  - ARMS
workloads:
  - {name: sums, source: synthetic, family: arithmetic, num_prompts: 6}
sampling: {temperature: 0, max_tokens: 24, seed: 0}
load: [{concurrency: 2}, {rate: 3}, {concurrency: 1}]
limits: {ttft_ms: 60000}
blocks: 1
max_running_requests: 8
"""
SERVER = """{name: server, architecture: eagle, checkpoint: tiny/hass, num_steps: 3, topk: 2, num_draft_tokens: 6,
     engine: {skip_tokenizer_init: false, incremental_streaming_output: false, served_model_name: tiny}}"""
OWN = "{name: own, architecture: eagle, checkpoint: tiny/hass, num_steps: 3, topk: 2, num_draft_tokens: 6}"
"""The server's draft, as an arm."""
ARMS = f"""{{name: vanilla, architecture: vanilla}}
  - {OWN}
  - {{name: native, endpoint: URL, api: sglang}}
  - {{name: ids, endpoint: URL, api: openai, model: tiny}}
  - {{name: chat, endpoint: URL, api: openai-chat, model: tiny}}"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, command: Callable[..., tuple[int, str]]) -> Iterator[Path]:
    """The suite's run beside the server; the server outlives it."""
    folder = tmp_path_factory.mktemp("serving")
    (folder / "server.yaml").write_text(SUITE.replace("ARMS", SERVER))
    arms = find_fleet(load_suite(folder / "server.yaml"), discover(), folder, folder / "server", has_gpu())
    server = arms.forking(pytest.fail).start("server")
    try:
        (folder / "serving.yaml").write_text(SUITE.replace("ARMS", ARMS.replace("URL", server.url)))
        code, printed = command(str(folder / "serving.yaml"), "--out", str(folder / "run"))
        assert code == 0, printed
        assert server.failure() is None
        yield folder / "run"
    finally:
        server.stop()


@pytest.fixture(scope="module")
def rows(run: Path) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["arm"], row["load"]): row for row in json.loads((run / "results.json").read_text())}


def test_every_interface_delivers_the_same(rows: dict[tuple[str, str], dict[str, Any]]) -> None:
    """All requests end well, and the server sees the tokens that were rendered; only a busy machine may be found."""
    assert len(rows) == 15
    for (arm, _), row in rows.items():
        assert (row["num_requests"], row["num_failed"], row["within_limits"]) == (6, 0, 1)
        found = {finding["gate"] for finding in row["detail"]["findings"]}
        assert found - {"late sends", "late client", "unsteady load"} == (
            {"not checked"} if arm not in ("vanilla", "own") else set()
        )
    for load in ("c=2", "3/s"):
        lengths = {arm: rows[arm, load]["acceptance_length"] for arm in ("native", "ids", "chat")}
        assert lengths["native"] > 1.5
        assert lengths["ids"] is lengths["chat"] is None  # 0.5.17 tells nothing there
        assert [rows[arm, load]["lossless_share"] for arm in ("vanilla", "native")] == [1, 1]
        assert rows["ids", load]["lossless_share"] is rows["chat", load]["lossless_share"] is None


def test_a_server_measured_from_outside_has_the_acceptance_of_our_own_records(
    run: Path, rows: dict[tuple[str, str], dict[str, Any]]
) -> None:
    """The same draft as an arm and as an endpoint: equal τ, S_k and verify utilisation, round for round; and a c."""
    for load in ("c=1", "c=2", "3/s"):
        own, native = rows["own", load], rows["native", load]
        assert own["acceptance_length"] == native["acceptance_length"] > 1.5
        for name in ("survival", "num_rounds", "draft_acceptance", "verify_utilisation"):
            assert own["detail"][name] == pytest.approx(native["detail"][name]), (load, name)
        assert native["detail"]["acceptance_from"] == "SGLang's meta_info, by request"
    assert rows["native", "c=1"]["step_cost_ratio"] > 0
    assert rows["native", "c=1"]["detail"]["decode_step_s"] > 0
    records = [json.loads(line) for line in (run / "requests.jsonl").read_text().splitlines()]
    rounds: dict[str, dict[str, list[int]]] = {"own": {}, "native": {}}
    for record in records:
        if record["cell"]["arm"] in rounds and record["cell"]["concurrency"] == 1:
            found = sorted(each["num_accepted_drafts"] for each in record["rounds"])
            rounds[record["cell"]["arm"]][record["prompt_id"]] = found
            assert record["engine_accepted_drafts"] == sum(found)
    assert rounds["own"] == rounds["native"]
    assert len({accepted for each in rounds["own"].values() for accepted in each}) > 1


def test_closed_and_open_loops_are_told_apart(run: Path, rows: dict[tuple[str, str], dict[str, Any]]) -> None:
    """At concurrency 2 the drafting server has a speedup, at a rate none; arrivals are alike for every arm."""
    assert rows["native", "c=2"]["speedup"] is not None
    assert rows["native", "3/s"]["speedup"] is None
    assert rows["native", "3/s"]["offered_per_s"] == pytest.approx(3)
    records = [json.loads(line) for line in (run / "requests.jsonl").read_text().splitlines()]
    gaps = []
    for arm in ("vanilla", "native", "ids", "chat"):
        due = [r["due_ns"] for r in records if r["cell"]["arm"] == arm and r["cell"]["arrivals"] == "3/s"]
        gaps.append([after - before for before, after in pairwise(sorted(due))])
    assert len(gaps[0]) == 5
    assert all(found == gaps[0] for found in gaps)


def test_the_report_tells_what_the_server_is(run: Path, command: Callable[..., tuple[int, str]]) -> None:
    """Marked in the tables; the draft that it runs with stands in the conditions; the records give the report again."""
    report = (run / "report.md").read_text()
    assert "| native ‡ |" in report
    assert "speculative_algorithm EAGLE" in report.replace("\\", "")
    code, printed = command("verify", str(run))
    assert code == 0, printed
