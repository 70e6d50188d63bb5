"""The real engine: every arm decodes what vanilla decodes, says what it is, and leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import psutil
import pytest
from scipy.stats import chi2_contingency

from drafts.api import discover
from harness.errors import EngineError
from harness.load.generator import RoundBook, flush_cache, run_closed_loop
from harness.load.prompts import Prompt
from harness.metrics import acceptance
from harness.metrics.rows import round_split
from harness.models import EMBEDDED
from harness.provenance import has_gpu
from harness.records import CellKey, RequestRecord
from harness.runtime.arms import Arms, find_arms
from harness.suite import Suite
from harness.workloads.render import ChatRenderer, prompt_sha256
from harness.workloads.synthetic import FAMILIES, SyntheticTask, generate, is_correct

TINY = EMBEDDED / "tiny"
PROMPTS_PER_FAMILY = 3
MAX_TOKENS = 160
NUM_SAMPLES = 240
"""Short continuations of one open prompt, for the distribution at a temperature above 0."""
ARMS = ("vanilla", "standalone", "chain", "tree", "hass")


def suite(**changes: object) -> Suite:
    """Every kind of arm under one configuration: a small KV pool and chunked prefill."""
    tree = {"num_steps": 5, "topk": 4, "num_draft_tokens": 16}
    values = {
        "version": 1,
        "name": "engines",
        "target": {"model": "tiny", "dtype": "float32"},
        "arms": (
            {"name": "vanilla", "architecture": "vanilla"},
            {"name": "standalone", "architecture": "standalone", "checkpoint": "tiny/standalone", "num_steps": 3,
             "topk": 1, "num_draft_tokens": 4},
            {"name": "chain", "architecture": "eagle", "checkpoint": "tiny/eagle", "num_steps": 3, "topk": 1,
             "num_draft_tokens": 4},
            {"name": "tree", "architecture": "eagle", "checkpoint": "tiny/eagle", **tree},
            {"name": "hass", "architecture": "eagle", "checkpoint": "tiny/hass", **tree},
        ),
        "workloads": ({"name": "w", "source": "synthetic", "family": "code", "num_prompts": 1},),
        "sampling": {"temperature": 0, "max_tokens": MAX_TOKENS, "seed": 0},
        "load": ({"concurrency": 4},),
        "blocks": 1,
        "max_total_tokens": 4096,
        "chunked_prefill_size": 48,
        **changes,
    }  # fmt: skip
    return Suite.model_validate(values)


def tasks() -> list[SyntheticTask]:
    return [task for family in FAMILIES for task in islice(generate(family, "heldout", 11), PROMPTS_PER_FAMILY)]


def prompts() -> list[Prompt]:
    renderer = ChatRenderer(TINY / "target")
    found = []
    for number, task in enumerate(tasks()):
        ids = renderer.render([{"role": "user", "content": task.prompt}])
        found.append(Prompt("w", f"p{number}", 0, task.family, ids, prompt_sha256(ids), MAX_TOKENS))
    return found


def open_prompts() -> list[Prompt]:
    """One prompt that the target was never taught to answer, so that it is unsure, many times."""
    ids = ChatRenderer(TINY / "target").render([{"role": "user", "content": "Tell me about the sea."}])
    return [Prompt("w", f"s{n}", 0, None, ids, prompt_sha256(ids), 6) for n in range(NUM_SAMPLES)]


def run(
    engine, arm: str, concurrency: int, sampling: dict[str, float], asked: list[Prompt]
) -> tuple[dict[str, RequestRecord], object]:
    cell = CellKey(launch=0, block=0, arm=arm, workload="w", concurrency=concurrency)
    records: dict[str, RequestRecord] = {}
    asyncio.run(flush_cache(engine))
    book = RoundBook(engine)
    keep = lambda record: records.__setitem__(record.prompt_id, record)  # noqa: E731
    asyncio.run(run_closed_loop(engine, cell, asked, sampling, book, keep))
    return records, book.phases()


@pytest.fixture(scope="module")
def arms(tmp_path_factory: pytest.TempPathFactory) -> Arms:
    return find_arms(suite(), discover(), Path.cwd(), tmp_path_factory.mktemp("run"), has_gpu())


def measure(arms: Arms, name: str) -> dict[object, object]:
    """One arm's records at concurrency 1 and 4 and at a temperature, its phases and receipt."""
    engine = arms.start(name)
    try:
        one, phases = run(engine, name, 1, {"temperature": 0.0}, prompts())
        four, _ = run(engine, name, 4, {"temperature": 0.0}, prompts())
        sampled, _ = run(engine, name, 4, {"temperature": 0.7}, open_prompts())
        return {1: one, 4: four, "sampled": sampled, "phases": phases, "receipt": engine.receipt}
    finally:
        engine.stop()
        assert psutil.pid_exists(engine._process.pid) is False


@pytest.fixture(scope="module")
def measured(arms: Arms) -> dict[str, dict[object, object]]:
    """Every arm, two engines at a time; nothing here is a timing."""
    with ThreadPoolExecutor(2) as threads:
        return dict(zip(ARMS, threads.map(lambda name: measure(arms, name), ARMS), strict=True))


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("arm", ARMS)
def test_greedy_output_equals_vanillas(measured, arm, concurrency):
    """Token for token, with chunked prefill, alone and beside others."""
    for prompt_id, record in measured[arm][concurrency].items():
        assert record.error is None
        assert record.output_ids == measured["vanilla"][1][prompt_id].output_ids, prompt_id


@pytest.mark.parametrize("arm", ARMS[1:])
def test_rounds_belong_to_their_requests(measured, arm):
    """At concurrency 4 each request's recorded rounds emit its own tokens and match the engine's counters."""
    for concurrency in (1, 4):
        for record in measured[arm][concurrency].values():
            assert record.rounds
            assert acceptance.disagrees_with_engine(record) is None
    alone = {p: [r.num_accepted_drafts for r in rec.rounds] for p, rec in measured[arm][1].items()}
    beside = {p: [r.num_accepted_drafts for r in rec.rounds] for p, rec in measured[arm][4].items()}
    assert alone == beside


def test_drafts_are_accepted_and_hass_more_than_eagle(measured):
    """Trained drafts save rounds: more than 2.5 tokens a step, and multi-step alignment helps at equal trees."""
    length = {arm: acceptance.acceptance_length(acceptance.rounds_of(measured[arm][1].values())) for arm in ARMS[1:]}
    assert min(length.values()) > 2
    assert length["hass"] > length["tree"] > length["chain"] > 2.5


def test_receipts_name_what_runs(measured):
    """Algorithm, draft class and tree as the suite says; nothing but the draft differs between arms."""
    assert measured["vanilla"]["receipt"].algorithm is None
    assert measured["standalone"]["receipt"].algorithm == "STANDALONE"
    tree = measured["tree"]["receipt"]
    assert (tree.algorithm, tree.draft_class) == ("EAGLE", "LlamaForCausalLMEagle")
    assert tree.server_args["speculative_num_draft_tokens"] == 16
    same = {arm: measured[arm]["receipt"].server_args for arm in ARMS}
    assert len({args["max_running_requests"] for args in same.values()}) == 1
    assert len({args["chunked_prefill_size"] for args in same.values()}) == 1


def test_a_rounds_time_is_split(measured):
    """Draft, verify and extend are timed, and leave little of a round."""
    split = round_split([measured["tree"]["phases"]])
    assert min(split[phase] for phase in ("draft", "verify", "extend")) > 0.01
    assert 0 <= split["other"] < 0.2
    assert measured["vanilla"]["phases"] is None


def kinds(records: dict[str, RequestRecord], place: slice) -> Counter[tuple[int, ...]]:
    assert [record.error for record in records.values() if record.error] == []
    return Counter(record.output_ids[place] for record in records.values())


def p_value(first: Counter[tuple[int, ...]], second: Counter[tuple[int, ...]]) -> float:
    """Two-sample chi-square; continuations seen fewer than 10 times in both samples together are one category."""
    often = [kind for kind, count in (first + second).items() if count >= 10]
    table = [[counts[kind] for kind in often] for counts in (first, second)]
    rare = [sum(counts.values()) - sum(row) for counts, row in zip((first, second), table, strict=True)]
    if sum(rare):
        table = [[*row, rest] for row, rest in zip(table, rare, strict=True)]
    return float(chi2_contingency(table).pvalue)


@pytest.mark.parametrize("arm", ARMS[1:])
def test_sampled_output_is_distributed_as_vanillas(measured, arm):
    """At temperature 0.7 short continuations of an open prompt: many kinds, in vanilla's proportions."""
    for place in (slice(0, 2), slice(2, 3), slice(3, 5)):
        vanilla, drafted = kinds(measured["vanilla"]["sampled"], place), kinds(measured[arm]["sampled"], place)
        assert len(vanilla) > 5
        assert p_value(vanilla, drafted) > 1e-3, place


def test_the_target_answers_well(measured):
    """Greedy answers to held-out prompts end by themselves and are mostly right."""
    renderer = ChatRenderer(TINY / "target")
    records = [measured["vanilla"][1][prompt.prompt_id] for prompt in prompts()]
    right = [is_correct(t.answer, renderer.decode(r.output_ids)) for t, r in zip(tasks(), records, strict=True)]
    ended = [record.finish_reason == "stop" for record in records]
    assert sum(ended) >= 0.8 * len(ended)
    assert sum(right) >= 0.6 * len(right)


def test_an_engine_that_dies_at_start_shows_its_log(tmp_path):
    """The last lines of its log, and no process left."""
    bad = suite(arms=({"name": "vanilla", "architecture": "vanilla", "engine": {"quantization": "gptq"}},))
    arms = find_arms(bad, discover(), Path.cwd(), tmp_path, has_gpu())
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    with pytest.raises(EngineError, match=r"(?s)arm vanilla: the engine ended while it started.*the last lines of"):
        arms.start("vanilla")
    assert {process.pid for process in psutil.Process().children(recursive=True)} <= before
