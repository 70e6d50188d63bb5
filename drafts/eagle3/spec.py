"""One layer on three of the target's layers, with a vocabulary of its own (EAGLE-3)."""

from typing import Any

from draftbench.drafts.adaptive import AdaptiveOptions, adaptive_arguments
from draftbench.drafts.api import Capabilities, Checkpoint, DraftSpec, Loadable, Needs, Options, Shape, Tree
from draftbench.drafts.layout import (
    ROTARY,
    attention_biases,
    check_layers,
    check_sizes,
    default_layers,
    engine_config,
    llama_layer,
    missing_zeros,
    renamed,
    text_fields,
    whole_context,
    without_prefix,
)
from draftbench.harness.errors import CheckpointError

ARCHITECTURE = "LlamaForCausalLMEagle3"
LAYERS = "eagle_aux_hidden_state_layer_ids"
REFUSED = {
    "norm_before_residual": "the residual is taken after the norm, where SGLang 0.5.17 takes it before",
    "parallel_drafting": "all steps come from one pass (P-EAGLE)",
}
"""Features that SGLang's EAGLE-3 does not have, by key of config.json, and what they change."""


def read(found: Checkpoint, options: Options, tree: Tree) -> Loadable:
    """SafeAILab's layout, `midlayer`, and its relatives' with `layers.N`; speculators' configuration is nested.

    Published config.json name LlamaForCausalLM. Norms before `fc` (EAGLE-3.1) are SGLang's own, told by the file.
    """
    check_sizes(found, "vocab_size")
    _refuse_features(found)
    found, names = renamed(found, lambda name: without_prefix(name, "model."))
    config, trained = whole_context(found, engine_config(found.config, ARCHITECTURE))
    hidden, read_size = config["hidden_size"], found.target["hidden_size"]
    config |= _vocabulary(found, config["vocab_size"])
    layers = _layers(found, config)
    num_read = len(layers)
    # SGLang reads `bias` as fc's and as o_proj's; it has no others.
    config |= {"bias": "fc.bias" in found.shapes, "attention_bias": False}
    expected = {"fc.weight": (hidden, num_read * read_size), "norm.weight": (hidden,)}
    if config["draft_vocab_size"] is not None:
        expected["lm_head.weight"] = (config["draft_vocab_size"], hidden)
    if "d2t" in found.shapes:
        expected["d2t"] = (config["draft_vocab_size"],)
    if config["bias"]:
        expected["fc.bias"] = (hidden,)
    if hidden != read_size:  # the target's embedding is too wide, or too narrow
        config["target_hidden_size"] = read_size
        expected["embed_tokens.weight"] = (config["vocab_size"], hidden)
    if num_read * read_size == hidden:
        raise CheckpointError(
            f"{found.folder / 'config.json'}: what it reads of the target is as wide as its own hidden states "
            f"({hidden}), so that SGLang leaves fc out; take a draft on several layers."
        )
    if hidden != read_size and config["draft_vocab_size"] is None:
        raise CheckpointError(
            f"{found.folder}: missing: lm_head.weight; the target's head is {read_size} wide, the draft {hidden}."
        )
    expected |= _norms(config, num_read, read_size)
    first = "midlayer" if any(name.startswith("midlayer.") for name in found.shapes) else "layers.0"
    for index in range(config["num_hidden_layers"]):
        prefix = first if index == 0 else f"layers.{index}"
        size = 2 * hidden if index == 0 else None
        layer = llama_layer(prefix, {**config, "bias": False}, input_norm=index == 0, input_size=size)
        expected |= layer | {f"{prefix}.hidden_norm.weight": (hidden,)}
        if config["bias"]:
            expected[f"{prefix}.self_attn.o_proj.bias"] = (hidden,)
    zeros = missing_zeros(found, expected, "o_proj.bias")
    # Layers after the first have an input norm in SGLang too, which it does not apply.
    unused = ("embed_tokens.weight", "t2d", "input_layernorm.weight", *ROTARY)
    return Loadable(config, expected, unused, renamed=names, zeros=zeros, trained_tokens=trained)


def _refuse_features(found: Checkpoint) -> None:
    """What no tensor would tell."""
    path, config = found.folder / "config.json", text_fields(found.config)
    for key, change in REFUSED.items():
        if config.get(key) or (config.get("eagle_config") or {}).get(key):
            raise CheckpointError(f"{path}: {key} is set: {change}. SGLang cannot run such a draft; take another.")
    if (config.get("eagle_config") or {}).get("use_aux_hidden_state") is False:
        raise CheckpointError(
            f"{path}: use_aux_hidden_state is false: the draft reads the target's last hidden state, which eagle3 here "
            "does not; take a draft on several layers."
        )
    if attention_biases(found):
        raise CheckpointError(
            f"{found.folder} has biases of q, k, v or o (self_attn.q_proj.bias, …), which SGLang's EAGLE-3 would leave "
            "out; take a draft without."
        )


def _vocabulary(found: Checkpoint, vocab: int) -> dict[str, int | None]:
    """The draft's vocabulary, counted in the file: published configurations leave it out, or say null.

    Without a head of its own the draft takes the target's, which SGLang does where the number is null.
    """
    path, said = found.folder / "config.json", text_fields(found.config).get("draft_vocab_size")
    head = found.shapes.get("lm_head.weight")
    if head is None:
        if said not in (None, vocab):
            raise CheckpointError(
                f"{found.folder}: missing: lm_head.weight, though {path.name} says draft_vocab_size {said}; a reduced "
                "vocabulary needs a head of its own."
            )
        return {"draft_vocab_size": None}
    if head[0] != vocab and "d2t" not in found.shapes:
        raise CheckpointError(
            f"{found.folder}: missing: d2t, which maps the draft's {head[0]} tokens to the target's {vocab}; only a "
            "draft with the whole vocabulary can do without."
        )
    return {"draft_vocab_size": head[0] if said is None else said}


def _layers(found: Checkpoint, config: dict[str, Any]) -> list[int]:
    """The target's layers that are read, put where SGLang looks for them; SGLang's own where none are named.

    Speculators' outer key counts as vLLM does: layer N's input, which is the output of N - 1.
    """
    layers = (config.get("eagle_config") or {}).get(LAYERS)
    outer = config.pop(LAYERS, None)
    if layers is None and isinstance(outer, list) and all(type(at) is int for at in outer):
        layers = [at - 1 for at in outer]
    if layers is None:
        layers = list(default_layers(text_fields(found.target)["num_hidden_layers"]))
    check_layers(found, LAYERS, layers)
    config["eagle_config"] = {**(config.get("eagle_config") or {}), LAYERS: layers}
    return list(layers)


def _norms(config: dict[str, Any], num_read: int, read_size: int) -> dict[str, Shape]:
    """Norms before `fc`, EAGLE-3.1's one of all layers or one of each, which the file and the configuration tell."""
    inner = config.get("eagle_config") or {}
    norms: dict[str, Shape] = {}
    config["norm_before_fc"] = bool(inner.get("norm_before_fc", config.get("norm_before_fc")))
    if config["norm_before_fc"]:
        norms["input_norm.weight"] = (num_read * read_size,)
    config["fc_norm"] = bool(config.get("fc_norm") or config.get("use_aux_norm") or inner.get("fc_norm"))
    if config["fc_norm"]:
        norms |= {f"fc_norm.{index}.weight": (read_size,) for index in range(num_read)}
    return norms


SPEC = DraftSpec(
    name="eagle3",
    title="one layer, or several, on three of the target's layers, with a vocabulary of its own (EAGLE-3)",
    origin="Li et al. 2025, EAGLE-3",
    sglang_algorithm="EAGLE3",
    draft_model_class=ARCHITECTURE,
    needs_checkpoint=True,
    capabilities=Capabilities(Needs("layers"), draft_kv=True, children="beams", trainable=True),
    options=AdaptiveOptions,
    read=read,
    engine_arguments=adaptive_arguments,
    model="draftbench.drafts.eagle3.model:made",
    recipes={"eagle3": "draftbench.drafts.eagle3.recipe:EAGLE3"},
)
