"""Drafts as they are published: every layout loads as the engine needs it, or is refused by the feature's name.

Fields and tensor names are those of the configurations and reports that each case names, at a small size.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from draftbench.drafts.api import Loadable, Tree, discover
from draftbench.drafts.layout import default_layers
from draftbench.harness.errors import CheckpointError
from draftbench.harness.models.checkpoints import check_tokenizer, lay_out, load_draft
from draftbench.harness.runtime.tensors import TensorFacts

Shapes = dict[str, tuple[int, ...]]

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 128,
    "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 1, "vocab_size": 2048,
    "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "tie_word_embeddings": False,
}  # fmt: skip
TARGET = {**LLAMA, "num_hidden_layers": 6}
TREE = Tree(4, 4, 16)


def layer(prefix: str, read: int = 64, norms: tuple[str, ...] = (), head: int = 16) -> Shapes:
    """A LLaMA layer's tensors: 4 heads of queries, 2 of keys and values."""
    names: Shapes = {
        "self_attn.q_proj.weight": (4 * head, read), "self_attn.k_proj.weight": (2 * head, read),
        "self_attn.v_proj.weight": (2 * head, read), "self_attn.o_proj.weight": (64, 4 * head),
        "mlp.gate_proj.weight": (128, 64), "mlp.up_proj.weight": (128, 64), "mlp.down_proj.weight": (64, 128),
        "post_attention_layernorm.weight": (64,),
    }  # fmt: skip
    names |= {f"{norm}.weight": (64,) for norm in norms}
    return {f"{prefix}.{name}": shape for name, shape in names.items()}


def biases(prefix: str) -> Shapes:
    """Qwen2's."""
    sizes = {"q": 64, "k": 32, "v": 32}
    return {f"{prefix}.self_attn.{name}_proj.bias": (size,) for name, size in sizes.items()}


EMBEDDING: Shapes = {"embed_tokens.weight": (2048, 64)}
EAGLE: Shapes = {**EMBEDDING, "fc.weight": (64, 128), **layer("layers.0")}
FIRST = ("input_layernorm", "hidden_norm")
EAGLE3: Shapes = {"fc.weight": (64, 192), "norm.weight": (64,), "lm_head.weight": (512, 64)}
MAPS: Shapes = {"d2t": (512,), "t2d": (2048,)}
MIDLAYER, LAYER_0 = layer("midlayer", 128, FIRST), layer("layers.0", 128, FIRST)
SECOND = layer("layers.1", 64, ("hidden_norm",))
HEADS: Shapes = {
    name: shape
    for head in range(3)
    for name, shape in {
        f"{head}.0.linear.weight": (64, 64), f"{head}.0.linear.bias": (64,), f"{head}.1.weight": (2048, 64),
    }.items()
}  # fmt: skip
LAST_STATE: Shapes = {
    **layer("midlayer.0"), **layer("midlayer.1"), "fc0.weight": (64, 128), "fc0.bias": (64,), "fc1.weight": (64, 128),
    "fc1.bias": (64,),
}  # fmt: skip
STEP_MODELS: Shapes = {
    **EMBEDDING, **layer("stepModels.0.0"), **layer("stepModels.1.0"), "stepFCs.0.weight": (64, 128),
    "stepFCs.0.bias": (64,), "stepFCs.1.weight": (64, 128), "stepFCs.1.bias": (64,),
}  # fmt: skip
FUSION: Shapes = {"fusion_layer.weight": (64, 192), "fusion_layer.bias": (64,)}
STEPS = {
    "eagle_config": LLAMA, "num_steps": 3, "num_step_models": 2, "step_mapping": {"0": 0, "1": 1, "2": 1},
    "use_adapter": False,
}  # fmt: skip


def load(
    name: str, shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any] = LLAMA,
    target: Mapping[str, Any] = TARGET, tree: Tree = TREE,
) -> Loadable:  # fmt: skip
    spec = discover()[name]
    facts = {name: TensorFacts(shape, True) for name, shape in shapes.items()}
    return load_draft(spec, Path("draft"), config, target, facts, spec.options(), tree)


def test_a_shorter_trained_length_is_told_and_does_not_refuse() -> None:
    """EAGLE heads say 2048, targets 8192 (sglang#3574, #6783): the engine goes on, the length is kept for a warning."""
    found = load("eagle", EAGLE, {**LLAMA, "max_position_embeddings": 2048})
    assert (found.config["max_position_embeddings"], found.trained_tokens) == (8192, 2048)
    assert load("eagle", EAGLE).trained_tokens is None


@pytest.mark.parametrize("kind", ["llama3", "yarn"])
def test_longer_positions_keep_the_length_that_frequencies_are_scaled_from(kind: str) -> None:
    """SGLang takes max_position_embeddings where a configuration does not name it (rotary_embedding/factory.py)."""
    short = {**LLAMA, "max_position_embeddings": 2048}
    found = load("eagle", EAGLE, {**short, "rope_scaling": {"rope_type": kind, "factor": 8.0}})
    assert found.config["rope_scaling"]["original_max_position_embeddings"] == 2048
    with pytest.raises(CheckpointError, match="rope_scaling is dynamic"):
        load("eagle", EAGLE, {**short, "rope_scaling": {"type": "dynamic", "factor": 2.0}})


def test_a_missing_fusion_bias_is_zero() -> None:
    """LLaMA-3's heads say `"bias": false` and have none (sglang#5773); SGLang's would be random."""
    assert load("eagle", EAGLE, {**LLAMA, "bias": False}).zeros == {"fc.bias": (64,)}
    assert load("eagle", {**EAGLE, "fc.bias": (64,)}).zeros == {}


def test_qwen2s_attention_biases_are_loaded() -> None:
    """q, k, v have biases, o has none (vllm#12831), where SGLang builds all four."""
    found = load("eagle", {**EAGLE, "fc.bias": (64,), **biases("layers.0")}, LLAMA, {**TARGET, "model_type": "qwen2"})
    assert found.config["attention_bias"] is True
    assert found.zeros == {"layers.0.self_attn.o_proj.bias": (64,)}
    shapes = {**EAGLE, **biases("layers.0")}
    del shapes["layers.0.self_attn.k_proj.bias"]
    with pytest.raises(CheckpointError, match=r"missing: layers\.0\.self_attn\.k_proj\.bias"):
        load("eagle", shapes)


def test_heads_may_be_wider_than_their_share() -> None:
    """Qwen3's head_dim."""
    wide = {**EAGLE, **layer("layers.0", head=32)}
    found = load("eagle", wide, {**LLAMA, "head_dim": 32}, {**TARGET, "head_dim": 32})
    assert found.config["head_dim"] == 32
    with pytest.raises(CheckpointError, match="q_proj"):
        load("eagle", wide)


def test_a_prefix_of_all_names_is_taken_off() -> None:
    """Whole-model exports write `model.` before every name."""
    found = load("eagle", {f"model.{name}": shape for name, shape in EAGLE.items()})
    assert found.renamed["model.fc.weight"] == "fc.weight"


@pytest.mark.parametrize("said", [{"draft_vocab_size": 2048}, {"draft_vocab_size": None}, {}])
def test_eagle3_without_a_map_drafts_the_whole_vocabulary(said: dict[str, Any]) -> None:
    """SpecForge's exports; the count is that of the head's rows. Without a head the target's is taken."""
    shapes = {**EAGLE3, **MIDLAYER, "lm_head.weight": (2048, 64)}
    assert load("eagle3", shapes, {**LLAMA, **said}).config["draft_vocab_size"] == 2048
    del shapes["lm_head.weight"]
    assert load("eagle3", shapes, {**LLAMA, **said}).config["draft_vocab_size"] is None


def test_eagle3s_reduced_vocabulary_is_counted_and_needs_its_map() -> None:
    """t2d alone maps nothing."""
    assert load("eagle3", {**EAGLE3, **MIDLAYER, **MAPS}).config["draft_vocab_size"] == 512
    assert load("eagle3", {**EAGLE3, **MIDLAYER, "d2t": (512,)}).config["draft_vocab_size"] == 512
    with pytest.raises(CheckpointError, match="missing: d2t"):
        load("eagle3", {**EAGLE3, **MIDLAYER, "t2d": (2048,)})
    headless = {name: shape for name, shape in EAGLE3.items() if name != "lm_head.weight"}
    with pytest.raises(CheckpointError, match=r"missing: lm_head\.weight"):
        load("eagle3", {**headless, **MIDLAYER, **MAPS}, {**LLAMA, "draft_vocab_size": 512})


def test_eagle3_may_call_its_layer_layers_0_and_have_two() -> None:
    """Model-Optimizer's exports and stacked drafts (sglang#24663); later layers read the hidden state alone."""
    load("eagle3", {**EAGLE3, **MAPS, **LAYER_0})
    load("eagle3", {**EAGLE3, **MAPS, **LAYER_0, **SECOND}, {**LLAMA, "num_hidden_layers": 2})
    with pytest.raises(CheckpointError, match=r"unexpected: layers\.1"):
        load("eagle3", {**EAGLE3, **MAPS, **LAYER_0, **SECOND})


def test_eagle3s_norms_before_the_fusion_are_what_the_configuration_says() -> None:
    """EAGLE-3.1: one of all layers (vllm#42143) or one of each (speculators#610)."""
    shapes = {**EAGLE3, **MAPS, **MIDLAYER}
    one = {**shapes, "input_norm.weight": (192,)}
    assert load("eagle3", one, {**LLAMA, "norm_before_fc": True}).config["norm_before_fc"] is True
    each: Shapes = {**shapes, **{f"fc_norm.{at}.weight": (64,) for at in range(3)}}
    assert load("eagle3", each, {**LLAMA, "fc_norm": True}).config["fc_norm"] is True
    with pytest.raises(CheckpointError, match=r"unexpected: input_norm\.weight"):
        load("eagle3", one)
    with pytest.raises(CheckpointError, match=r"missing: input_norm\.weight"):
        load("eagle3", shapes, {**LLAMA, "norm_before_fc": True})


def test_eagle3s_fusion_bias_is_loaded_and_no_attention_bias_comes_with_it() -> None:
    """SGLang takes `bias` for both."""
    found = load("eagle3", {**EAGLE3, **MAPS, **MIDLAYER, "fc.bias": (64,)})
    assert found.config["bias"] is True
    assert found.zeros == {"midlayer.self_attn.o_proj.bias": (64,)}


def speculators(**changes: Any) -> dict[str, Any]:
    """A configuration as the speculators library writes it."""
    return {
        "architectures": ["Eagle3Speculator"], "speculators_model_type": "eagle3", "draft_vocab_size": 512,
        "norm_before_residual": False, "transformer_layer_config": LLAMA,
        "speculators_config": {"algorithm": "eagle3"}, **changes,
    }  # fmt: skip


def test_speculators_nested_fields_are_read() -> None:
    """Layers count as in vLLM, whose layer N reads what N - 1 left."""
    found = load("eagle3", {**EAGLE3, **MAPS, **LAYER_0}, speculators(eagle_aux_hidden_state_layer_ids=[2, 3, 4]))
    assert found.config["architectures"] == ["LlamaForCausalLMEagle3"]
    assert (found.config["model_type"], found.config["hidden_size"]) == ("llama", 64)
    assert found.config["eagle_config"] == {"eagle_aux_hidden_state_layer_ids": [1, 2, 3]}
    assert "transformer_layer_config" not in found.config


@pytest.mark.parametrize(
    ("config", "shapes", "said"),
    [
        (speculators(norm_before_residual=True), {}, "norm_before_residual"),
        ({**LLAMA, "eagle_config": {"use_aux_hidden_state": False}}, {}, "use_aux_hidden_state"),
        ({**LLAMA, "eagle_config": {"parallel_drafting": True}}, {}, "parallel_drafting"),
        (LLAMA, biases("layers.0"), r"self_attn\.q_proj\.bias"),
        (LLAMA, {"layers.0.self_attn.q_norm.weight": (16,)}, r"layers\.0\.self_attn\.q_norm"),
    ],
)
def test_what_sglangs_eagle3_cannot_do_is_refused_by_name(config: dict[str, Any], shapes: Shapes, said: str) -> None:
    """Loaded all the same, acceptance would fall without a reason."""
    with pytest.raises(CheckpointError, match=said):
        load("eagle3", {**EAGLE3, **MAPS, **LAYER_0, **shapes}, config)


def test_a_targets_fields_may_be_nested() -> None:
    """Gemma 3's text_config (Automodel#3071)."""
    target = {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": TARGET}
    load("eagle3", {**EAGLE3, **MAPS, **MIDLAYER}, LLAMA, target)
    found = load("medusa", HEADS, {}, target, Tree(3, 4, 16))
    assert found.config["hidden_size"] == 64


def test_fields_of_the_targets_layers_do_not_reach_the_engine() -> None:
    """transformers 5 writes layer_types, one for each layer, and refuses a configuration with another number."""
    types = {"layer_types": ["full_attention"] * 6, "sliding_window": None, "use_sliding_window": False}
    for name, shapes in (("eagle", EAGLE), ("prism", LAST_STATE)):
        assert not set(types) & set(load(name, shapes, {**LLAMA, **types}).config)
    assert not set(types) & set(load("medusa", HEADS, {}, {**TARGET, **types}, Tree(3, 4, 16)).config)


@pytest.mark.parametrize("prefix", ["medusa_head.", ""])
def test_medusas_heads_are_counted_behind_a_prefix(prefix: str) -> None:
    """FasterDecoding's exports; the configuration's count is wrong on the hub; blocks may lack biases."""
    shapes = {prefix + name: shape for name, shape in HEADS.items() if not name.endswith("bias")}
    found = load("medusa", shapes, {"medusa_num_heads": 5}, tree=Tree(3, 4, 16))
    assert found.facts == {"num_heads": 3, "num_blocks": 1}
    assert found.zeros == {f"{head}.0.linear.bias": (64,) for head in range(3)}
    assert bool(found.renamed) == bool(prefix)


def test_prisms_authors_layouts_are_read() -> None:
    """Akemiiii/prism-mlsys-ae: the map is in their code, or names the trained steps; later ones keep the last."""
    facts = {"num_modules": 2, "step_to_module": [0, 1, 1, 1], "reads": "last hidden state"}
    found = load("prism", LAST_STATE, {**LLAMA, "architectures": ["LlamaForCausalLMEagle"]})
    assert found.facts == facts
    assert (found.sglang_algorithm, "eagle_config" in found.config) == (None, False)
    assert found.renamed["midlayer.1.mlp.up_proj.weight"] == "prism_modules.1.layer.mlp.up_proj.weight"
    assert found.renamed["fc1.bias"] == "prism_modules.1.fc.bias"
    aliases: Shapes = {**layer("layers.0"), "fc.weight": (64, 128), "fc.bias": (64,)}
    found = load("prism", {**STEP_MODELS, **aliases}, STEPS)
    assert found.facts == facts
    assert found.config["model_type"] == "llama"
    assert "eagle_config" not in found.config
    with pytest.raises(CheckpointError, match=r"unexpected: fc\.weight"):
        load("prism", {**LAST_STATE, "fc.weight": (64, 128)})


@pytest.mark.parametrize(("shapes", "config"), [(LAST_STATE, LLAMA), (STEP_MODELS, STEPS)])
def test_a_fusion_layer_reads_three_layers_at_the_first_step(shapes: Shapes, config: dict[str, Any]) -> None:
    """PRISM-800K-SGLANG: `fusion_layer` [H, 3H]; EAGLE-3's layers, which no configuration names."""
    found = load("prism", {**shapes, **FUSION}, {**config, "architectures": ["LlamaForCausalLMPRISM"]})
    assert found.sglang_algorithm == "EAGLE3"
    assert found.facts == {"num_modules": 2, "step_to_module": [0, 1, 1, 1], "reads": [1, 2, 3]}
    assert found.config["eagle_config"] == {"eagle_aux_hidden_state_layer_ids": [1, 2, 3]}
    assert load("prism", {**shapes, **FUSION}, config, {**TARGET, "num_hidden_layers": 32}).facts["reads"] == [
        1,
        15,
        28,
    ]
    with pytest.raises(CheckpointError, match=r"fusion_layer\.weight has shape \[64, 128\], expected \[64, 192\]"):
        load("prism", {**shapes, **FUSION, "fusion_layer.weight": (64, 128)}, config)


def test_an_eagle_head_may_read_three_layers_too() -> None:
    """The control of PRISM's published comparison, which gives its baselines the last hidden state alone."""
    said = {**LLAMA, "eagle_config": {"eagle_aux_hidden_state_layer_ids": [0, 2, 4]}}
    found = load("eagle", {**EAGLE, **FUSION}, said)
    assert (found.sglang_algorithm, found.draft_model_class) == ("EAGLE3", "LlamaForCausalLMEagleFused")
    assert found.config["architectures"] == ["LlamaForCausalLMEagleFused"]
    assert found.facts == {"reads": [0, 2, 4]}
    assert load("eagle", EAGLE).draft_model_class is None
    with pytest.raises(CheckpointError, match=r"eagle_aux_hidden_state_layer_ids is \[5\].*from 0 to 4"):
        load("eagle", {**EAGLE, **FUSION}, {**LLAMA, "eagle_config": {"eagle_aux_hidden_state_layer_ids": [5]}})


@pytest.mark.parametrize(
    ("num_layers", "layers"), [(4, (0, 1, 2)), (5, (0, 1, 2)), (6, (1, 2, 3)), (7, (1, 2, 3)), (24, (1, 11, 20))]
)
def test_three_different_layers_are_read_of_any_target(num_layers: int, layers: tuple[int, ...]) -> None:
    """SGLang's choice names one of a small target's layers twice and so hands out fewer than three."""
    assert default_layers(num_layers) == layers


@pytest.mark.parametrize("mapping", [{"0": 0, "2": 1}, {"a": 0, "b": 1}, {"0": 0, "1": None}])
def test_a_mapping_of_steps_with_a_gap_is_refused(mapping: dict[str, Any]) -> None:
    """By the authors' own key."""
    with pytest.raises(CheckpointError, match=r"config\.json: step_mapping is .*without a gap"):
        load("prism", STEP_MODELS, {**STEPS, "step_mapping": mapping})


@pytest.mark.parametrize(
    ("shapes", "config", "said"),
    [
        (STEP_MODELS, {**STEPS, "use_adapter": True}, "use_adapter"),
        ({**STEP_MODELS, "stepAdapters.0.weight": (64, 64)}, STEPS, r"stepAdapters\.0\.weight"),
        (STEP_MODELS, {**STEPS, "use_moe": True}, "use_moe"),
        ({**LAST_STATE, "midlayer.0.mlp.experts.0.up_proj.weight": (128, 64)}, LLAMA, r"mlp\.experts\.0"),
        ({**STEP_MODELS, **layer("stepModels.0.1")}, STEPS, r"stepModels\.0\.1"),
    ],
)
def test_what_prism_cannot_do_here_is_refused_by_name(shapes: Shapes, config: dict[str, Any], said: str) -> None:
    """Adapters, experts, several layers a module."""
    with pytest.raises(CheckpointError, match=said):
        load("prism", shapes, config)


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_the_engines_folder_has_its_names_and_zeros(tmp_path: Path, ending: str) -> None:
    """Weights are written anew only where the draft's own files will not do, and only once."""
    shapes = {f"model.{name}": shape for name, shape in EAGLE.items()}
    weights = {name: torch.randn(shape, dtype=torch.float16) for name, shape in shapes.items()}
    source, folder = tmp_path / "source", tmp_path / "engine"
    source.mkdir()
    if ending == "bin":
        torch.save(weights, source / "pytorch_model.bin")
    else:
        save_file(weights, source / "model.safetensors")
    loadable = load("eagle", shapes)
    lay_out(loadable, source, folder)
    file = folder / "model.safetensors"
    written, at = load_file(file), file.stat().st_mtime_ns
    assert written.keys() == EAGLE.keys() | {"fc.bias"}
    assert torch.equal(written["fc.weight"], weights["model.fc.weight"])
    assert not written["fc.bias"].any()
    assert written["fc.bias"].dtype == torch.float16
    lay_out(loadable, source, folder)
    assert file.stat().st_mtime_ns == at
    lay_out(load("eagle", {**EAGLE, "fc.bias": (64,)}), source, folder)
    assert (folder / "config.json").exists()
    assert not (folder / "written.json").exists()


def tokenizer(folder: Path, tokens: list[str], special: tuple[str, ...] = ()) -> Path:
    """tokenizer.json, as far as it says which number a token has."""
    folder.mkdir()
    added = [{"id": len(tokens) + at, "content": token, "special": True} for at, token in enumerate(special)]
    data = {"model": {"vocab": {token: at for at, token in enumerate(tokens)}}, "added_tokens": added}
    (folder / "tokenizer.json").write_text(json.dumps(data))
    return folder


def test_a_draft_with_another_tokenizer_is_refused(tmp_path: Path) -> None:
    """Equal in size, other tokens (sglang#23838, #24051); renamed reserved tokens are none of the draft's business."""
    target = tokenizer(tmp_path / "target", ["a", "b", "c"], ("<reserved_0>", "<end>"))
    check_tokenizer(tokenizer(tmp_path / "same", ["a", "b", "c"], ("<pad>", "<end>")), target)
    check_tokenizer(tmp_path, target)
    with pytest.raises(CheckpointError, match=r"token (1 is 'd'|'b' is 2)"):
        check_tokenizer(tokenizer(tmp_path / "moved", ["a", "d", "b"], ("<pad>",)), target)
    with pytest.raises(CheckpointError, match="token 1 is 'x', but the target's is 'b'"):
        check_tokenizer(tokenizer(tmp_path / "other", ["a", "x", "c"]), target)
    with pytest.raises(CheckpointError, match="token '<end>' is 3, but the target's is 4"):
        check_tokenizer(tokenizer(tmp_path / "ends", ["a", "b", "c"], ("<end>",)), target)


FSPAD: Shapes = {
    **EMBEDDING, "fc.fc.weight": (64, 128), "fc.fc.bias": (64,), "fc.post_attention_layernorm.weight": (64,),
    "fc.mlp.gate_proj.weight": (128, 64), "fc.mlp.up_proj.weight": (128, 64), "fc.mlp.down_proj.weight": (64, 128),
    **layer("layers.0"), "layers.0.mlp.down_proj.weight": (128, 128),
}  # fmt: skip
"""As the authors' code saves it (Luc4Gui/FSPAD eagle/model/cnets_fspad.py)."""


def test_fspads_sampling_is_found_under_its_authors_names() -> None:
    """And is told from an EAGLE head, whose layer makes one state and which has no sampling."""
    found = load("fspad", FSPAD)
    assert found.renamed["fc.mlp.gate_proj.weight"] == "sampling.gate.weight"
    assert found.renamed["fc.fc.bias"] == "fc.bias"
    assert load("fspad", {name: shape for name, shape in FSPAD.items() if name != "fc.fc.bias"}).zeros
    with pytest.raises(CheckpointError, match=r"missing: sampling\."):
        load("fspad", EAGLE)
    with pytest.raises(CheckpointError, match="down_proj"):
        load("fspad", {**FSPAD, "layers.0.mlp.down_proj.weight": (64, 128)})
    with pytest.raises(CheckpointError, match="num_hidden_layers is 2"):
        load("fspad", FSPAD, {**LLAMA, "num_hidden_layers": 2})


def nested(num_layers: int = 3) -> Shapes:
    """A small language model with tied embeddings."""
    layers = [layer(f"model.layers.{index}", norms=("input_layernorm",)) for index in range(num_layers)]
    names = {name: shape for own in layers for name, shape in own.items()}
    return {"model.embed_tokens.weight": (2048, 64), "model.norm.weight": (64,), **names}


NESTED = {
    **LLAMA, "num_hidden_layers": 3, "exits": [1, 3], "exit_thresholds": [0.8], "tie_word_embeddings": True
}  # fmt: skip


def test_s2ds_exits_are_checked() -> None:
    """Ascending, within the layers, the last of them all; a threshold for each but the last."""
    assert load("s2d", nested(), NESTED).facts == {"exits": [1, 3], "exit_thresholds": [0.8]}
    for changes, said in (
        ({"exits": None}, "exits is None"),
        ({"exits": [3, 1]}, "ascending"),
        ({"exits": [1, 4]}, "layers from 1 to 3"),
        ({"exits": [1, 2]}, "the last exit has to be the last layer, 3"),
        ({"exit_thresholds": []}, "needs 1 numbers"),
        ({"exit_thresholds": [1.5]}, "from 0 to 1"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is not set"),
    ):
        with pytest.raises(CheckpointError, match=said):
            load("s2d", nested(), {**NESTED, **changes})


def test_one_exit_of_s2d_leaves_the_layers_behind_it_unread() -> None:
    """The file is the same, the model smaller; an exit that it does not have is refused."""
    spec = discover()["s2d"]
    facts = {name: TensorFacts(shape, True) for name, shape in nested().items()}
    load_one = lambda number: load_draft(  # noqa: E731
        spec, Path("draft"), NESTED, TARGET, facts, spec.options.model_validate({"exit": number}), TREE
    )
    found = load_one(1)
    assert (found.config["num_hidden_layers"], found.facts) == (1, {"exits": [1], "exit_thresholds": []})
    with pytest.raises(CheckpointError, match="it has 2 exits"):
        load_one(3)
