"""One target over two processes of the CPU: every architecture says and drafts what it does on one."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from draftbench.drafts.api import Tree, discover
from draftbench.drafts.training.load import load_draft
from draftbench.harness.host.provenance import has_gpu
from draftbench.harness.load.requests import Prompt
from draftbench.harness.metrics import acceptance
from draftbench.harness.models.find import EMBEDDED
from draftbench.harness.records import RequestRecord
from draftbench.harness.runtime.fleet import SglangFleet, find_fleet
from draftbench.harness.suite import Suite
from tests.runtime.oracle import Oracle
from tests.runtime.test_engines import accepted, kinds, open_prompts, p_value, prompts, run

TINY = EMBEDDED / "tiny"
ROOT = Path(__file__).parents[2]
TREE, CHAIN = Tree(5, 3, 12), Tree(5, 1, 6)
ARMS: dict[str, tuple[str, str | None, Tree, dict[str, Any]]] = {
    "standalone": ("standalone", "tiny/standalone", CHAIN, {}),
    "s2d": ("s2d", "tiny/s2d", TREE, {}),
    "eagle": ("eagle", "tiny/hass", TREE, {}),
    "stacked": ("eagle", "tiny/stacked-2", TREE, {}),
    "adaptive": ("eagle", "tiny/hass", CHAIN, {"adaptive_steps": [1, 3, 5]}),
    "eagle-rsd": ("eagle", "tiny/hass", Tree(3, 3, 10), {"acceptance_rule": "rsd"}),
    "standalone-spectr": ("standalone", "tiny/standalone", Tree(3, 3, 10), {"acceptance_rule": "spectr"}),
    "fspad": ("fspad", "tiny/fspad", TREE, {}),
    "eagle3": ("eagle3", "tiny/eagle3", TREE, {}),
    "prism": ("prism", "tiny/prism", TREE, {}),
    "prism-3": ("prism", "tiny/prism-3", TREE, {}),
    "medusa": ("medusa", "tiny/medusa", Tree(4, 3, 12), {}),
    "flash": ("flash_text", "tiny/flash-text", TREE, {}),
    "chimera": ("chimera", "tiny/chimera", Tree(4, 3, 12), {}),
    "dflash": ("dflash", "tiny/dflash", CHAIN, {}),
    "ngram": ("ngram", None, Tree(8, 2, 12), {}),
    "lookup": ("prompt_lookup", None, Tree(5, 2, 12), {}),
    "recycling": ("token_recycling", None, TREE, {}),
    "suffix": ("suffix", None, TREE, {}),
    "trigram": ("adaptive_trigram", "tiny/trigram", Tree(4, 12, 25), {}),
}
"""Architecture, checkpoint, tree and options of everything that drafts on a CPU, but for a target's own layer."""
KINDS = {"alone": 1, "again": 1, "beside": 3}
"""Requests at a time; a flush lies between."""
SAMPLED = ["vanilla", "eagle", "prism", "medusa", "s2d", "dflash", "lookup", "eagle-rsd", "standalone-spectr"]
"""Whose outputs at a temperature are looked at: what samples, verifies or proposes in a way of its own."""


def suite(ranks: int) -> Suite:
    """Every arm on so many devices; prompts are cut into pieces, prefixes cached."""
    arms: list[dict[str, Any]] = [{"name": "vanilla", "architecture": "vanilla"}]
    for name, (architecture, checkpoint, tree, options) in ARMS.items():
        arm = {"name": name, "architecture": architecture, "checkpoint": checkpoint, "options": options}
        sizes = {"num_steps": tree.num_steps, "topk": tree.topk, "num_draft_tokens": tree.num_draft_tokens}
        arms.append({key: value for key, value in (arm | sizes).items() if value})
    values = {
        "version": 1,
        "name": "shared",
        "target": {"model": "tiny", "dtype": "float32", "tensor_parallel": ranks},
        "arms": tuple(arms),
        "workloads": ({"name": "w", "source": "synthetic", "family": "code", "num_prompts": 1},),
        "sampling": {"temperature": 0, "max_tokens": 96, "seed": 0},
        "load": ({"concurrency": 3},),
        "blocks": 1,
        "prefix_cache": True,
        "max_total_tokens": 1024,
        "chunked_prefill_size": 48,
        "max_running_requests": 6,
    }
    return Suite.model_validate(values)


def fleet(folder: Path, ranks: int) -> SglangFleet:
    return find_fleet(suite(ranks), discover(), ROOT, folder / str(ranks), has_gpu()).forking(pytest.fail)


@cache
def asked() -> list[Prompt]:
    """Of two families, one longer than a piece, and at last one of which hardly a draft is accepted."""
    few = [*prompts()[::8][:2], replace(open_prompts()[0], prompt_id="open")]
    return [replace(prompt, max_tokens=24) for prompt in few]


class Measured:
    """What arms answer, each asked when a test needs it first."""

    def __init__(self, folder: Path) -> None:
        self._fleet = cache(lambda ranks: fleet(folder, ranks))
        self.greedy = cache(self._greedy)
        self.sampled = cache(self._sampled)

    def _greedy(self, name: str, ranks: int) -> dict[str, dict[str, RequestRecord]]:
        """Answers by kind and prompt: alone, the same anew after a flush, beside others."""
        engine = self._fleet(ranks).start(name)
        try:
            assert engine.receipt.server_args["tp_size"] == ranks
            return {kind: run(engine, name, size, {"temperature": 0.0}, asked())[0] for kind, size in KINDS.items()}
        finally:
            engine.stop()

    def _sampled(self, name: str, ranks: int) -> dict[str, RequestRecord]:
        """Many short continuations of one open prompt."""
        engine = self._fleet(ranks).start(name)
        try:
            return run(engine, name, 6, {"temperature": 0.7}, open_prompts())[0]
        finally:
            engine.stop()


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    return Measured(tmp_path_factory.mktemp("shared"))


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["vanilla", *ARMS])
def test_outputs_are_those_of_one_device(measured: Measured, arm: str) -> None:
    """Token for token vanilla's on one: alone, after a flush, beside others."""
    truth, shared = measured.greedy("vanilla", 1)["alone"], measured.greedy(arm, 2)
    for kind in KINDS:
        assert len(shared[kind]) == 3
        for prompt, record in shared[kind].items():
            assert record.error is None
            assert record.output_ids == truth[prompt].output_ids, (kind, prompt)


@pytest.mark.slow
@pytest.mark.parametrize("arm", ARMS)
def test_drafts_are_those_of_one_device(measured: Measured, arm: str) -> None:
    """Round by round as many are proposed and accepted, and each round is told once though two ranks run it."""
    one, shared = measured.greedy(arm, 1), measured.greedy(arm, 2)
    for kind in ("alone", "again"):
        for prompt, record in shared[kind].items():
            assert record.rounds == one[kind][prompt].rounds, (kind, prompt)
            assert acceptance.disagrees_with_engine(record) is None
    assert sum(map(sum, map(accepted, shared["alone"].values()))) > 0


@pytest.mark.slow
@pytest.mark.parametrize("arm", SAMPLED)
def test_sampled_outputs_are_distributed_as_one_devices(measured: Measured, arm: str) -> None:
    """At temperature 0.7 continuations of an open prompt come in the proportions of vanilla on one device."""
    for place in (slice(0, 2), slice(2, 3), slice(3, 5)):
        vanilla, shared = kinds(measured.sampled("vanilla", 1), place), kinds(measured.sampled(arm, 2), place)
        assert len(vanilla) > 5
        assert p_value(vanilla, shared) > 1e-3, place


def test_prism_drafts_over_two_devices_as_simulated(tmp_path: Path) -> None:
    """The ordinary run's share of this file: the target's own tokens, and the rounds of the simulation."""
    engine = fleet(tmp_path, 2).start("prism")
    few = asked()[:2]
    try:
        records, _ = run(engine, "prism", 1, {"temperature": 0.0}, few)
    finally:
        engine.stop()
    assert engine.receipt.server_args["tp_size"] == 2
    oracle, outputs = Oracle(TINY / "target"), [records[prompt.prompt_id].output_ids for prompt in few]
    answers = [(prompt.prompt_ids, output) for prompt, output in zip(few, outputs, strict=True)]
    assert outputs == [oracle.continued(prompt, len(output)) for prompt, output in answers]
    draft = load_draft("prism", TINY / "prism", oracle.target, TREE)
    assert [accepted(records[prompt.prompt_id]) for prompt in few] == list(oracle.rounds(draft, answers, TREE))
