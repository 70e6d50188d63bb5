"""Model folders of a given shape: configurations, the embedded tokenizer, and drafts' files of the right layout.

The weights are made at random on the device (`random_weights` in a suite), so drafts' files are sparse and hold zeros:
only names and shapes are read of them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from draftbench.drafts.layout import default_layers, fusion, llama_layer, reads_layers
from draftbench.harness.models.find import EMBEDDED

COMMON = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "rms_norm_eps": 1e-05,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
    "dtype": "bfloat16",
}
SHAPES: dict[str, dict[str, Any]] = {
    # Source: config.json of meta-llama/Meta-Llama-3-8B, but for the special tokens.
    "llama3-8b": {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "max_position_embeddings": 8192, "vocab_size": 128256, "rope_theta": 500000.0,
    },
    # Source: config.json of meta-llama/Llama-2-7b-chat-hf, likewise.
    "llama2-7b": {
        "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32, "max_position_embeddings": 4096, "vocab_size": 32000, "rope_theta": 10000.0,
    },
    "small": {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 2,
        "num_key_value_heads": 1, "max_position_embeddings": 1024, "vocab_size": 2048, "rope_theta": 10000.0,
    },
}  # fmt: skip
ELEMENT_BYTES = 2


def write_target(shape: str, folder: Path) -> dict[str, Any]:
    """A target's folder without weights; its configuration. The tokenizer knows only the first 2,048 tokens."""
    config = {**COMMON, **SHAPES[shape]}
    _write(folder, config)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(EMBEDDED / "tiny" / "target" / name, folder / name)
    return config


def write_eagle(target: Mapping[str, Any], folder: Path) -> None:
    """An EAGLE draft of one layer."""
    config = {**target, "architectures": ["LlamaForCausalLMEagle"], "num_hidden_layers": 1}
    _write(folder, config, _fusion("", target) | llama_layer("layers.0", config, input_norm=False))


def write_eagle3(target: Mapping[str, Any], folder: Path) -> None:
    """An EAGLE-3 draft on three layers, with the target's head and its whole vocabulary."""
    size, layers = target["hidden_size"], default_layers(target["num_hidden_layers"])
    config = {
        **target,
        **reads_layers(layers),
        "architectures": ["LlamaForCausalLMEagle3"],
        "num_hidden_layers": 1,
        "draft_vocab_size": None,
    }
    shapes: dict[str, tuple[int, ...]] = {"fc.weight": (size, len(layers) * size), "norm.weight": (size,)}
    shapes |= llama_layer("midlayer", config, input_norm=True, input_size=2 * size)
    _write(folder, config, shapes | {"midlayer.hidden_norm.weight": (size,)})


def write_prism(
    target: Mapping[str, Any], step_to_module: list[int], folder: Path, layers: tuple[int, ...] = ()
) -> None:
    """A PRISM draft with the modules of a map, on the last hidden state or on several layers."""
    config = {
        **target,
        **reads_layers(layers),
        "architectures": ["LlamaForCausalLMPrism"],
        "num_hidden_layers": 1,
        "step_to_module": step_to_module,
    }
    shapes: dict[str, tuple[int, ...]] = dict(fusion(target["hidden_size"], len(layers)))
    for module in range(max(step_to_module) + 1):
        prefix = f"prism_modules.{module}."
        shapes |= _fusion(prefix, target) | llama_layer(f"{prefix}layer", config, input_norm=False)
    _write(folder, config, shapes)


def _fusion(prefix: str, target: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    size = target["hidden_size"]
    return {f"{prefix}fc.weight": (size, 2 * size), f"{prefix}fc.bias": (size,)}


def _write(folder: Path, config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]] | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    if shapes is not None:
        write_zeros(folder / "model.safetensors", shapes)


def write_zeros(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """A sparse safetensors file of bf16 zeros: a header, and a hole of the right length."""
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        begin, count = end, 1
        for size in shape:
            count *= size
        end += ELEMENT_BYTES * count
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
