"""Drafts for targets of several families, trained for a step, written, and read as a run reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from draftbench.drafts.api import Tree, discover
from draftbench.drafts.layout import OWN, TAKEN
from draftbench.drafts.training import cards
from draftbench.drafts.training.features import Example, features_of
from draftbench.drafts.training.hf import AutoModelForCausalLM, LlamaConfig
from draftbench.drafts.training.load import load_draft as load_trained
from draftbench.drafts.training.recipe import Start
from draftbench.drafts.training.recipes import recipes
from draftbench.harness.models.checkpoints import load_draft
from draftbench.harness.models.find import read_config, read_target
from draftbench.harness.runtime.tensors import TensorFacts

MINIATURE: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2,
    "num_hidden_layers": 6, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama-3.1": {"model_type": "llama", "rope_parameters": LLAMA3},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {"head_dim": 16},
    "mistral": {"sliding_window": None, "head_dim": 16},
}
"""What these families' configurations have that LLaMA's have not, as transformers writes them."""
SAMPLES = [Example((1, 2, 3 + i), tuple(5 + (i + j) % 7 for j in range(8))) for i in range(3)]


@pytest.fixture(scope="module", params=FAMILIES)
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A target with random weights, and its folder as transformers writes it."""
    from transformers import AutoConfig

    fields = {"model_type": request.param, **MINIATURE, **FAMILIES[request.param]}
    model: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(**fields))
    folder = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(folder)
    return model.eval().requires_grad_(False), folder


@pytest.mark.parametrize("name", recipes())
def test_a_trained_draft_is_one_that_a_run_loads(
    target: tuple[Any, Path], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tensors are those that its config.json says, and nothing of the target's layers is in there."""
    model, folder = target
    recipe, config = recipes()[name], read_target(folder)
    features = features_of(model, SAMPLES, recipe.layers(config["num_hidden_layers"]))
    draft: Any = recipe.new(Start(config, model, features, np.arange(len(SAMPLES)), 0))
    phase = recipe.phases[0]
    phase.begin(draft)
    loss = phase.loss(draft, features.batch([0, 1, 2]), phase.objective)
    loss.backward()
    torch.optim.SGD([weight for weight in draft.parameters() if weight.requires_grad], 0.01).step()
    monkeypatch.setattr(cards, "card", lambda ledger: "")
    cards.save_draft(draft, recipe.config(config), {"draft": name}, folder, tmp_path)
    spec = discover()[recipe.architecture]
    facts = {
        key: TensorFacts(tuple(value.shape), True) for key, value in load_file(tmp_path / "model.safetensors").items()
    }
    tree = Tree(3, 1, 4) if name == "dflash" else Tree(3, 2, 6)
    found = load_draft(spec, tmp_path, read_config(tmp_path), read_config(folder), facts, spec.options(), tree)
    assert found.as_filed
    assert found.trained_tokens is None
    LlamaConfig(**found.config)  # refuses fields of other layers
    written = json.loads((tmp_path / "config.json").read_text())
    if name == "nextn":  # the layer's config.json is the target's own
        assert {**read_config(folder), **recipe.config(config), "dtype": None} == {**written, "dtype": None}
    elif name == "dflash":  # its layers are its own
        assert written["layer_types"] == ["full_attention"] * written["num_hidden_layers"]
    else:
        assert "layer_types" not in written
    if name != "nextn":
        assert written["head_dim"] == (16 if folder.name.startswith(("qwen3", "mistral")) else 8)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    loaded = load_trained(recipe.architecture, tmp_path, model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    if hasattr(loaded, "embed_tokens"):  # the file has it in half precision, the engine takes the target's
        assert torch.equal(loaded.embed_tokens.weight, model.get_input_embeddings().weight)


def test_what_is_taken_from_a_target_is_listed() -> None:
    """docs/training.md names every field, and no other."""
    text = Path("docs/training.md").read_text()
    for key in (*TAKEN, *OWN):
        assert f"`{key}`" in text
