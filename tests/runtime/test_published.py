"""Published layouts on the real engine: rewritten names and zeros, Qwen2's biases, EAGLE-3 stacked and with its norms.

The weights are the embedded drafts', moved to these layouts, and noise where those have nothing to move.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from draftbench.drafts.api import Tree, discover
from draftbench.drafts.training.load import load_draft
from draftbench.harness.host.provenance import has_gpu
from draftbench.harness.load.generator import RoundBook, run_closed_loop
from draftbench.harness.load.requests import Prompt
from draftbench.harness.models.find import EMBEDDED
from draftbench.harness.records import CellKey, RequestRecord
from draftbench.harness.runtime.fleet import SglangFleet, find_fleet
from draftbench.harness.suite import Suite
from draftbench.harness.workloads.render import ChatRenderer, prompt_sha256
from draftbench.harness.workloads.synthetic import FAMILIES, generate
from tests.runtime.oracle import Oracle

TINY = EMBEDDED / "tiny"
MAX_TOKENS = 40
Weights = dict[str, Tensor]
Config = dict[str, Any]


def noise(*shape: int, scale: float) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def attention_biases(prefix: str, config: Config) -> Weights:
    """Qwen2's: of q, k, v, not of o."""
    size = config["hidden_size"] // config["num_attention_heads"]
    heads = {"q": config["num_attention_heads"], "k": config["num_key_value_heads"], "v": config["num_key_value_heads"]}
    return {f"{prefix}.self_attn.{name}_proj.bias": noise(count * size, scale=0.05) for name, count in heads.items()}


def renamed(weights: Weights, old: str, new: str) -> Weights:
    return {name.replace(old, new, 1) if name.startswith(old) else name: weight for name, weight in weights.items()}


def eagle(weights: Weights, config: Config, oracle: Oracle) -> tuple[Weights, Config]:
    """A whole-model export for a Qwen2 target: a prefix, no fusion bias, attention biases."""
    del weights["fc.bias"]
    weights |= attention_biases("layers.0", config)
    found = {f"model.{name}": weight for name, weight in weights.items()}
    return found, {**config, "architectures": ["LlamaForCausalLM"], "bias": False, "max_position_embeddings": 128}


def eagle3_1(weights: Weights, config: Config, oracle: Oracle) -> tuple[Weights, Config]:
    """EAGLE-3.1 in the speculators library's layout: two layers, both norms before a fusion with a bias."""
    states = layers_outputs(oracle)
    scale = states.square().mean().sqrt()
    each = [part.square().mean().sqrt() / scale for part in states.chunk(3, -1)]
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    weights = renamed(weights, "midlayer", "layers.0")
    for name, weight in list(weights.items()):
        if name.startswith("layers.0") and "input_layernorm" not in name:
            narrow = weight[:, :hidden] if weight.dim() == 2 and weight.shape[1] == 2 * hidden else weight
            weights[name.replace("layers.0", "layers.1")] = narrow.clone()
    weights |= {
        "layers.1.self_attn.o_proj.weight": noise(hidden, hidden, scale=0.02),
        "layers.1.mlp.down_proj.weight": noise(hidden, inner, scale=0.02),
        "fc.bias": noise(hidden, scale=0.02),
        "input_norm.weight": torch.full((3 * hidden,), float(scale)),
        **{f"fc_norm.{at}.weight": torch.full((hidden,), float(scale * part)) for at, part in enumerate(each)},
    }
    inner_fields = {key: value for key, value in config.items() if key not in ("eagle_config", "draft_vocab_size")}
    layers = [at + 1 for at in config["eagle_config"]["eagle_aux_hidden_state_layer_ids"]]
    return weights, {
        "architectures": ["Eagle3Speculator"], "draft_vocab_size": config["draft_vocab_size"],
        "transformer_layer_config": {**inner_fields, "num_hidden_layers": 2}, "norm_before_fc": True, "fc_norm": True,
        "eagle_aux_hidden_state_layer_ids": layers,
    }  # fmt: skip


def eagle3_whole(weights: Weights, config: Config, oracle: Oracle) -> tuple[Weights, Config]:
    """The whole vocabulary without a map, later steps reading the normed state."""
    head = oracle.target.lm_head.weight.data.clone()
    tokens = weights.pop("d2t") + torch.arange(config["draft_vocab_size"])
    head[tokens] = weights["lm_head.weight"].float()
    del weights["t2d"]
    return {**weights, "lm_head.weight": head}, {**config, "draft_vocab_size": None, "norm_output": True}


def eagle3_headless(weights: Weights, config: Config, oracle: Oracle) -> tuple[Weights, Config]:
    """The target's head in place of one of its own."""
    for name in ("d2t", "t2d", "lm_head.weight"):
        del weights[name]
    return weights, {key: value for key, value in config.items() if key != "draft_vocab_size"}


def medusa(weights: Weights, config: Config, oracle: Oracle) -> tuple[Weights, Config]:
    """FasterDecoding's prefix and wrong count, blocks without biases."""
    found = {f"medusa_head.{name}": weight for name, weight in weights.items() if not name.endswith("bias")}
    return found, {"medusa_num_heads": 9, "base_model_name_or_path": "owner/model"}


def layers_outputs(oracle: Oracle) -> Tensor:
    """What EAGLE-3 reads of the target at some prompt [tokens, 3D]."""
    with torch.no_grad():
        states = oracle.target.model(torch.tensor([prompts()[0].prompt_ids]), output_hidden_states=True).hidden_states
    return torch.cat([states[layer + 1][0] for layer in oracle.layers], -1)


LAYOUTS: dict[str, tuple[str, str, Callable[..., tuple[Weights, Config]], Tree]] = {
    "eagle": ("eagle", "hass", eagle, Tree(4, 3, 10)),
    "eagle3.1": ("eagle3", "eagle3", eagle3_1, Tree(4, 3, 10)),
    "eagle3-whole": ("eagle3", "eagle3", eagle3_whole, Tree(4, 3, 10)),
    "eagle3-headless": ("eagle3", "eagle3", eagle3_headless, Tree(4, 1, 5)),
    "medusa": ("medusa", "medusa", medusa, Tree(4, 3, 10)),
}
SLOW = ("eagle3-headless",)


def prompts() -> list[Prompt]:
    renderer = ChatRenderer(TINY / "target")
    tasks = [next(islice(generate(family, "heldout", 3), 1)) for family in FAMILIES]
    ids = [renderer.render([{"role": "user", "content": task.prompt}]) for task in tasks]
    return [Prompt("w", f"p{n}", 0, None, each, prompt_sha256(each), MAX_TOKENS) for n, each in enumerate(ids)]


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle(TINY / "target")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, oracle: Oracle) -> Path:
    """Every layout as a folder of its own."""
    folder = tmp_path_factory.mktemp("published")
    for name, (_, source, publish, _) in LAYOUTS.items():
        weights = {key: weight.float() if weight.is_floating_point() else weight
                   for key, weight in load_file(TINY / source / "model.safetensors").items()}  # fmt: skip
        weights, config = publish(weights, json.loads((TINY / source / "config.json").read_text()), oracle)
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(config))
        if name == "eagle":
            torch.save(weights, folder / name / "pytorch_model.bin")
        else:
            save_file(
                {key: weight.contiguous() for key, weight in weights.items()}, folder / name / "model.safetensors"
            )
    return folder


@pytest.fixture(scope="module")
def arms(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> SglangFleet:
    arms = [
        {"name": name, "architecture": architecture, "checkpoint": str(folder / name), "num_steps": tree.num_steps,
         "topk": tree.topk, "num_draft_tokens": tree.num_draft_tokens}
        for name, (architecture, _, _, tree) in LAYOUTS.items()
    ]  # fmt: skip
    suite = {
        "version": 1, "name": "published", "target": {"model": "tiny", "dtype": "float32"}, "arms": tuple(arms),
        "workloads": ({"name": "w", "source": "synthetic", "family": "code", "num_prompts": 1},),
        "sampling": {"temperature": 0, "max_tokens": MAX_TOKENS, "seed": 0}, "load": ({"concurrency": 1},), "blocks": 1,
    }  # fmt: skip
    run = tmp_path_factory.mktemp("run")
    return find_fleet(Suite.model_validate(suite), discover(), Path.cwd(), run, has_gpu()).forking(pytest.fail)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in LAYOUTS])
def test_a_published_draft_drafts_in_the_engine_what_it_says(
    arms: SglangFleet, folder: Path, oracle: Oracle, name: str
) -> None:
    """Greedy outputs are the target's own, and every round accepts what plain torch accepts with the same folder."""
    architecture, _, _, tree = LAYOUTS[name]
    engine, records = arms.start(name), list[RequestRecord]()
    try:
        cell = CellKey(launch=0, block=0, arm=name, workload="w", concurrency=1)
        sampling = {"temperature": 0.0, "ignore_eos": True}
        asyncio.run(run_closed_loop(engine, cell, prompts(), sampling, RoundBook(engine), records.append))
    finally:
        engine.stop()
    asked = {prompt.prompt_id: prompt.prompt_ids for prompt in prompts()}
    answers = [(asked[record.prompt_id], record.output_ids) for record in records]
    assert [output for _, output in answers] == [oracle.continued(ids, MAX_TOKENS) for ids, _ in answers]
    draft = load_draft(architecture, folder / name, oracle.target, tree)
    simulated = list(oracle.rounds(draft, answers, tree))
    found = [[round_.num_accepted_drafts for round_ in record.rounds or ()] for record in records]
    assert found == simulated
    assert sum(map(sum, found)) > sum(map(len, found)) * 0.3
