"""Drafts in the layouts of PRISM's authors, and with a fusion of three layers, made of the embedded trained ones.

The fusion matrix is the least-squares fit of the target's last hidden state by the three layers' outputs, so that the
trained modules behind it go on drafting well without a training.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from draftbench.drafts.layout import AUX_LAYERS, default_layers
from draftbench.drafts.training.features import Example, features_of
from draftbench.drafts.training.hf import LlamaForCausalLM
from draftbench.harness.models.find import EMBEDDED

TINY = EMBEDDED / "tiny"
LAYERS = default_layers(24)
NAMES = {"fc": "fc", "layer": "midlayer."}
Weights = dict[str, Tensor]


@torch.no_grad()
def fitted_fusion(target: LlamaForCausalLM, samples: Sequence[Example], strength: float = 1e-3) -> Weights:
    """The fusion matrix [D, 3D] and bias [D] whose output is nearest to the last hidden state (ridge regression)."""
    features = features_of(target, samples, LAYERS, torch.float32)
    batches = [features.batch([index]) for index in range(len(samples))]
    read_ND = torch.cat([batch.aux_BTE[0] for batch in batches])
    last_ND = torch.cat([batch.hidden_BTD[0] for batch in batches])
    known_NX = torch.cat((read_ND, torch.ones(len(read_ND), 1)), dim=1).double()
    gram = known_NX.T @ known_NX
    gram += strength * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.double)
    solved = torch.linalg.solve(gram, known_NX.T @ last_ND.double()).T.half()
    return {
        "fusion_layer.weight": solved[:, :-1].contiguous(),
        "fusion_layer.bias": solved[:, -1].contiguous(),
    }


def trained(name: str) -> Weights:
    """An embedded draft's own tensors, without the embedding."""
    found = load_file(TINY / name / "model.safetensors")
    return {key: tensor for key, tensor in found.items() if "embed" not in key}


def config_of(name: str) -> dict[str, Any]:
    """Its config.json."""
    found: dict[str, Any] = json.loads((TINY / name / "config.json").read_text())
    return found


def write(folder: Path, config: Mapping[str, Any], weights: Weights, file: str = "model.safetensors") -> Path:
    """A draft's folder, its weights in safetensors or in torch's own format."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    if file.endswith(".safetensors"):
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / file)
    else:
        torch.save(weights, folder / file)
    return folder


def write_ours(folder: Path, name: str, fusion: Weights | None = None) -> Path:
    """An embedded draft in our own layout, with a fusion matrix or as it is."""
    config = config_of(name)
    if fusion:
        config["eagle_config"] = {AUX_LAYERS: list(LAYERS)}
        if config["architectures"] == ["LlamaForCausalLMEagle"]:
            config["architectures"] = ["LlamaForCausalLMEagleFused"]
    weights = load_file(TINY / name / "model.safetensors") | (fusion or {})
    return write(folder, config, weights)


def write_sglang(folder: Path, name: str, fusion: Weights | None = None) -> Path:
    """As the authors publish for SGLang: `midlayer.M`, `fcM`, no map; with three layers another architecture's name.

    Source: Akemiiii/prism-mlsys-ae, LD-800k and PRISM-800K-SGLANG.
    """
    weights = {
        re.sub(r"prism_modules\.(\d+)\.(fc|layer)\.", lambda found: f"{NAMES[found[2]]}{found[1]}.", key): tensor
        for key, tensor in trained(name).items()
    }
    config = {key: value for key, value in config_of(name).items() if key != "step_to_module"}
    config["architectures"] = ["LlamaForCausalLMPRISM" if fusion else "LlamaForCausalLMEagle"]
    return write(folder, config, weights | (fusion or {}))


def write_torch(folder: Path, name: str, num_trained_steps: int = 3, fusion: Weights | None = None) -> Path:
    """As the authors' training writes: `stepModels.M.0`, `stepFCs.M`, the first module once more under EAGLE's names,
    and a map of the trained steps alone, in torch's own format."""
    weights: Weights = dict(fusion or {})
    for key, tensor in trained(name).items():
        match = re.fullmatch(r"prism_modules\.(\d+)\.(fc|layer)\.(.+)", key)
        assert match
        module, part, rest = match.groups()
        weights[f"stepFCs.{module}.{rest}" if part == "fc" else f"stepModels.{module}.0.{rest}"] = tensor
        if module == "0":
            weights[f"fc.{rest}" if part == "fc" else f"layers.0.{rest}"] = tensor
    weights["embed_tokens.weight"] = load_file(TINY / "target" / "model.safetensors")["model.embed_tokens.weight"]
    ours = config_of(name)
    steps: list[int] = ours.pop("step_to_module")
    config = {
        "eagle_config": {**ours, "architectures": ["LlamaForCausalLM"], "bias": True},
        "num_steps": num_trained_steps,
        "num_step_models": max(steps) + 1,
        "step_mapping": {str(step): steps[step] for step in range(num_trained_steps)},
        "use_adapter": False,
    }
    return write(folder, config, weights, "pytorch_model.bin")


def main(folder: Path) -> None:
    """Write what suites/examples/prism-ae holds: the embedded PRISM as `LD-800k`, with a fitted fusion as the other."""
    from tests.runtime.oracle import Oracle
    from tests.runtime.test_engines import prompts

    oracle = Oracle(TINY / "target")
    samples = [Example(prompt.prompt_ids, oracle.continued(prompt.prompt_ids, 24)) for prompt in prompts()]
    write_sglang(folder / "LD-800k", "prism")
    write_sglang(folder / "PRISM-800K-SGLANG", "prism", fitted_fusion(oracle.target, samples))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
