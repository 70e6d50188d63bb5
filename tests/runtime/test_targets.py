"""Targets of several families in miniature, each with drafts trained for it: loaded, run, lossless, as simulated.

Weights are random, configurations those that transformers writes; the tokenizer is the embedded target's.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from draftbench.drafts.api import Tree, discover
from draftbench.drafts.training import cards
from draftbench.drafts.training.batches import split
from draftbench.drafts.training.features import Example, features_of
from draftbench.drafts.training.hf import AutoModelForCausalLM
from draftbench.drafts.training.load import load_draft
from draftbench.drafts.training.loop import Task, Trainer
from draftbench.drafts.training.processes import Processes
from draftbench.drafts.training.recipe import Start
from draftbench.drafts.training.recipes import recipes
from draftbench.drafts.training.settings import Budget
from draftbench.harness.host.provenance import has_gpu
from draftbench.harness.load.generator import RoundBook, run_closed_loop
from draftbench.harness.load.requests import Prompt
from draftbench.harness.metrics import acceptance
from draftbench.harness.models.find import EMBEDDED, read_target
from draftbench.harness.records import CellKey, RequestRecord
from draftbench.harness.runtime.fleet import SglangFleet, find_fleet
from draftbench.harness.suite import Suite
from draftbench.harness.workloads.render import prompt_sha256
from tests.runtime.oracle import Oracle
from tests.runtime.test_engines import kinds, p_value, run

MINIATURE: dict[str, Any] = {
    "vocab_size": 2048, "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2,
    "num_hidden_layers": 8, "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "initializer_range": 0.2,
    "eos_token_id": 2047,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": True},
    "llama-3.1": {"model_type": "llama", "rope_parameters": {
        "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }},
    "qwen2": {"tie_word_embeddings": True, "eos_token_id": [2046, 2047]},
    "qwen3": {"head_dim": 32},
    "mistral": {"head_dim": 32, "sliding_window": None},
    "mimo": {"model_type": "qwen2"},
    "gemma3": {"model_type": "gemma3_text", "head_dim": 32, "sliding_window": 24, "query_pre_attn_scalar": 32},
}  # fmt: skip
"""What their configurations have that LLaMA's have not."""
DRAFTS = ("eagle", "eagle3", "medusa", "prism", "standalone", "dflash")
ORDINARY = {
    ("llama", "prism"), ("llama-3.1", "eagle3"), ("qwen2", "medusa"), ("qwen3", "eagle"), ("mistral", "standalone"),
    ("gemma3", "eagle"), ("qwen3", "dflash"), ("mimo", "nextn"),
}  # fmt: skip
UNSERVED = {("gemma3", "eagle3"), *((family, "dflash") for family in ("gemma3", "qwen2"))}
"""Targets whose layers SGLang does not hand out, or not to every kind of draft."""
PAIRS = [
    (family, draft)
    for family in FAMILIES
    for draft in (("nextn",) if family == "mimo" else DRAFTS)
    if (family, draft) not in UNSERVED
]
TREE = Tree(3, 3, 8)
TREES = {"dflash": Tree(3, 1, 4)}
"""A block is a chain."""
MAX_TOKENS = 32
PROMPTS = tuple(tuple(torch.randint(3, 2000, (size,), generator=torch.Generator().manual_seed(size)).tolist())
                for size in (5, 9, 40))  # fmt: skip


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Oracle, list[Example]]]:
    """Each family's folder, its model, and its own answers; made when they are first asked for."""

    class Made(dict[str, tuple[Path, Oracle, list[Example]]]):
        def __missing__(self, family: str) -> tuple[Path, Oracle, list[Example]]:
            self[family] = made_target(family, tmp_path_factory.mktemp(family))
            return self[family]

    return Made()


def made_target(family: str, folder: Path) -> tuple[Path, Oracle, list[Example]]:
    from transformers import AutoConfig

    torch.manual_seed(0)
    fields = {"model_type": family, **MINIATURE, **FAMILIES[family]}
    model: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(**fields))
    model.lm_head.weight.data.mul_(3.0)  # surer of its next token
    model.save_pretrained(folder)
    if family == "mimo":  # Qwen 2's layers; its own configuration is code beside the published weights
        config = json.loads((folder / "config.json").read_text())
        named = {**config, "architectures": ["MiMoForCausalLM"], "num_nextn_predict_layers": 1}
        (folder / "config.json").write_text(json.dumps(named))
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (EMBEDDED / "tiny" / "target" / name).exists():
            shutil.copyfile(EMBEDDED / "tiny" / "target" / name, folder / name)
    oracle = Oracle(folder)
    return folder, oracle, [Example(prompt, oracle.continued(prompt, MAX_TOKENS)) for prompt in PROMPTS]


def train(name: str, folder: Path, oracle: Oracle, samples: list[Example], out: Path) -> Path:
    """A draft that has learned the target's answers by heart, as a folder."""
    recipe, config = recipes()[name], read_target(folder)
    features = features_of(oracle.target, samples, recipe.layers(config["num_hidden_layers"]), torch.float32)
    chosen, held = np.arange(len(samples)), split(len(samples), 0.4)[1]
    draft: Any = recipe.new(Start(config, oracle.target, features, chosen, 0))
    budget = Budget.model_validate({"axis": "steps", "amount": 60, "tokens_per_batch": 256, "learning_rates": (0.01,)})
    task = Task(name, budget, budget.amount, 0.01, 0, "float32")
    Trainer(draft, recipe.phases, features, chosen, held, task, Processes(), out).run(lambda share, loss: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cards, "card", lambda ledger: "")
        cards.save_draft(draft, recipe.config(config), {"draft": name}, folder, out)
    return out


def beside_its_target(folder: Path, checkpoint: Path, out: Path) -> Path:
    """A target's own layer as it is published: in the target's folder, among its other tensors."""
    shutil.copytree(folder, out)
    own = {key: weight for key, weight in load_file(checkpoint / "model.safetensors").items() if "mtp_layers" in key}
    save_file(own, out / "model-mtp.safetensors")
    return out


def fleet(folder: Path, arms: tuple[dict[str, Any], ...], out: Path, ranks: int = 1) -> SglangFleet:
    suite = {
        "version": 1, "name": "targets", "arms": arms, "load": ({"concurrency": 1},), "blocks": 1,
        "target": {"model": str(folder), "dtype": "float32", "tensor_parallel": ranks},
        "workloads": ({"name": "w", "source": "synthetic", "family": "code", "num_prompts": 1},),
        "sampling": {"temperature": 0, "max_tokens": MAX_TOKENS, "seed": 0}, "max_running_requests": 6,
    }  # fmt: skip
    return find_fleet(Suite.model_validate(suite), discover(), Path.cwd(), out, has_gpu()).forking(pytest.fail)


def arm_of(architecture: str, checkpoint: Path, tree: Tree, **options: Any) -> dict[str, Any]:
    return {"name": "a", "architecture": architecture, "checkpoint": str(checkpoint), "num_steps": tree.num_steps,
            "topk": tree.topk, "num_draft_tokens": tree.num_draft_tokens, "options": options}  # fmt: skip


def decode(folder: Path, architecture: str, checkpoint: Path, out: Path, ranks: int = 1) -> list[RequestRecord]:
    """What an engine answers to the prompts, one at a time and then all at once."""
    arm = arm_of(architecture, checkpoint, TREES.get(architecture, TREE))
    engine, records = fleet(folder, (arm,), out, ranks).start("a"), list[RequestRecord]()
    asked = [Prompt("w", f"p{n}", 0, None, ids, prompt_sha256(ids), MAX_TOKENS) for n, ids in enumerate(PROMPTS)]
    try:
        for concurrency in (1, 3):
            cell = CellKey(launch=0, block=0, arm="a", workload="w", concurrency=concurrency)
            sampling = {"temperature": 0.0, "ignore_eos": True}
            asyncio.run(run_closed_loop(engine, cell, asked, sampling, RoundBook(engine), records.append))
    finally:
        engine.stop()
    assert [record.error for record in records if record.error] == []
    return sorted(records, key=lambda record: (record.cell.concurrency, record.prompt_id))


@pytest.mark.parametrize(
    ("family", "name"), [pair if pair in ORDINARY else pytest.param(*pair, marks=pytest.mark.slow) for pair in PAIRS]
)
def test_a_draft_trained_for_a_target_drafts_for_it(targets: Any, family: str, name: str, tmp_path: Path) -> None:
    """Outputs are the target's own alone and side by side, every round accepts what the simulation accepts, and much
    of what was learned by heart is accepted."""
    folder, oracle, samples = targets[family]
    checkpoint = train(name, folder, oracle, samples, tmp_path / "draft")
    if name == "nextn":
        folder = checkpoint = beside_its_target(folder, checkpoint, tmp_path / "whole")
    records = decode(folder, recipes()[name].architecture, checkpoint, tmp_path / "run")
    check(records, name, checkpoint, oracle, samples)


@pytest.mark.slow
def test_a_targets_own_layer_drafts_over_two_devices(targets: Any, tmp_path: Path) -> None:
    """As on one; the target's keys and values are fewer than its heads."""
    folder, oracle, samples = targets["mimo"]
    checkpoint = train("nextn", folder, oracle, samples, tmp_path / "draft")
    whole = beside_its_target(folder, checkpoint, tmp_path / "whole")
    check(decode(whole, "nextn", whole, tmp_path / "run", ranks=2), "nextn", whole, oracle, samples)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["rsd", "spectr"])
def test_a_targets_own_layer_is_sampled_by_a_rule(targets: Any, rule: str, tmp_path: Path) -> None:
    """At temperature 0.7 continuations of a prompt come in vanilla's proportions, and sampled drafts are accepted."""
    folder, oracle, samples = targets["mimo"]
    checkpoint = train("nextn", folder, oracle, samples, tmp_path / "draft")
    whole = beside_its_target(folder, checkpoint, tmp_path / "whole")
    arm = arm_of("nextn", whole, Tree(3, 3, 10), acceptance_rule=rule)
    arms = fleet(whole, ({"name": "vanilla", "architecture": "vanilla"}, arm), tmp_path / "run")
    asked = [Prompt("w", f"s{n}", 0, None, PROMPTS[1], prompt_sha256(PROMPTS[1]), 5) for n in range(240)]
    found = {}
    for name in ("vanilla", "a"):
        engine = arms.start(name)
        try:
            found[name], _ = run(engine, name, 6, {"temperature": 0.7}, asked)
        finally:
            engine.stop()
    assert engine.receipt.acceptance_rule == rule
    assert acceptance.acceptance_length(acceptance.rounds_of(found["a"].values())) > 1.1
    for place in (slice(0, 2), slice(2, 3), slice(3, 5)):
        vanilla, drafted = kinds(found["vanilla"], place), kinds(found["a"], place)
        assert len(vanilla) > 3
        assert p_value(vanilla, drafted) > 1e-3, place


def check(records: list[RequestRecord], name: str, checkpoint: Path, oracle: Oracle, samples: list[Example]) -> None:
    """Outputs are the target's, rounds the simulation's."""
    assert [record.output_ids for record in records] == [sample.output_ids for sample in samples] * 2
    answers = [(sample.prompt_ids, sample.output_ids) for sample in samples]
    tree = TREES.get(name, TREE)
    draft = load_draft(recipes()[name].architecture, checkpoint, oracle.target, tree)
    simulated = list(oracle.rounds(draft, answers, tree))
    found = [[round_.num_accepted_drafts for round_ in record.rounds or ()] for record in records]
    assert found[: len(samples)] == simulated
    assert sum(map(sum, simulated)) > sum(map(len, simulated)) * 0.5
