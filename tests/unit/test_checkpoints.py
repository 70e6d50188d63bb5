"""Drafts' checkpoints: publishers' layouts are understood, what does not fit is refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from draftbench.drafts.api import Checkpoint, Tree, discover
from draftbench.drafts.layout import llama_model
from draftbench.harness.errors import CheckpointError
from draftbench.harness.models.checkpoints import check_target, lay_out, load_draft
from draftbench.harness.models.find import EMBEDDED, read_config
from draftbench.harness.runtime.tensors import TensorFacts, read_tensors, weight_files

TINY = EMBEDDED / "tiny"
TARGET = read_config(TINY / "target")
TREE = Tree(4, 4, 16)
NAMES = {name: name for name in ("standalone", "s2d", "eagle", "fspad", "prism", "medusa", "eagle3", "chimera")}
NAMES |= {"flash_text": "flash-text", "online": "standalone"}


def facts_of(folder: Path) -> dict[str, TensorFacts]:
    weights = load_file(folder / "model.safetensors")
    return {name: TensorFacts(tuple(tensor.shape), True) for name, tensor in weights.items()}


def load(name: str, config: dict[str, Any] | None = None, tree: Tree = TREE, **changes: Any) -> Any:
    """load_draft on an embedded draft, with tensors changed (None: taken out) and options given."""
    spec, folder = discover()[name], TINY / NAMES[name]
    facts: dict[str, Any] = facts_of(folder) | changes.get("tensors", {})
    facts = {key: fact for key, fact in facts.items() if fact is not None}
    options = spec.options.model_validate(changes.get("options", {}))
    found = read_config(folder) if config is None else config
    return load_draft(spec, folder, found, TARGET, facts, options, tree)


@pytest.mark.parametrize("name", NAMES)
def test_embedded_drafts_fit(name: str) -> None:
    """Every tensor that the layout names is there, and no other."""
    assert (
        load(name).expected.items() <= {key: fact.shape for key, fact in facts_of(TINY / NAMES[name]).items()}.items()
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_tensor_is_named(name: str) -> None:
    """Left out of the file, a tensor would stay random in the engine."""
    for tensor in load(name).expected:
        if name == "medusa" and tensor.endswith("linear.weight"):
            continue  # heads are counted by these
        if tensor.endswith(("fc.bias", "linear.bias")) and name != "flash_text":
            assert load(name, tensors={tensor: None}).zeros == {tensor: facts_of(TINY / NAMES[name])[tensor].shape}
            continue  # published heads leave these out: zeros
        with pytest.raises(CheckpointError, match=f"missing: {tensor}"):
            load(name, tensors={tensor: None})


@pytest.mark.parametrize("name", NAMES)
def test_unexpected_misshapen_and_damaged_tensors_are_named(name: str) -> None:
    """Nothing in a file is passed over in silence."""
    tensor, shape = next(item for item in load(name).expected.items() if len(item[1]) == 2)
    with pytest.raises(CheckpointError, match=r"unexpected: extra\.weight"):
        load(name, tensors={"extra.weight": TensorFacts((1,), True)})
    with pytest.raises(CheckpointError, match=rf"{tensor} has shape \[7, 7\], expected \[{shape[0]}, {shape[1]}\]"):
        load(name, tensors={tensor: TensorFacts((7, 7), True)})
    with pytest.raises(CheckpointError, match=f"NaN or infinity in {tensor}"):
        load(name, tensors={tensor: TensorFacts(shape, False)})


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("eagle", "hidden_size", 64),
        ("prism", "hidden_size", 64),
        ("eagle", "vocab_size", 32000),
        ("standalone", "vocab_size", 32000),
    ],
)
def test_a_draft_for_another_target_is_refused(name: str, key: str, value: int) -> None:
    """The key that does not fit is named, with both values."""
    with pytest.raises(CheckpointError, match=f"{key} is {value}.* {TARGET[key]}"):
        load(name, {**read_config(TINY / name), key: value})


@pytest.mark.parametrize("name", ["eagle", "eagle3", "prism"])
def test_a_missing_key_is_named(name: str) -> None:
    """A configuration without a size is told, not a traceback."""
    config = {key: value for key, value in read_config(TINY / name).items() if key != "intermediate_size"}
    with pytest.raises(CheckpointError, match=rf"config\.json: intermediate_size is missing.*{name} needs it"):
        load(name, config)


@pytest.mark.parametrize(("name", "key"), [("chimera", "num_heads"), ("flash_text", "tokens_per_pass")])
def test_counts_of_a_configuration_are_whole_numbers(name: str, key: str) -> None:
    """A wrong one is named; of steps that a draft has no heads for it is said how many it has."""
    for value in (0, "3", 2.0, True):
        with pytest.raises(CheckpointError, match=rf"{key} is {value!r}; it has to be a whole number"):
            load(name, {**read_config(TINY / NAMES[name]), key: value})
    if name == "chimera":
        with pytest.raises(CheckpointError, match="can draft 4 steps, but num_steps is 5"):
            load(name, tree=Tree(5, 4, 16))


@pytest.mark.parametrize("layers", [[], [1, 23], [-1], "1", [1.0]])
def test_layers_that_cannot_be_read_are_refused(layers: Any) -> None:
    """SGLang hands out every layer's output but the last's."""
    last = TARGET["num_hidden_layers"] - 2
    config = {**read_config(TINY / "eagle3"), "eagle_config": {"eagle_aux_hidden_state_layer_ids": layers}}
    with pytest.raises(CheckpointError, match=rf"eagle_aux_hidden_state_layer_ids is .* from 0 to {last}"):
        load("eagle3", config)


@pytest.mark.parametrize("name", ["eagle", "eagle3", "prism"])
def test_published_bias_is_the_fusion_matrixs_alone(name: str) -> None:
    """SGLang would give the attention one too; which biases there are, the file tells."""
    loadable = load(name, {**read_config(TINY / name), "bias": True})
    assert loadable.config["bias"] is False
    assert loadable.config["attention_bias"] is False


def test_a_broken_index_of_weights_is_named(tmp_path: Path) -> None:
    """The index's path and what it should hold, not the reader's traceback."""
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"model\.safetensors\.index\.json: no index of weights"):
        read_tensors([tmp_path])


def test_published_configurations_are_mended() -> None:
    """SafeAILab's name a whole LLaMA, Medusa's name hardly anything: the engine gets what SGLang needs."""
    for name in ("eagle", "eagle3"):
        published = {**read_config(TINY / name), "architectures": ["LlamaForCausalLM"], "tie_word_embeddings": True}
        config = load(name, published).config
        assert config["architectures"] == [discover()[name].draft_model_class]
        assert config["tie_word_embeddings"] is False
    published = {"medusa_num_heads": 2, "medusa_num_layers": 1, "base_model_name_or_path": "owner/model"}
    medusa = load("medusa", published)
    assert medusa.facts == {"num_heads": 4, "num_blocks": 1}
    assert medusa.config["medusa_num_heads"] == 4
    assert medusa.config["hidden_size"] == TARGET["hidden_size"]


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([0, 0, 0, 0], r"step_to_module is \[0, 0, 0, 0\], but the file's modules are 0 to 1"),
        ([0, 1, 2, 2], r"step_to_module is \[0, 1, 2, 2\]"),
        ([0, 1, 1], "step_to_module has 3 entries, but num_steps is 4"),
        ("0111", "step_to_module is '0111'"),
        (None, "step_to_module is None"),
    ],
)
def test_a_map_that_prism_cannot_follow_is_refused(steps: Any, said: str) -> None:
    """A map has to be a surjection onto the file's modules, with an entry for each step, in the file or the suite."""
    with pytest.raises(CheckpointError, match=said):
        load("prism", {**read_config(TINY / "prism"), "step_to_module": steps})
    if isinstance(steps, list) and len(steps) >= TREE.num_steps:
        with pytest.raises(CheckpointError, match=r"options\." + said):
            load("prism", options={"step_to_module": steps})


def test_the_suites_map_takes_the_place_of_the_checkpoints() -> None:
    """What the engine is to load and to report is the suite's map."""
    loadable = load("prism", options={"step_to_module": [1, 0, 0, 1]})
    assert loadable.config["step_to_module"] == loadable.facts["step_to_module"] == [1, 0, 0, 1]


def test_medusa_cannot_draft_deeper_than_it_has_heads() -> None:
    """Depth means the same for every architecture."""
    with pytest.raises(CheckpointError, match="has 4 heads, but num_steps is 5"):
        load("medusa", tree=Tree(5, 4, 16))


def test_tensors_are_read_from_every_kind_of_file(tmp_path: Path) -> None:
    """safetensors, .bin and .pt say the same; damaged values are seen, trainers' leavings are not read."""
    weights = load_file(TINY / "medusa" / "model.safetensors")
    damaged = {**weights, "0.0.linear.bias": weights["0.0.linear.bias"].index_fill(0, torch.tensor([3]), torch.nan)}
    folders = [tmp_path / kind for kind in ("safetensors", "bin", "pt")]
    for folder in folders:
        folder.mkdir()
    save_file(weights, folders[0] / "model.safetensors")
    torch.save(weights, folders[0] / "medusa_lm_head.pt")
    torch.save(damaged, folders[1] / "pytorch_model.bin")
    torch.save({"lr": 1}, folders[1] / "training_args.bin")
    torch.save(weights, folders[2] / "medusa_lm_head.pt")
    assert [[path.name for path in weight_files(folder)] for folder in folders] == [
        ["model.safetensors"],
        ["pytorch_model.bin"],
        ["medusa_lm_head.pt"],
    ]
    found = read_tensors(folders)
    assert found[folders[0]] == found[folders[2]] == facts_of(TINY / "medusa")
    assert {name for name, facts in found[folders[1]].items() if not facts.finite} == {"0.0.linear.bias"}


def test_files_that_hold_more_than_tensors_are_refused(tmp_path: Path) -> None:
    """A pickle that would run code on loading is named and not loaded."""
    torch.save({"x": Path("/")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin: cannot be read as a file of tensors alone"):
        read_tensors([tmp_path])


def test_the_engines_folder_links_to_the_weights(tmp_path: Path) -> None:
    """The draft's own folder is not written to; laying out twice gives the same."""
    spec, source = discover()["prism"], TINY / "prism"
    found = Checkpoint(source, read_config(source), {}, TARGET)
    found = replace(found, shapes={name: fact.shape for name, fact in facts_of(source).items()})
    loadable = spec.read(found, spec.options(), TREE)
    for _ in range(2):
        folder = lay_out(loadable, source, tmp_path / "draft")
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}
    assert (folder / "model.safetensors").resolve() == (source / "model.safetensors").resolve()
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["LlamaForCausalLMPrism"]


def sharded(folder: Path, config: dict[str, Any], changed: dict[str, torch.Tensor | None] | None = None) -> Path:
    """A LLaMA of two layers in two files with an index, as the hub has them; tensors changed, or left out for None."""
    folder.mkdir()
    weights = {name: torch.zeros(shape, dtype=torch.bfloat16) for name, shape in llama_model(config).items()}
    whole = {name: weight for name, weight in {**weights, **(changed or {})}.items() if weight is not None}
    names = sorted(whole)
    files = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, own in files.items():
        save_file({name: whole[name] for name in own}, folder / file)
    index = {name: file for file, own in files.items() for name in own}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    (folder / "config.json").write_text(json.dumps(config))
    return folder


LLAMA = {
    "architectures": ["LlamaForCausalLM"], "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4,
    "num_key_value_heads": 2, "num_hidden_layers": 2, "vocab_size": 64, "tie_word_embeddings": False,
}  # fmt: skip


@pytest.mark.parametrize("values", [True, False])
def test_a_whole_target_is_let_through(tmp_path: Path, values: bool) -> None:
    """Read from end to end, or by its headers alone; quantized ones have other names, others' layouts are not known."""
    folder = sharded(tmp_path / "t", LLAMA)
    tensors = read_tensors([folder], values)[folder]
    assert {facts.finite for facts in tensors.values()} == {True if values else None}
    check_target(folder, LLAMA, tensors)
    check_target(tmp_path, {**LLAMA, "quantization_config": {"bits": 4}}, {"x": TensorFacts((1,), True)})
    check_target(TINY / "target", TARGET, read_tensors([TINY / "target"])[TINY / "target"])


def test_a_target_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    """A missing file, a file cut short, a missing tensor, NaN: each by its name."""
    folder = sharded(tmp_path / "shard", LLAMA)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"index names 1 files that are not there: model-00002-of-00002"):
        read_tensors([folder], values=False)
    folder = sharded(tmp_path / "short", LLAMA)
    file = folder / "model-00001-of-00002.safetensors"
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(CheckpointError, match=r"model-00001-of-00002\.safetensors: cannot be read .* bytes of"):
        read_tensors([folder], values=False)
    folder = sharded(tmp_path / "tensor", LLAMA, {"model.layers.1.mlp.up_proj.weight": None})
    with pytest.raises(CheckpointError, match=r"not whole; missing: model\.layers\.1\.mlp\.up_proj\.weight\."):
        check_target(folder, LLAMA, read_tensors([folder])[folder])
    nan = torch.full((64, 32), torch.nan, dtype=torch.bfloat16)
    folder = sharded(tmp_path / "nan", LLAMA, {"lm_head.weight": nan})
    with pytest.raises(CheckpointError, match=r"NaN or infinity in lm_head\.weight"):
        check_target(folder, LLAMA, read_tensors([folder])[folder])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_number_that_is_not_finite_is_seen_wherever_it_stands(tmp_path: Path, dtype: torch.dtype) -> None:
    """By its bits: infinity, minus infinity and NaN; the largest numbers are finite."""
    limit = torch.finfo(dtype).max
    for place, value in enumerate((limit, -limit, torch.inf, -torch.inf, torch.nan)):
        weights = torch.zeros(7, dtype=dtype)
        weights[place] = value
        save_file({"a": torch.ones(3), "x": weights}, tmp_path / "model.safetensors")
        assert read_tensors([tmp_path])[tmp_path]["x"].finite == bool(torch.isfinite(weights).all())
