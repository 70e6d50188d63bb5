"""Which tensors LLaMA-shaped drafts have, what their configurations say, and whether a draft goes with its target."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from draftbench.drafts.api import Checkpoint, Shape
from draftbench.harness.errors import CheckpointError

ROTARY = (".rotary_emb.inv_freq",)
"""Written by old versions of transformers, computed by everyone."""
NESTED = ("text_config", "transformer_layer_config")
"""Where multimodal models and the speculators library keep a language model's fields."""
PER_LAYER = ("layer_types", "max_window_layers", "sliding_window", "use_sliding_window", "no_rope_layers")
"""What transformers 5 writes of each of the target's layers, and what only they obey; a draft's layers are others."""
BIASED = ("q_proj", "k_proj", "v_proj", "o_proj")
FUSION = "fusion_layer"
"""Name of the matrix that makes one hidden state of several layers' outputs (PRISM's authors call it so)."""
AUX_LAYERS = "eagle_aux_hidden_state_layer_ids"
"""SGLang's key for the target's layers, from 0, whose outputs a draft reads; it stands under `eagle_config`."""
LAST = "last hidden state"
"""What a receipt says of a draft without such layers."""


def text_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """A language model's fields, also where config.json nests them; outer fields stay, the architecture's name too."""
    nested: Mapping[str, Any] = next((config[key] for key in NESTED if isinstance(config.get(key), Mapping)), {})
    outer = {key: value for key, value in config.items() if key not in NESTED}
    names = {"architectures": config["architectures"]} if "architectures" in config else {}
    return {**outer, **nested, **names}


TAKEN = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "original_max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "dtype",
    "torch_dtype",
)
"""What a draft takes over from its target's config.json; docs/training.md says why and what not."""
OWN = {
    "model_type": "llama",
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
}
"""What every trained draft is, whatever its target is: layers of LLaMA without biases."""


def draft_fields(target: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a draft of LLaMA layers as wide as its target's, from the target's config.json.

    Gemma 3's frequencies by kind of layer become those of full attention, and a rotation of part of each head (which
    LLaMA layers do not have) one of the whole.
    """
    found = text_fields(target)
    fields = {key: found[key] for key in TAKEN if found.get(key) is not None}
    fields["head_dim"] = head_size(found)
    fields.setdefault("num_key_value_heads", found["num_attention_heads"])
    fields.setdefault("rms_norm_eps", 1e-6)
    if (rope := fields.get("rope_parameters")) is not None:
        rope = rope.get("full_attention", rope)
        fields["rope_parameters"] = {key: value for key, value in rope.items() if key != "partial_rotary_factor"}
    return {**fields, **OWN}


def head_size(config: Mapping[str, Any]) -> int:
    """Width of one attention head: said, or the hidden size's share."""
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def engine_config(config: Mapping[str, Any], architecture: str) -> dict[str, Any]:
    """A draft's fields as SGLang's LLaMA drafts read them: nothing nested, no field of layers that it does not have.

    Tied embeddings count as untied: SGLang deletes the draft's embedding and head one after the other.
    """
    found = {key: value for key, value in text_fields(config).items() if key not in PER_LAYER}
    kind = found.get("model_type")
    return {
        **found,
        "architectures": [architecture],
        "model_type": kind if kind == "llama4_text" else "llama",
        "head_dim": head_size(found),
        "num_key_value_heads": found.get("num_key_value_heads") or found["num_attention_heads"],
        "tie_word_embeddings": False,
        "bias": False,
    }


def renamed(found: Checkpoint, name_of: Callable[[str], str]) -> tuple[Checkpoint, dict[str, str]]:
    """The checkpoint under the engine's names, and which of them differ from the file's.

    Raises:
        CheckpointError: two tensors get one name.
    """
    names = {name: name_of(name) for name in found.shapes}
    shapes: dict[str, Shape] = {}
    for name, new in names.items():
        if new in shapes:
            raise CheckpointError(f"{found.folder}: {name} and another tensor of the file both are {new}; keep one.")
        shapes[new] = found.shapes[name]
    return replace(found, shapes=shapes), {name: new for name, new in names.items() if new != name}


def without_prefix(name: str, *prefixes: str) -> str:
    """A tensor's name without the first of these prefixes that it has."""
    return next((name.removeprefix(prefix) for prefix in prefixes if name.startswith(prefix)), name)


def attention_biases(found: Checkpoint) -> bool:
    """Whether the file's layers have attention biases, as Qwen2's do."""
    return any(re.search(r"self_attn\.[qkvo]_proj\.bias$", name) for name in found.shapes)


def missing_zeros(found: Checkpoint, expected: Mapping[str, Shape], *endings: str) -> dict[str, Shape]:
    """Of the expected tensors those with these endings that the file lacks."""
    return {name: shape for name, shape in expected.items() if name.endswith(endings) and name not in found.shapes}


def llama_layer(
    prefix: str, config: Mapping[str, Any], *, input_norm: bool, input_size: int | None = None
) -> dict[str, Shape]:
    """Shapes of one LLaMA layer's tensors, for names that begin with `prefix`.

    Args:
        input_size: what queries, keys and values are made from; the hidden size unless told.
    """
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    heads, size = config["num_attention_heads"], head_size(config)
    read, q = input_size or hidden, heads * size
    kv = (config.get("num_key_value_heads") or heads) * size
    shapes: dict[str, Shape] = {
        "self_attn.q_proj.weight": (q, read),
        "self_attn.k_proj.weight": (kv, read),
        "self_attn.v_proj.weight": (kv, read),
        "self_attn.o_proj.weight": (hidden, q),
        "mlp.gate_proj.weight": (inner, hidden),
        "mlp.up_proj.weight": (inner, hidden),
        "mlp.down_proj.weight": (hidden, inner),
        "post_attention_layernorm.weight": (hidden,),
    }
    # SGLang's LLaMA takes either key (models/llama.py, 0.5.17); a bias that no file fills would stay random.
    if config.get("attention_bias") or config.get("bias"):
        shapes |= {f"self_attn.{name}.bias": (width,) for name, width in zip(BIASED, (q, kv, kv, hidden), strict=True)}
    if input_norm:
        shapes["input_layernorm.weight"] = (hidden,)
    return {f"{prefix}.{name}": shape for name, shape in shapes.items()}


def llama_model(config: Mapping[str, Any]) -> dict[str, Shape]:
    """Shapes of a whole LLaMA language model's tensors."""
    hidden, vocab = config["hidden_size"], config["vocab_size"]
    shapes: dict[str, Shape] = {"model.embed_tokens.weight": (vocab, hidden), "model.norm.weight": (hidden,)}
    if not config.get("tie_word_embeddings"):
        shapes["lm_head.weight"] = (vocab, hidden)
    for index in range(config["num_hidden_layers"]):
        shapes |= llama_layer(f"model.layers.{index}", config, input_norm=True)
    return shapes


def whole_number(config: Mapping[str, Any], key: str) -> int:
    """A count from 1 that a draft's config.json has to have.

    Raises:
        CheckpointError: it is something else.
        KeyError: it is missing.
    """
    found = config[key]
    if type(found) is not int or found < 1:
        raise CheckpointError(f"config.json: {key} is {found!r}; it has to be a whole number from 1.")
    return found


def context_tokens(config: Mapping[str, Any]) -> int:
    """The longest sequence that a model's configuration allows."""
    return int(config.get("max_position_embeddings", 2048))


def check_sizes(found: Checkpoint, *equal: str) -> None:
    """Refuse a draft whose configuration cannot go with its target's.

    Args:
        equal: keys of config.json that must be the target's.

    Raises:
        CheckpointError: one of them differs.
    """
    ours, theirs = text_fields(found.config), text_fields(found.target)
    for key in equal:
        if ours.get(key) != theirs.get(key):
            raise CheckpointError(
                f"{found.folder / 'config.json'}: {key} is {ours.get(key)}, but the target's is {theirs.get(key)}; "
                "a draft must be made for its target."
            )


def whole_context(found: Checkpoint, config: Mapping[str, Any]) -> tuple[dict[str, Any], int | None]:
    """The draft's fields with the target's context, and the positions that it was made for where they are fewer.

    Heads are published with the length that they were trained on. Rotary positions go on beyond it, so that the engine
    can serve every request; what is accepted there is measured.

    Raises:
        CheckpointError: positions cannot go on: they are not rotary, or their frequencies depend on the length.
    """
    target, trained = context_tokens(text_fields(found.target)), context_tokens(config)
    if trained >= target:
        return dict(config), None
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind not in ("default", "linear", "llama3", "yarn"):
        raise CheckpointError(
            f"{found.folder / 'config.json'}: max_position_embeddings is {trained}, less than the target's {target}, "
            f"and rope_scaling is {kind}, which depends on it: positions cannot go on. Take a draft for the whole "
            "context."
        )
    longer = {**config, "max_position_embeddings": target}
    if kind in ("llama3", "yarn") and not scaling.get("original_max_position_embeddings"):
        key = "rope_parameters" if config.get("rope_parameters") else "rope_scaling"
        longer[key] = {**scaling, "original_max_position_embeddings": trained}
    return longer, trained


def check_layers(found: Checkpoint, key: str, layers: Any) -> None:
    """Make sure that a draft reads layers that the target has and SGLang can hand out: all but the last.

    Raises:
        CheckpointError: it does not, with the key.
    """
    last = text_fields(found.target)["num_hidden_layers"] - 2
    if not isinstance(layers, list) or not layers or not all(type(at) is int and 0 <= at <= last for at in layers):
        raise CheckpointError(
            f"{found.folder / 'config.json'}: {key} is {layers!r}; it has to be a list of the target's layers, each "
            f"from 0 to {last}."
        )


def default_layers(num_layers: int) -> tuple[int, int, int]:
    """A low, a middle and a high layer of the target, from 0, where a configuration names none.

    SGLang's choice (0.5.17, models/llama.py); of fewer than seven layers that would be one of them twice, so the
    nearest three are taken.
    """
    middle = max(num_layers // 2 - 1, 1)
    return min(1, middle - 1), middle, max(num_layers - 4, middle + 1)


def layers_read(config: Mapping[str, Any]) -> list[int]:
    """The target's layers whose outputs a draft reads at its first step, by its configuration; none for its last hidden
    state."""
    return list((config.get("eagle_config") or {}).get(AUX_LAYERS) or ())


def reads_layers(layers: Sequence[int]) -> dict[str, Any]:
    """The same as fields of a configuration."""
    return {"eagle_config": {AUX_LAYERS: list(layers)}} if layers else {}


def fused_layers(found: Checkpoint) -> list[int]:
    """The target's layers whose outputs a draft with a fusion matrix reads at its first step; none without one.

    Raises:
        CheckpointError: the target has no such layers.
    """
    if f"{FUSION}.weight" not in found.shapes:
        return []
    layers = (found.config.get("eagle_config") or {}).get(AUX_LAYERS)
    if layers is None:
        layers = list(default_layers(text_fields(found.target)["num_hidden_layers"]))
    check_layers(found, AUX_LAYERS, layers)
    return list(layers)


def fusion(hidden: int, num_read: int) -> dict[str, Shape]:
    """Shapes of the fusion matrix of so many layers."""
    return {f"{FUSION}.weight": (hidden, num_read * hidden), f"{FUSION}.bias": (hidden,)} if num_read else {}
