"""The real engine: every arm decodes what vanilla decodes and drafts what an independent simulation drafts.

All arms run under one configuration that makes life hard: prompts are cut into pieces of 48 tokens, prefixes are
cached, and the KV pool is too small for the requests under way, so that some are put back and prefilled anew.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from itertools import accumulate, islice
from math import prod
from pathlib import Path
from statistics import mean, pvariance
from typing import Any

import aiohttp
import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import chi2_contingency

from draftbench.drafts.api import Tree, discover
from draftbench.drafts.training.load import load_draft
from draftbench.harness.corpora.trigrams import load_table
from draftbench.harness.errors import EngineError
from draftbench.harness.host.provenance import has_gpu
from draftbench.harness.load.generator import RoundBook, run_closed_loop
from draftbench.harness.load.requests import Prompt
from draftbench.harness.metrics import acceptance
from draftbench.harness.metrics.phases import round_split
from draftbench.harness.models.find import EMBEDDED
from draftbench.harness.records import CellKey, RequestRecord
from draftbench.harness.runtime.drafts.rules import RULES
from draftbench.harness.runtime.fleet import SglangFleet, find_fleet
from draftbench.harness.suite import Suite
from draftbench.harness.workloads.render import ChatRenderer, prompt_sha256
from draftbench.harness.workloads.synthetic import FAMILIES, SyntheticTask, generate, is_correct
from tests.runtime.aded import Simulation
from tests.runtime.oracle import Oracle

TINY = EMBEDDED / "tiny"
ALL = "DRAFTBENCH_TEST_ALL" in os.environ
"""As `make test-all` sets it: more prompts and more arms."""
PROMPTS_PER_FAMILY, ALONE_PER_FAMILY = (5, 3) if ALL else (3, 2)
"""The second: of these, so many per family are also run alone and simulated."""
CONCURRENCY = 5
SAMPLED_AT_ONCE = 6
MAX_TOKENS = 96
NUM_SAMPLES = 240
"""Short continuations of one open prompt, for the distribution at a temperature above 0."""
CHAIN, TREE = (5, 1, 6), (5, 4, 16)
PLAIN: dict[str, tuple[str, str, tuple[int, int, int]]] = {
    "standalone-chain": ("standalone", "tiny/standalone", CHAIN),
    "eagle-chain": ("eagle", "published/eagle", CHAIN),
    "eagle-tree": ("eagle", "tiny/eagle", TREE),
    "hass-tree": ("eagle", "tiny/hass", TREE),
    "fspad-tree": ("fspad", "tiny/fspad", TREE),
    "s2d-tree": ("s2d", "tiny/s2d", TREE),
    "eagle3-tree": ("eagle3", "published/eagle3", TREE),
    "medusa-tree": ("medusa", "published/medusa", (4, 4, 16)),
    "prism-tree": ("prism", "tiny/prism", TREE),
    "flash-tree": ("flash_text", "tiny/flash-text", TREE),
    "chimera-tree": ("chimera", "tiny/chimera", (4, 4, 16)),
}
"""Architecture, checkpoint and tree of every arm that is simulated."""
if ALL:
    PLAIN |= {
        "standalone-tree": ("standalone", "tiny/standalone", TREE),
        "stacked-tree": ("eagle", "tiny/stacked-2", TREE),
        "stacked-chain": ("eagle", "tiny/stacked-2", CHAIN),
        "fspad-chain": ("fspad", "tiny/fspad", CHAIN),
        "s2d-chain": ("s2d", "tiny/s2d", CHAIN),
        "eagle3-chain": ("eagle3", "tiny/eagle3", CHAIN),
        "medusa-chain": ("medusa", "tiny/medusa", (4, 1, 5)),
        "prism-chain": ("prism", "tiny/prism", CHAIN),
        "flash-chain": ("flash_text", "tiny/flash-text", CHAIN),
        "chimera-chain": ("chimera", "tiny/chimera", (4, 1, 5)),
    }
TOKENS_ALONE = ("standalone", "s2d")
"""Architectures that SGLang runs as STANDALONE: they read nothing of the target but tokens."""
ALTERED: dict[str, tuple[str, str, tuple[int, int, int]]] = {}
"""PRISM with HASS's weights in its one or two modules, and with noise in its second."""
if ALL:  # test_prism.py shows as much for PRISM on three layers
    ALTERED |= {
        "prism-one": ("prism", "altered/one", TREE),
        "prism-equal": ("prism", "altered/equal", TREE),
        "prism-corrupt": ("prism", "altered/corrupt", CHAIN),
    }
ADAPTIVE: dict[str, list[int]] = {"eagle-adaptive": [1, 3, 5]}
"""HASS's chain with numbers of steps that SGLang changes between."""
ALTERED |= {name: ("eagle", "tiny/hass", CHAIN) for name in ADAPTIVE}
RULED = {"eagle-rsd": ("eagle", "tiny/hass", (5, 4, 21), "rsd")}
"""Drafts that are sampled and accepted by a paper's rule; greedily they are the tree's."""
if ALL:
    RULED |= {
        "standalone-spectr": ("standalone", "tiny/standalone", (3, 3, 10), "spectr"),
        "eagle-spectr": ("eagle", "tiny/hass", (5, 4, 21), "spectr"),
        "standalone-rsd": ("standalone", "tiny/standalone", (3, 3, 10), "rsd"),
        "prism-rsd": ("prism", "tiny/prism", (4, 2, 9), "rsd"),
        "prism-spectr": ("prism", "tiny/prism", (4, 2, 9), "spectr"),
    }
SIMULATED = [name for name in PLAIN if not name.startswith("hass")]
LOOKUPS = {
    "ngram": ("ngram", (8, 2, 12)),
    "lookup": ("prompt_lookup", (5, 2, 12)),
    "recycling": ("token_recycling", TREE),
    "trigram": ("adaptive_trigram", (4, 12, 25)),
    "suffix": ("suffix", TREE),
}
"""Drafts without weights: architecture and tree."""
TABLES = {"trigram": "tiny/trigram"}
"""Of these, what was counted before."""
DRAFTED = [*PLAIN, *LOOKUPS]
BESIDE = [
    "standalone-chain",
    "eagle-tree",
    "eagle3-tree",
    "medusa-tree",
    "prism-tree",
    "flash-tree",
    "recycling",
    "suffix",
]
"""Of these, those whose requests also run beside others: one for each kind of worker."""
STOPPED = [*DRAFTED, *ALTERED] if ALL else BESIDE
SAMPLED = ["standalone-chain", "eagle-tree", "recycling", *RULED]
if ALL:  # verified by the same code of SGLang's
    BESIDE = DRAFTED
    SAMPLED += [
        "fspad-tree", "s2d-tree", "eagle3-tree", "medusa-tree", "prism-tree", "trigram", "flash-tree", "chimera-tree",
    ]  # fmt: skip


def publish(folder: Path) -> None:
    """The embedded drafts laid out as SafeAILab and FasterDecoding publish theirs."""
    files = {"eagle": "pytorch_model.bin", "eagle3": "pytorch_model.bin", "medusa": "medusa_lm_head.pt"}
    for name, file in files.items():
        out = folder / name
        out.mkdir(parents=True)
        torch.save(load_file(TINY / name / "model.safetensors"), out / file)
        config = json.loads((TINY / name / "config.json").read_text())
        published = {**config, "architectures": ["LlamaForCausalLM"]}
        if name == "medusa":
            published = {"medusa_num_heads": 2, "medusa_num_layers": 1, "base_model_name_or_path": "owner/model"}
        (out / "config.json").write_text(json.dumps(published))


def alter(folder: Path) -> None:
    """PRISM checkpoints made of HASS's weights, and one whose second module is spoiled."""
    hass, prism = (load_file(TINY / name / "model.safetensors") for name in ("hass", "prism"))
    module = {name.replace("layers.0", "layer"): weight for name, weight in hass.items() if "embed" not in name}
    config = json.loads((TINY / "prism" / "config.json").read_text())
    copies = {
        count: {f"prism_modules.{m}.{name}": weight.clone() for m in range(count) for name, weight in module.items()}
        for count in (1, 2)
    }
    generator, spoiled = torch.Generator().manual_seed(0), dict(prism)
    for name, weight in prism.items():
        if name.startswith("prism_modules.1"):
            spoiled[name] = weight + torch.randn(weight.shape, generator=generator).half() * weight.std()
    for name, weights, steps in (
        ("one", copies[1], [0] * 5),
        ("equal", copies[2], [0, 1, 0, 1, 1]),
        ("corrupt", spoiled, config["step_to_module"]),
    ):
        out = folder / name
        out.mkdir(parents=True)
        save_file(weights, out / "model.safetensors")
        (out / "config.json").write_text(json.dumps({**config, "step_to_module": steps}))


def suite(folder: Path, **changes: Any) -> Suite:
    """Every arm under one configuration."""
    hurried = {"schedule_conservativeness": 0.01}  # more requests are let in than the pool can hold to their end
    arms = [{"name": "vanilla", "architecture": "vanilla", "engine": hurried}]
    for name, (architecture, checkpoint, (steps, topk, tokens)) in (PLAIN | ALTERED).items():
        path = checkpoint if checkpoint.startswith("tiny/") else str(folder / checkpoint)
        arms.append({"name": name, "architecture": architecture, "checkpoint": path, "engine": hurried,
                     "num_steps": steps, "topk": topk, "num_draft_tokens": tokens})  # fmt: skip
        if name in ADAPTIVE:
            arms[-1]["options"] = {"adaptive_steps": ADAPTIVE[name]}
    for name, (architecture, checkpoint, (steps, topk, tokens), rule) in RULED.items():
        arms.append({"name": name, "architecture": architecture, "checkpoint": checkpoint, "engine": hurried,
                     "num_steps": steps, "topk": topk, "num_draft_tokens": tokens,
                     "options": {"acceptance_rule": rule}})  # fmt: skip
    for name, (architecture, (steps, topk, tokens)) in LOOKUPS.items():
        table = {"checkpoint": TABLES[name]} if name in TABLES else {}
        arms.append({"name": name, "architecture": architecture, **table, "engine": hurried,
                     "num_steps": steps, "topk": topk, "num_draft_tokens": tokens})  # fmt: skip
    values = {
        "version": 1,
        "name": "engines",
        "target": {"model": "tiny", "dtype": "float32"},
        "arms": tuple(arms),
        "workloads": ({"name": "w", "source": "synthetic", "family": "code", "num_prompts": 1},),
        "sampling": {"temperature": 0, "max_tokens": MAX_TOKENS, "seed": 0},
        "load": ({"concurrency": CONCURRENCY},),
        "blocks": 1,
        "prefix_cache": True,
        "max_running_requests": SAMPLED_AT_ONCE,
        "max_total_tokens": 272,
        "chunked_prefill_size": 48,
        **changes,
    }
    return Suite.model_validate(values)


@cache
def tasks() -> list[SyntheticTask]:
    return [task for family in FAMILIES for task in islice(generate(family, "heldout", 11), PROMPTS_PER_FAMILY)]


@cache
def prompts() -> list[Prompt]:
    """All prompts: those run alone, the rest, and three that repeat others and find them cached."""
    renderer = ChatRenderer(TINY / "target")
    found = []
    for number, task in enumerate(tasks()):
        ids = renderer.render([{"role": "user", "content": task.prompt}])
        found.append(Prompt("w", f"p{number}", 0, task.family, ids, prompt_sha256(ids), MAX_TOKENS))
    alone = [prompt for number, prompt in enumerate(found) if number % PROMPTS_PER_FAMILY < ALONE_PER_FAMILY]
    rest = [prompt for prompt in found if prompt not in alone]
    again = [Prompt("w", f"again{n}", 0, None, p.prompt_ids, p.sha256, MAX_TOKENS) for n, p in enumerate(rest[:3])]
    return [*alone, *rest, *again]


def prompts_alone() -> list[Prompt]:
    return prompts()[: ALONE_PER_FAMILY * len(FAMILIES)]


def short_prompts(alone: dict[str, RequestRecord]) -> list[Prompt]:
    """Prompts again, with room for one to three tokens after their stop token: a round can go past both.

    They are those with the shortest outputs: only the end of one matters.
    """
    stopped = [record for record in alone.values() if record.finish_reason == "stop"]
    outputs = {record.prompt_id: record.output_ids for record in sorted(stopped, key=lambda r: len(r.output_ids))[:3]}
    return [
        replace(prompt, prompt_id=f"{prompt.prompt_id}+{room}", max_tokens=len(outputs[prompt.prompt_id]) + room)
        for prompt in prompts()
        if prompt.prompt_id in outputs
        for room in (1, 2, 3)
    ]


def unshared_prompts() -> list[Prompt]:
    """Prompts that begin with a token of their own each, so that none finds another's prefix cached."""
    own = enumerate(prompts_alone(), 100)
    return [replace(prompt, prompt_ids=(token, *prompt.prompt_ids), max_tokens=32) for token, prompt in own]


def open_prompts() -> list[Prompt]:
    """One prompt that the target was never taught to answer, so that it is unsure, many times."""
    ids = ChatRenderer(TINY / "target").render([{"role": "user", "content": "Tell me about the sea."}])
    return [Prompt("w", f"s{n}", 0, None, ids, prompt_sha256(ids), 5) for n in range(NUM_SAMPLES)]


def run(
    engine: Any, arm: str, concurrency: int, sampling: dict[str, float], asked: list[Prompt]
) -> tuple[dict[str, RequestRecord], Any]:
    cell = CellKey(launch=0, block=0, arm=arm, workload="w", concurrency=concurrency)
    records: dict[str, RequestRecord] = {}
    asyncio.run(engine.flush())
    book = RoundBook(engine)
    keep = lambda record: records.__setitem__(record.prompt_id, record)  # noqa: E731
    asyncio.run(run_closed_loop(engine, cell, asked, sampling, book, keep))
    return records, book.phases()


async def go_away(engine: Any, asked: list[Prompt]) -> None:
    """Send requests, read their first tokens and hang up; the engine aborts them in the middle of a round."""

    async def hang_up(session: aiohttp.ClientSession, prompt: Prompt) -> None:
        sampling = {"temperature": 0.0, "max_new_tokens": MAX_TOKENS, "ignore_eos": True}
        body = {"rid": f"gone-{prompt.prompt_id}", "input_ids": prompt.prompt_ids, "sampling_params": sampling}
        async with session.post(f"{engine.url}/generate", json={**body, "stream": True}) as response:
            await response.content.readline()

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(hang_up(session, prompt) for prompt in asked))


@pytest.fixture(scope="module")
def arms(tmp_path_factory: pytest.TempPathFactory) -> SglangFleet:
    """All arms, the draft's first passes kept."""
    folder = tmp_path_factory.mktemp("run")
    publish(folder / "published")
    alter(folder / "altered")
    (folder / "probed").touch()
    return find_fleet(suite(folder), discover(), Path.cwd(), folder, has_gpu()).forking(pytest.fail)


def measure(arms: SglangFleet, name: str) -> dict[str, Any]:
    """One arm's records: alone, with nothing cached but what learns online; beside others; at a temperature."""
    greedy = {"temperature": 0.0}
    engine = arms.start(name)
    try:
        found: dict[str, Any] = {"receipt": engine.receipt, "alone": {}, "phases": []}
        if name in LOOKUPS:
            blocks = [run(engine, name, 1, greedy, prompts_alone()[::ALONE_PER_FAMILY]) for _ in range(2)]
            found["blocks"] = [records for records, _ in blocks]
            found["alone"], found["phases"] = blocks[0][0], [phases for _, phases in blocks]
            asyncio.run(go_away(engine, prompts()[:3]))
            found["after_aborts"], _ = run(engine, name, 2, greedy, prompts()[:4])
        else:
            # Vanilla alone answers all: that is what the others are compared with.
            asked = prompts_alone()[::ALONE_PER_FAMILY] if name in RULED else prompts_alone()
            for prompt in prompts()[: len(tasks())] if name == "vanilla" else asked:
                records, phases = run(engine, name, 1, greedy, [prompt])
                found["alone"] |= records
                found["phases"].append(phases)
        if name == "vanilla" or name in STOPPED:
            found["short"], _ = run(engine, name, 2, greedy, short_prompts(found["alone"]))
        if name == "vanilla" or name in BESIDE:
            found["beside"], _ = run(engine, name, CONCURRENCY, greedy, prompts())
        if name in PLAIN and PLAIN[name][0] in TOKENS_ALONE:
            found["unshared"] = [run(engine, name, size, greedy, unshared_prompts())[0] for size in (1, CONCURRENCY)]
        if name == "vanilla" or name in SAMPLED:
            found["sampled"], _ = run(engine, name, SAMPLED_AT_ONCE, {"temperature": 0.7}, open_prompts())
        return found
    finally:
        engine.stop()
        assert psutil.pid_exists(engine._process.pid) is False


@pytest.fixture(scope="module")
def measured(arms: SglangFleet) -> dict[str, dict[str, Any]]:
    """Every arm, two engines at a time; nothing here is a timing."""
    names = ["vanilla", *DRAFTED, *ALTERED, *RULED]
    with ThreadPoolExecutor(2) as threads:
        return dict(zip(names, threads.map(lambda name: measure(arms, name), names), strict=True))


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle(TINY / "target")


def accepted(record: RequestRecord) -> list[int]:
    return [round_.num_accepted_drafts for round_ in record.rounds or ()]


@pytest.mark.parametrize("arm", ["vanilla", *DRAFTED, *ALTERED, *RULED])
def test_greedy_output_equals_vanillas(measured, arm):
    """Token for token: alone, beside others with pieces of prompts, cached prefixes and retractions, after aborts."""
    truth = {record.prompt_sha256: record.output_ids for record in measured["vanilla"]["alone"].values()}
    for kind in ("alone", "beside", "after_aborts"):
        for record in measured[arm].get(kind, {}).values():
            assert record.error is None
            assert record.output_ids == truth[record.prompt_sha256], (kind, record.prompt_id)


@pytest.mark.parametrize("arm", ["vanilla", *STOPPED])
def test_nothing_is_delivered_past_a_stop_token(measured, arm):
    """Also where the round that accepts it reaches the longest output allowed."""
    truth = {record.prompt_sha256: record.output_ids for record in measured["vanilla"]["alone"].values()}
    records = measured[arm]["short"].values()
    assert len(records) == 9
    for record in records:
        assert (record.finish_reason, record.output_ids) == ("stop", truth[record.prompt_sha256]), record.prompt_id


@pytest.mark.parametrize("arm", BESIDE)
def test_life_was_hard(measured, arm):
    """The run beside others had requests put back, prefixes found and prompts longer than a piece."""
    records = measured[arm]["beside"].values()
    assert len(records) == len(prompts())
    assert sum(record.num_retractions for record in records) > 0
    assert sum(record.num_cached_tokens or 0 for record in records) > 0
    assert max(record.num_prompt_tokens for record in records) > 48


@pytest.mark.parametrize("arm", DRAFTED)
def test_rounds_belong_to_their_requests(measured, arm):
    """Each request's recorded rounds emit its own tokens and match the engine's counters."""
    for kind in ("alone", "beside"):
        for record in measured[arm].get(kind, {}).values():
            assert record.rounds
            assert acceptance.disagrees_with_engine(record) is None


@pytest.mark.parametrize("arm", [arm for arm in PLAIN if arm in BESIDE])
def test_neighbours_do_not_change_what_is_accepted(measured, arm):
    """A request that was not put back has the same rounds beside others as alone.

    For SGLang's STANDALONE only where no prefix is cached: of its last token the draft's state was written for another
    request's next token (only EAGLE's caches are keyed by pairs of tokens).
    """
    alone, beside = measured[arm].get("unshared") or (measured[arm]["alone"], measured[arm]["beside"])
    if PLAIN[arm][0] in TOKENS_ALONE:
        assert not any(record.num_cached_tokens for records in (alone, beside) for record in records.values())
    same = {name for name in alone if not beside[name].num_retractions}
    assert same
    for name in same:
        assert accepted(alone[name]) == accepted(beside[name]), name


@pytest.mark.parametrize("arm", LOOKUPS)
def test_what_is_learnt_online_is_forgotten_between_blocks(measured, arm):
    """The flush before a cell empties it: the second time the same prompts have the same rounds."""
    first, second = ({name: accepted(record) for name, record in block.items()} for block in measured[arm]["blocks"])
    assert first == second


def test_token_recyclings_table_is_what_the_target_said_last(arms, measured):
    """After a run beside others the table equals one rebuilt from the logits of every verified node."""
    found = torch.load(arms.engines_folder / "recycling" / "table.pt", weights_only=False)
    assert measured["recycling"]["receipt"].draft_facts == {"proposer": "TokenRecycling"}
    assert len(found["passes"]) > 100
    filler = prompts()[0].prompt_ids[0]
    rebuilt = torch.full_like(found["table"], -1)
    for tokens, candidates in found["passes"]:
        for token, row in zip(tokens.tolist(), candidates, strict=True):
            if token != filler:
                rebuilt[token] = row
    assert torch.equal(rebuilt, found["table"])


def test_trigrams_rounds_are_those_of_the_published_search(measured, oracle):
    """From the table that comes with the project, raised by every request's text in its turn."""
    table, asked = load_table(TINY / "trigram"), prompts_alone()[::ALONE_PER_FAMILY]
    pairs = [divmod(int(pair), table.vocab_size) for pair in table.pairs_P]
    simulation = Simulation({pair: table.successors(*pair) for pair in pairs}, Tree(*LOOKUPS["trigram"][1]))
    assert measured["trigram"]["receipt"].draft_facts["table_pairs"] == len(pairs)
    for prompt in asked:
        record = measured["trigram"]["alone"][prompt.prompt_id]
        beyond = oracle.continued((*prompt.prompt_ids, *record.output_ids), 5)
        assert accepted(record) == simulation.rounds(prompt.prompt_ids, record.output_ids, beyond), prompt.prompt_id


@pytest.mark.parametrize("arm", SIMULATED)
def test_rounds_are_those_of_the_simulation(measured, oracle, arm):
    """Plain torch, without SGLang, accepts the same number of drafts in every round of every request."""
    architecture, checkpoint, tree = PLAIN[arm]
    records = [measured[arm]["alone"][prompt.prompt_id] for prompt in prompts_alone()]
    assert len(records) == ALONE_PER_FAMILY * len(FAMILIES)
    answers = [(prompt.prompt_ids, record.output_ids) for prompt, record in zip(prompts_alone(), records, strict=True)]
    draft = load_draft(architecture, TINY / Path(checkpoint).name, oracle.target, Tree(*tree))
    simulated = oracle.rounds(draft, answers, Tree(*tree))
    for record, rounds in zip(records, simulated, strict=True):
        assert accepted(record) == rounds, record.prompt_id


@pytest.mark.parametrize("arm", [arm for arm in PLAIN if arm.endswith("chain") and arm != "medusa-chain"])
def test_torch_and_engine_score_drafts_alike(arms, measured, oracle, arm):
    """The module that was trained and the one in the engine give the same logits at every step of a round."""
    architecture, checkpoint, (num_steps, *_) = PLAIN[arm]
    passes = torch.load(arms.engines_folder / arm / "passes.pt")
    first = next(number for number, found in enumerate(passes) if found["mode"] == "DECODE")
    steps = passes[first - 1 : first + num_steps - 1]
    assert [found["mode"] for found in steps[1:]] == ["DECODE"] * (num_steps - 1)
    assert {found["mode"] for found in passes[:first]} == {"EXTEND"}
    prompt = prompts()[0]
    tokens = [measured[arm]["alone"][prompt.prompt_id].output_ids[0], *(int(found["tokens"][0]) for found in steps[1:])]
    draft = load_draft(architecture, TINY / Path(checkpoint).name, oracle.target)
    if architecture == "eagle3":
        # Passes hold scores of the draft's own vocabulary, and the engine's tokens are already the target's.
        draft.logits = lambda hidden, step: draft.draft_logits(hidden)
    for found, expected in zip(steps, oracle.first_round_logits(draft, prompt.prompt_ids, tokens), strict=True):
        torch.testing.assert_close(found["logits"][0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("arm", [arm for arm in ALTERED if arm in ("prism-one", "prism-equal")])
def test_prism_with_equal_modules_is_eagle(measured, arm):
    """One module, or two with the same weights, draft what EAGLE drafts with them, round for round."""
    assert measured[arm]["receipt"].draft_worker == "PrismDraftWorker"
    for name, record in measured[arm]["alone"].items():
        assert accepted(record) == accepted(measured["hass-tree"]["alone"][name])


@pytest.mark.skipif(not ALL, reason="test_prism.py shows it for PRISM on three layers; make test-all")
def test_prisms_second_module_serves_the_later_steps_alone(measured):
    """Noise in module 2 changes nothing at step 1, wherever both runs begin a round, and much at the steps after."""
    later = {"prism-chain": Counter(), "prism-corrupt": Counter()}
    num_common = 0
    for name in measured["prism-corrupt"]["alone"]:
        begun = []
        for arm in later:
            rounds = accepted(measured[arm]["alone"][name])
            later[arm].update(min(count, 2) for count in rounds if count)
            begun.append(dict(zip(accumulate((count + 1 for count in rounds), initial=0), rounds, strict=False)))
        common = begun[0].keys() & begun[1].keys()
        num_common += len(common)
        assert all((begun[0][place] > 0) == (begun[1][place] > 0) for place in common)
    assert num_common > 100
    share = {arm: counts[2] / counts.total() for arm, counts in later.items()}
    assert share["prism-corrupt"] < 0.5 * share["prism-chain"]


@pytest.mark.parametrize("arm", ADAPTIVE)
def test_the_number_of_steps_follows_sglangs_rule(measured, oracle, arm):
    """Every round has as many steps as the average of accepted drafts says, anew for each request after a flush, and
    accepts what the whole chain would, as far as it goes.

    The rule: 0.2 of a round's accepted drafts and 0.8 of what was, from one less than the first number of steps; looked
    at after 10 rounds and every fifth one; up while above the number less 0.5, down while at most the next lower one
    less 0.75.
    """
    steps, tree = ADAPTIVE[arm], Tree(*CHAIN)
    assert measured[arm]["receipt"].adaptive_steps == steps
    answers = [(prompt.prompt_ids, measured[arm]["alone"][prompt.prompt_id].output_ids) for prompt in prompts_alone()]
    draft = load_draft("eagle", TINY / "hass", oracle.target, tree)
    seen = Counter()
    for prompt, longest in zip(prompts_alone(), oracle.accepted_from(draft, answers, tree), strict=True):
        place, at, average = 0, len(steps) - 1, steps[-1] - 1.0
        for number, round_ in enumerate(measured[arm]["alone"][prompt.prompt_id].rounds or (), 1):
            seen[round_.num_proposed_drafts] += 1
            assert round_.num_proposed_drafts == steps[at]
            assert round_.num_accepted_drafts == min(longest[place], steps[at])
            place += round_.num_accepted_drafts + 1
            average = 0.8 * average + 0.2 * round_.num_accepted_drafts
            if number <= 10 or number % 5:
                continue
            before = at
            while at and average <= steps[at - 1] - 0.75:
                at -= 1
            if at == before:
                while at + 1 < len(steps) and average > steps[at] - 0.5:
                    at += 1
    assert len(seen) > 1
    assert set(seen) <= set(steps)


def test_drafts_are_accepted(measured):
    """Trained drafts save rounds, and multi-step alignment helps at equal trees."""
    rounds = {arm: acceptance.rounds_of(measured[arm]["alone"].values()) for arm in DRAFTED}
    length = {arm: acceptance.acceptance_length(found) for arm, found in rounds.items()}
    assert min(length[arm] for arm in PLAIN) > 2
    assert min(length[arm] for arm in LOOKUPS) > 1.05
    assert length["hass-tree"] > length["eagle-tree"] > length["eagle-chain"] > 2.5


def test_receipts_name_what_runs(measured):
    """Algorithm, draft class, worker, facts and tree as the suite says; nothing but the draft differs between arms."""
    receipts = {arm: found["receipt"] for arm, found in measured.items()}
    assert receipts["vanilla"].algorithm is None
    named = {arm: (receipts[arm].algorithm, receipts[arm].draft_class, receipts[arm].draft_worker) for arm in receipts}
    assert named["standalone-chain"] == ("STANDALONE", "LlamaForCausalLM", "StandaloneDraftWorker")
    eagle = {named[arm] for arm in ("eagle-chain", "stacked-tree") if arm in named}
    assert eagle == {("EAGLE", "LlamaForCausalLMEagle", "EagleDraftWorker")}
    assert named["eagle3-tree"] == ("EAGLE3", "LlamaForCausalLMEagle3", "EagleDraftWorker")
    assert named["fspad-tree"] == ("EAGLE", "LlamaForCausalLMFspad", "EagleDraftWorker")
    assert named["s2d-tree"] == ("STANDALONE", "LlamaForCausalLMNested", "StandaloneDraftWorker")
    assert receipts["s2d-tree"].draft_facts == {"exits": [1, 2, 3], "exit_thresholds": [0.9, 0.9]}
    assert named["medusa-tree"] == ("EAGLE", "MedusaHeads", "MedusaDraftWorker")
    assert named["flash-tree"] == named["chimera-tree"] == ("EAGLE", "StepwiseDraftModel", "StepwiseDraftWorker")
    assert receipts["flash-tree"].draft_facts["tokens_per_pass"] == 3
    assert receipts["chimera-tree"].draft_facts["num_heads"] == 4
    assert named["prism-tree"] == ("EAGLE", "LlamaForCausalLMPrism", "PrismDraftWorker")
    assert {named[arm] for arm in LOOKUPS} == {("NGRAM", None, None)}
    assert receipts["recycling"].draft_facts == {"proposer": "TokenRecycling"}
    assert receipts["prism-tree"].draft_facts == {
        "num_modules": 2, "step_to_module": [0, 1, 1, 1, 1], "reads": "last hidden state",
    }  # fmt: skip
    assert receipts["medusa-tree"].draft_facts == {"num_heads": 4, "num_blocks": 1}
    assert receipts["eagle-tree"].server_args["speculative_num_draft_tokens"] == 16
    for argument in ("max_running_requests", "chunked_prefill_size", "max_total_tokens"):
        assert len({receipt.server_args[argument] for receipt in receipts.values()}) == 1


@pytest.mark.parametrize("arm", DRAFTED)
def test_a_rounds_time_is_split(measured, arm):
    """Draft, verify and extend are timed, and leave little of a round."""
    split = round_split(measured[arm]["phases"])
    assert split is not None
    assert min(split.draft, split.verify, split.extend) > 0.001
    assert 0 <= split.other < 0.2
    assert set(measured["vanilla"]["phases"]) == {None}


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


@pytest.mark.parametrize("arm", SAMPLED)
def test_sampled_output_is_distributed_as_vanillas(measured, arm):
    """At temperature 0.7 short continuations of an open prompt: many kinds, in vanilla's proportions."""
    for place in (slice(0, 2), slice(2, 3), slice(3, 5)):
        vanilla, drafted = kinds(measured["vanilla"]["sampled"], place), kinds(measured[arm]["sampled"], place)
        assert len(vanilla) > 5
        assert p_value(vanilla, drafted) > 1e-3, place


def check_first_drafts(records: Any, architecture: str, checkpoint: Path, tree: Tree, rule: str) -> None:
    """The first round after an open prompt accepts a draft as often as the rule says, given the first tokens.

    By the distributions of plain torch: each first token that is seen often has its chance, a mean over candidates that
    the rule draws. Four standard errors, of the counts and of these means.
    """
    oracle, rounds = Oracle(TINY / "target"), defaultdict(list)
    draft, prompt = load_draft(architecture, checkpoint, oracle.target, tree), open_prompts()[0].prompt_ids
    for record in records:
        rounds[record.output_ids[0]].append(record.rounds[0].num_accepted_drafts > 0)
    often = sorted(rounds, key=lambda token: len(rounds[token]), reverse=True)[:12]
    seen, expected, variance = 0, 0.0, 0.0
    for first in often:
        target_V = (oracle.logits(prompt, (first, first))[1] / 0.7).softmax(-1)
        draft_V = (oracle.first_round_logits(draft, prompt, (first, first))[0] / 0.7).softmax(-1)
        drawn = [RULES[rule].draw(draft_V[None], tree.topk)[0].tolist() for _ in range(100)]
        chances = [1 - prod(1 - chance for chance in RULES[rule].judge(target_V, draft_V, each)[0]) for each in drawn]
        chance, count = mean(chances), len(rounds[first])
        seen, expected = seen + sum(rounds[first]), expected + count * chance
        variance += count * chance * (1 - chance) + count**2 * pvariance(chances) / len(drawn)
    assert expected > 0.5
    assert abs(seen - expected) < 4 * variance**0.5 + 1


@pytest.mark.parametrize("arm", RULED)
def test_sampled_drafts_are_accepted_by_their_rule(measured, oracle, arm):
    """The receipt names it, sampled drafts are accepted, and greedily every round is the tree's."""
    architecture, checkpoint, tree, rule = RULED[arm]
    assert measured[arm]["receipt"].acceptance_rule == rule
    if arm != "prism-spectr":  # there the rule itself accepts hardly any, as check_first_drafts shows
        assert acceptance.acceptance_length(acceptance.rounds_of(measured[arm]["sampled"].values())) > 1.1
    check_first_drafts(measured[arm]["sampled"].values(), architecture, TINY / Path(checkpoint).name, Tree(*tree), rule)
    records = measured[arm]["alone"].values()
    asked = {prompt.prompt_id: prompt.prompt_ids for prompt in prompts_alone()}
    answers = [(asked[record.prompt_id], record.output_ids) for record in records]
    draft = load_draft(architecture, TINY / Path(checkpoint).name, oracle.target, Tree(*tree))
    assert [accepted(record) for record in records] == list(oracle.rounds(draft, answers, Tree(*tree)))


def test_the_target_answers_well(measured):
    """Greedy answers to held-out prompts end by themselves and are mostly right."""
    renderer = ChatRenderer(TINY / "target")
    records = [measured["vanilla"]["alone"][f"p{number}"] for number in range(len(tasks()))]
    right = [is_correct(t.answer, renderer.decode(r.output_ids)) for t, r in zip(tasks(), records, strict=True)]
    ended = [record.finish_reason == "stop" for record in records]
    assert sum(ended) >= 0.8 * len(ended)
    assert sum(right) >= 0.6 * len(right)


def test_an_engine_that_dies_at_start_shows_its_log(tmp_path):
    """The last lines of its log, and no process left."""
    bad = suite(tmp_path, arms=({"name": "vanilla", "architecture": "vanilla", "engine": {"quantization": "gptq"}},))
    arms = find_fleet(bad, discover(), Path.cwd(), tmp_path, has_gpu()).forking(pytest.fail)
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    with pytest.raises(EngineError, match=r"(?s)arm vanilla: the engine ended while it started.*the last lines of"):
        arms.start("vanilla")
    assert {process.pid for process in psutil.Process().children(recursive=True)} <= before
