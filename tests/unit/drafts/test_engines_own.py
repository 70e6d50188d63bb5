"""Drafts of SGLang's own algorithms: what is published loads, what does not fit is refused by its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from draftbench.drafts.api import DraftError, Loadable, Tree, discover
from draftbench.harness.errors import CheckpointError
from draftbench.harness.models.checkpoints import load_draft
from draftbench.harness.models.find import EMBEDDED
from draftbench.harness.models.served import unserved
from draftbench.harness.runtime.fleet import find_fleet
from draftbench.harness.runtime.tensors import TensorFacts
from draftbench.harness.suite import Suite
from tests.fakes import published
from tests.fakes.published import SMALL, Shapes, dflash_config, dspark_config

TARGET = json.loads((EMBEDDED / "tiny" / "target" / "config.json").read_text())
CHAIN = Tree(5, 1, 6)


def load(name: str, config: dict[str, Any], shapes: Shapes, target: dict[str, Any], tree: Tree = CHAIN) -> Loadable:
    """The checkpoint as a run reads it, without files."""
    spec, tensors = discover()[name], {name: TensorFacts(shape, True) for name, shape in shapes.items()}
    return load_draft(spec, Path("draft"), config, target, tensors, spec.options(), tree)


@pytest.mark.parametrize("nested", [False, True])
def test_a_dflash_draft_is_read_as_published(nested: bool) -> None:
    """The block is as long as the tree, the layers are where SGLang looks, code beside the weights is not asked for."""
    config = dflash_config(TARGET, nested=nested)
    found = load("dflash", config, published.block_shapes(config), TARGET)
    assert found.config["block_size"] == found.config["dflash_config"]["block_size"] == 6
    assert found.config["dflash_config"]["target_layer_ids"] == [1, 2, 3]
    assert found.config["architectures"] == ["DFlashDraftModel"]
    assert "auto_map" not in found.config
    assert found.config["layer_types"] == ["full_attention"] * 2
    assert found.as_filed


def test_dflashs_layers_are_spread_where_none_are_named() -> None:
    """As SGLang spreads them: of 24 layers the second and the third last."""
    config = dflash_config(TARGET)
    del config["dflash_config"]["target_layer_ids"]
    shapes = published.block_shapes(config) | {"fc.weight": (128, 256)}
    assert load("dflash", config, shapes, TARGET).config["target_layer_ids"] == [1, 21]


@pytest.mark.parametrize(
    ("change", "tree", "said"),
    [
        ({"block_size": 4}, CHAIN, "block_size is 4, but num_draft_tokens is 6"),
        ({"dflash_config": {"mask_token_id": 5000}}, CHAIN, "mask_token_id is 5000; it has to be a token"),
        ({"dflash_config": {}}, CHAIN, "mask_token_id is None"),
        ({"num_target_layers": 36}, CHAIN, "num_target_layers is 36, but the target has 24 layers"),
        ({"dflash_config": {"mask_token_id": 1, "target_layer_ids": [1, 23]}}, CHAIN, "each from 0 to 22"),
        ({"quantization_config": {"quant_method": "fp8"}}, CHAIN, "quantization_config is set"),
        ({"hidden_size": 64}, CHAIN, "hidden_size is 64, but the target's is 128"),
        ({}, Tree(3, 2, 6), "a block is a chain, but topk is 2"),
        ({"num_hidden_layers": 3}, CHAIN, r"missing: layers\.2\.self_attn\.q_proj\.weight"),
    ],
)
def test_a_dflash_draft_that_does_not_fit_is_refused(change: dict[str, Any], tree: Tree, said: str) -> None:
    """By the key, with what is allowed."""
    config = dflash_config(TARGET)
    with pytest.raises(CheckpointError, match=said):
        load("dflash", config | change, published.block_shapes(config), TARGET, tree)


def test_a_reduced_vocabulary_of_blocks_is_refused() -> None:
    """SGLang would leave the map out without a word."""
    config = dflash_config(TARGET)
    with pytest.raises(CheckpointError, match="unexpected: d2t"):
        load("dflash", config, published.block_shapes(config) | {"d2t": (512,)}, TARGET)


@pytest.mark.parametrize("name", ["Qwen3DSparkModel", "DSparkDraftModel"])
@pytest.mark.parametrize("kind", ["vanilla", "gated", "rnn"])
def test_a_dspark_draft_is_read_as_published(kind: str, name: str) -> None:
    """All types of its head between tokens, under both names of its class; seven drafts are eight nodes."""
    config = dspark_config(TARGET, kind, name)
    found = load("dspark", config, published.dspark_shapes(config), TARGET, Tree(7, 1, 8))
    assert found.config["architectures"] == [found.draft_model_class] == [name]
    asked = discover()["dspark"].engine_arguments(Tree(7, 1, 8), None)
    assert asked["speculative_dspark_block_size"] == 7
    assert asked["speculative_num_draft_tokens"] == 8


@pytest.mark.parametrize(
    ("change", "tree", "said"),
    [
        ({}, CHAIN, "block_size is 7, but num_steps is 5"),
        ({"markov_head_type": "lstm"}, Tree(7, 1, 8), "markov_head_type is 'lstm' and markov_rank 16"),
        ({"markov_rank": 0}, Tree(7, 1, 8), "markov_rank 0"),
        (
            {"markov_rank": 8},
            Tree(7, 1, 8),
            r"markov_head\.markov_w1\.weight has shape \[2048, 16\], expected \[2048, 8\]",
        ),
        ({"architectures": ["Gemma4DSparkModel"]}, Tree(7, 1, 8), "'Gemma4DSparkModel', which is no DSpark draft"),
        ({"enable_confidence_head": False}, Tree(7, 1, 8), r"unexpected: confidence_head\.proj\.weight"),
    ],
)
def test_a_dspark_draft_that_does_not_fit_is_refused(change: dict[str, Any], tree: Tree, said: str) -> None:
    """By the key, with what is allowed."""
    config = dspark_config(TARGET)
    with pytest.raises(CheckpointError, match=said):
        load("dspark", config | change, published.dspark_shapes(config), TARGET, tree)


@pytest.mark.parametrize(
    ("family", "loaded"),
    [
        ("deepseek-v3", "DeepseekV3ForCausalLMNextN"),
        ("glm-4.5", "Glm4MoeForCausalLMNextN"),
        ("qwen3-next", "Qwen3NextForCausalLMMTP"),
        ("mimo", "MiMoMTP"),
    ],
)
def test_a_targets_own_layer_is_found_in_its_folder(family: str, loaded: str) -> None:
    """Among its other tensors, as SGLang will load it; without one of the layer's it is refused by its name."""
    config, shapes = published.NEXTN_CONFIGS[family], published.nextn_shapes(family)
    found = load("nextn", config, shapes, config, Tree(3, 2, 6))
    assert (found.draft_model_class, found.config) == (loaded, config)
    assert unserved(config, discover()["nextn"], found) is None
    missing = next(name for name in shapes if name.endswith(("eh_proj.weight", "fc.weight", "input_proj.weight")))
    del shapes[missing]
    with pytest.raises(CheckpointError, match=f"missing: {missing}"):
        load("nextn", config, shapes, config)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (published.NEXTN_CONFIGS["deepseek-v3"] | {"num_nextn_predict_layers": 0}, "num_nextn_predict_layers is 0"),
        (SMALL | {"architectures": ["LlamaForCausalLM"]}, "architectures is 'LlamaForCausalLM', a target whose layers"),
    ],
)
def test_a_target_without_such_a_layer_is_refused(config: dict[str, Any], said: str) -> None:
    """By what its configuration says."""
    with pytest.raises(CheckpointError, match=said):
        load("nextn", config, published.nextn_shapes("deepseek-v3"), config)


def test_what_needs_a_gpu_is_refused_without_one(tmp_path: Path) -> None:
    """Before anything is started, with the reason; and a rule that never ran on one is refused beside one."""
    config = dspark_config(TARGET)
    folder = published.publish(tmp_path / "dspark", config, published.dspark_shapes(config))
    block = {"num_steps": 7, "topk": 1, "num_draft_tokens": 8, "checkpoint": str(folder)}
    sampled = {"num_steps": 3, "topk": 2, "num_draft_tokens": 7, "checkpoint": "tiny/eagle"}
    suite = {
        "version": 1, "name": "n", "target": {"model": "tiny", "dtype": "float32"},
        "workloads": [{"name": "w", "source": "synthetic", "family": "code", "num_prompts": 1}],
        "sampling": {"temperature": 0, "max_tokens": 8, "seed": 0}, "load": [{"concurrency": 1}], "blocks": 1,
    }  # fmt: skip

    def arms(arm: dict[str, Any], has_gpu: bool) -> None:
        find_fleet(
            Suite.model_validate({**suite, "arms": [{"name": "a", **arm}]}), discover(), tmp_path, tmp_path, has_gpu
        )

    with pytest.raises(DraftError, match=r"arm a: dspark runs on a GPU alone: .*accept_greedy_triton"):
        arms({"architecture": "dspark", **block}, False)
    ruled = {"architecture": "eagle", **sampled, "options": {"acceptance_rule": "rsd"}}
    with pytest.raises(DraftError, match=r"options\.acceptance_rule was never run on a GPU"):
        arms(ruled, True)
    arms(ruled, False)
