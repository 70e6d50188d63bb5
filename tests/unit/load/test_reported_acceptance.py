"""What servers say of their drafts: by request in every form, over a cell from counters, and what rows make of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from draftbench import bench
from draftbench.harness.load import counters
from draftbench.harness.load.counters import CounterReading, counters_between, reading_of, settled
from draftbench.harness.load.limits import StreamError
from draftbench.harness.load.reported_acceptance import ReportedAcceptance, of_message, of_meta_info
from draftbench.harness.records import Round
from tests.fakes.raw_server import Script, http, raw_server

META = {
    "spec_verify_ct": 4, "spec_num_correct_drafts": 5, "spec_num_proposed_drafts": 12, "spec_accept_length": 2.5,
    "spec_correct_drafts_histogram": [1, 1, 2],
}  # fmt: skip
FOUR = (Round(0, 3), Round(1, 3), Round(2, 3), Round(2, 3))
VLLM = {"num_spec_steps": 2, "num_accepted_draft_tokens": 3, "num_draft_tokens": 5, "num_spec_tokens": 3}


def test_sglang_says_it_in_meta_info_or_sglext() -> None:
    """By the names of 0.5.17, by older ones, and beside an OpenAI-compatible answer."""
    found = ReportedAcceptance("meta_info", FOUR, 4, 5, 12, 2.5)
    assert of_meta_info(META, 10) == found
    older = {"spec_verify_ct": 4, "spec_accepted_drafts": 5, "spec_proposed_drafts": 12, "spec_accept_length": 2.5,
             "spec_accept_histogram": [1, 1, 2]}  # fmt: skip
    assert of_meta_info(older, 10) == found
    assert of_message({"sglext": {"spec_tokens_details": META}}, 10) == ReportedAcceptance(
        "sglext", FOUR, 4, 5, 12, 2.5
    )
    assert of_meta_info({"spec_verify_ct": 4}, 10) == ReportedAcceptance("meta_info", None, 4)
    assert of_meta_info({"spec_verify_ct": 0, "spec_correct_drafts_histogram": []}, 1).rounds == ()
    assert of_meta_info({}, 10) == of_message({"sglext": None, "metrics": None}, 10) == ReportedAcceptance()


def test_vllm_says_it_in_summary_or_in_detail() -> None:
    """The histogram counts steps by their accepted drafts; in detail steps stand in their order with their drafts."""
    summary = {**VLLM, "acceptance_histogram": [0, 1, 1, 0]}
    assert of_message({"metrics": {"speculative_decoding": summary}}, 9) == ReportedAcceptance(
        "vllm", (Round(1, None), Round(2, None)), 2, 3, 5
    )
    detailed = {**summary, "per_step_accepted": [2, 1], "per_step_drafted": [3, 2]}
    found = of_message({"metrics": {"speculative_decoding": detailed, "e2e_latency": 1.5}}, 9)
    assert found == ReportedAcceptance("vllm_steps", (Round(2, 3), Round(1, 2)), 2, 3, 5)
    with pytest.raises(StreamError, match="per_step_drafted has 1 steps, per_step_accepted 2"):
        of_message({"metrics": {"speculative_decoding": {**detailed, "per_step_drafted": [3]}}}, 9)


def test_llama_cpp_counts_drafts_and_its_steps_follow() -> None:
    """20 tokens, one from the prompt, 9 of them accepted drafts: ten steps. Without drafts it says nothing."""
    timings = {"predicted_n": 20, "draft_n": 15, "draft_n_accepted": 9, "predicted_ms": 12.5}
    assert of_message({"timings": timings}, 20) == ReportedAcceptance("llama.cpp", None, 10, 9, 15)
    assert of_message({"timings": {"predicted_n": 20}}, 20) == ReportedAcceptance()
    with pytest.raises(StreamError, match="draft_n_accepted is 30, predicted_n 20"):
        of_message({"timings": {**timings, "draft_n_accepted": 30}}, 20)


@pytest.mark.parametrize(
    ("meta", "said"),
    [
        ({**META, "spec_correct_drafts_histogram": [10**15]}, "counts 1000000000000000 verify steps for 10 tokens"),
        ({**META, "spec_correct_drafts_histogram": "x"}, "must be a list of counts"),
        ({**META, "spec_correct_drafts_histogram": [1.5]}, "spec_correct_drafts_histogram is 1.5; it must be a count"),
        ({**META, "spec_accept_length": "2"}, "spec_accept_length is 2; it must be a number"),
    ],
)
def test_what_cannot_be_is_refused(meta: dict[str, Any], said: str) -> None:
    with pytest.raises(StreamError, match=said):
        of_meta_info(meta, 10)


VLLM_PAGE = """\
# HELP vllm:spec_decode_num_drafts_total Number of spec decoding drafts.
# TYPE vllm:spec_decode_num_drafts_total counter
vllm:spec_decode_num_drafts_total{engine="0",model_name="m"} DRAFTS
vllm:spec_decode_num_drafts_total{engine="1",model_name="m"} 0.0
# TYPE vllm:spec_decode_num_drafts_created gauge
vllm:spec_decode_num_drafts_created{engine="0",model_name="m"} 1.7e+09
# TYPE vllm:spec_decode_num_draft_tokens_total counter
vllm:spec_decode_num_draft_tokens_total{engine="0",model_name="m"} PROPOSED
# TYPE vllm:spec_decode_num_accepted_tokens_total counter
vllm:spec_decode_num_accepted_tokens_total{engine="0",model_name="m"} ACCEPTED
# TYPE vllm:spec_decode_num_accepted_tokens_per_pos_total counter
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",model_name="m",position="0"} FIRST
vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",model_name="m",position="1"} SECOND
# TYPE vllm:request_success_total counter
vllm:request_success_total{engine="0",finished_reason="stop",model_name="m"} REQUESTS
vllm:request_success_total{engine="0",finished_reason="abort",model_name="m"} 0.0
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{engine="0",model_name="m"} TOKENS
"""
SGLANG_PAGE = """\
# TYPE sglang:num_requests_total counter
sglang:num_requests_total{is_streaming="true",model_name="m"} 3.0
# TYPE sglang:generation_tokens_total counter
sglang:generation_tokens_total{is_streaming="true",model_name="m"} 60.0
# TYPE sglang:spec_verify_calls_total counter
sglang:spec_verify_calls_total{model_name="m"} 25.0
# TYPE sglang:spec_accept_length gauge
sglang:spec_accept_length{model_name="m"} 2.4
"""


def vllm_page(requests: int, tokens_each: int = 4, rounds_each: int = 2) -> str:
    """After so many requests, each of whose rounds accepts one draft of two."""
    rounds = requests * rounds_each
    values = {"DRAFTS": rounds, "PROPOSED": 2 * rounds, "ACCEPTED": rounds, "FIRST": rounds, "SECOND": 0,
              "REQUESTS": requests, "TOKENS": tokens_each * requests}  # fmt: skip
    page = VLLM_PAGE
    for name, value in values.items():
        page = page.replace(f" {name}\n", f" {float(value)}\n")
    return page


def test_counters_are_read_from_the_page_of_either_server() -> None:
    """All engines together; a page that says nothing of drafts, or is none, gives nothing."""
    assert reading_of(vllm_page(5)) == CounterReading("vllm", 5, 20, 10, 10, 20, (10, 0))
    assert reading_of(SGLANG_PAGE) == CounterReading("sglang", 3, 60, 25, None, None, None)
    assert reading_of("# TYPE a_total counter\na_total 1.0\n") is None
    assert reading_of("<html>login</html>") is None
    assert reading_of(vllm_page(5).replace("10.0", "NaN")).rounds == 0  # type: ignore[union-attr]


BEFORE, AFTER = (CounterReading("vllm", n, 4 * n, 2 * n, n, 4 * n, (n, 0)) for n in (10, 16))


def test_a_cells_counts_are_the_difference() -> None:
    found = counters_between(BEFORE, AFTER, 6, 0, 24)
    assert found is not None
    assert (found.num_rounds, found.num_accepted, found.num_proposed, found.num_at_least) == (12, 6, 24, (6, 0))
    assert found.refused is None
    assert counters_between(None, AFTER, 6, 0, 24) is counters_between(BEFORE, None, 6, 0, 24) is None


@pytest.mark.parametrize(
    ("sent", "failed", "tokens", "said"),
    [
        (5, 0, 24, "the server counts 6 requests, 5 were ours"),
        (6, 1, 24, "1 requests failed, and what they drafted is in the counters"),
        (6, 0, 25, "the server counts 24 tokens, 25 were ours"),
        (6, 0, 2, "the server counts 24 tokens, 2 were ours"),
    ],
)
def test_other_traffic_is_seen_and_the_counts_are_refused(sent: int, failed: int, tokens: int, said: str) -> None:
    found = counters_between(BEFORE, AFTER, sent, failed, tokens)
    assert found is not None
    assert found.refused == said
    restarted = counters_between(AFTER, BEFORE, 6, 0, 24)
    assert restarted is not None
    assert restarted.refused == "the server was started anew meanwhile"


def test_counters_that_lag_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until they hold what was sent, or no longer move; not for ever."""
    monkeypatch.setattr(counters, "LOOK_S", 0.001)
    pages: Iterator[CounterReading] = iter([BEFORE, BEFORE, AFTER, AFTER, AFTER])
    assert settled(lambda: next(pages), lambda now: now.requests >= 16) is AFTER
    pages = iter([BEFORE, AFTER, AFTER])
    assert settled(lambda: next(pages)) is AFTER
    assert settled(lambda: None) is None
    monkeypatch.setattr(counters, "SETTLE_S", 0.02)
    assert settled(lambda: BEFORE, lambda now: now.requests >= 16) is BEFORE


SUITE = """\
version: 1
name: served
target: {model: tiny, dtype: float32}
arms: [{name: theirs, endpoint: "URL", api: openai-chat, model: m}]
workloads: [{name: sums, source: synthetic, family: arithmetic, num_prompts: 4}]
sampling: {temperature: 0, max_tokens: 16, seed: 0}
load: [{concurrency: 1}]
blocks: 2
warmup_requests: 0
"""


def run(tmp_path: Path, script: Script) -> dict[str, Any]:
    """The only row of a run of the suite against a server, whose report verifies."""
    with raw_server(script) as server:
        tmp_path.mkdir(exist_ok=True)
        (tmp_path / "served.yaml").write_text(SUITE.replace("URL", server.url))
        assert bench.main([str(tmp_path / "served.yaml"), "--out", str(tmp_path / "run")]) in (0, 1)
    assert bench.main(["verify", str(tmp_path / "run")]) == 0
    (row,) = json.loads((tmp_path / "run" / "results.json").read_text())
    return row  # type: ignore[no-any-return]


def findings(row: dict[str, Any]) -> dict[str, str]:
    return {found["gate"]: found["evidence"] for found in row["detail"]["findings"]}


class Chat:
    """Answers with four chunks; `last` goes into the last message, and counters stand as `requests` says."""

    def __init__(self, last: dict[str, Any], page: bool = False, others: int = 0) -> None:
        self.last, self.page, self.others, self.requests = last, page, others, 0

    def __call__(self, request: bytes) -> Iterator[bytes | float]:
        if request.startswith(b"GET /metrics") and self.page:
            yield http(vllm_page(self.requests).encode(), kind="text/plain")
        elif request.startswith(b"GET"):
            yield http(b'{"data": [{"id": "m"}]}' if b"/v1/models" in request else b"", "200 OK", "application/json")
        else:
            self.requests += 1 + self.others
            yield http()
            for text in "abcd":
                yield f'data: {{"choices": [{{"delta": {{"content": "{text}"}}}}]}}\n\n'.encode()
                yield 0.003
            # The prompt's tokens are not known here; without a count none is held against ours.
            usage = {"completion_tokens": 4}
            end = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
            yield b"".join(b"data: " + json.dumps(m).encode() + b"\n\n" for m in (end, {"usage": usage, **self.last}))


def test_rows_have_the_acceptance_that_requests_tell(tmp_path: Path) -> None:
    """τ, S_k, α_k, a step's time, and who says so; in the report too."""
    told = {"num_spec_steps": 2, "num_accepted_draft_tokens": 1, "num_draft_tokens": 6, "num_spec_tokens": 3,
            "acceptance_histogram": [1, 1, 0, 0]}  # fmt: skip
    row = run(tmp_path, Chat({"metrics": {"speculative_decoding": told}}))
    assert row["valid"]
    assert row["acceptance_length"] == 1.5
    detail = row["detail"]
    assert (detail["num_rounds"], detail["survival"], detail["conditional_acceptance"]) == (16, [0.5], [0.5])
    assert detail["draft_acceptance"] == pytest.approx(1 / 6)
    assert detail["verify_utilisation"] == pytest.approx(3 / 8)
    assert detail["acceptance_from"] == "vLLM's metrics, by request"
    assert detail["along_output"] == []
    assert 0.003 < detail["decode_step_s"] < 0.1
    assert "round records" not in findings(row)["not checked"]
    report = (tmp_path / "run" / "report.md").read_text()
    assert "Acceptance that servers count" in report
    assert "vLLM's metrics, by request" in report


def test_counters_serve_where_requests_tell_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the cell; a round accepts one of two drafts."""
    monkeypatch.setattr(counters, "LOOK_S", 0.01)
    row = run(tmp_path, Chat({}, page=True))
    detail = row["detail"]
    assert (row["acceptance_length"], detail["num_rounds"]) == (2.0, 16)
    assert (detail["survival"], detail["conditional_acceptance"], detail["draft_acceptance"]) == ([1.0], [1.0], 0.5)
    assert detail["acceptance_from"] == "vLLM's counters, over the cell"
    assert detail["decode_step_s"] > 0.003
    assert "rounds by request" in findings(row)["not checked"]


def test_counters_of_others_are_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another client asks meanwhile there is no τ, and the row says why."""
    monkeypatch.setattr(counters, "LOOK_S", 0.01)
    row = run(tmp_path, Chat({}, page=True, others=1))
    assert row["acceptance_length"] is None
    assert "the server counts 8 requests, 4 were ours" in findings(row)["not checked"]


def test_a_server_that_loads_a_draft_and_does_not_use_it_is_invalid(tmp_path: Path) -> None:
    """It says itself that it verified nothing; one that counts wrong is invalid too."""
    none = {"num_spec_steps": 0, "num_accepted_draft_tokens": 0, "num_draft_tokens": 0, "acceptance_histogram": [0, 0]}
    row = run(tmp_path / "silent", Chat({"metrics": {"speculative_decoding": none}}))
    assert not row["valid"]
    assert (
        findings(row)["silent non-speculation"]
        == "24 tokens were decoded, and vLLM's metrics, by request has no verify step"
    )
    wrong = {"num_spec_steps": 3, "num_accepted_draft_tokens": 1, "acceptance_histogram": [1, 1]}
    row = run(tmp_path / "wrong", Chat({"metrics": {"speculative_decoding": wrong}}))
    assert not row["valid"]
    assert "2 recorded rounds, the engine counts 3" in findings(row)["engine counters"]


def test_llama_cpps_row_has_a_length_and_no_steps(tmp_path: Path) -> None:
    """4 tokens with one accepted draft took two steps; what it does not say stays null."""
    row = run(tmp_path, Chat({"timings": {"predicted_n": 4, "draft_n": 3, "draft_n_accepted": 1}}))
    assert row["acceptance_length"] == 1.5
    assert (row["detail"]["survival"], row["detail"]["draft_acceptance"]) == ([], pytest.approx(1 / 3))


def test_a_server_that_tells_nothing_has_no_acceptance(tmp_path: Path) -> None:
    row = run(tmp_path, Chat({}))
    assert row["acceptance_length"] is None
    assert "acceptance_from" not in row["detail"]
    assert "round records: acceptance" in findings(row)["not checked"]
