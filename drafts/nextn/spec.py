"""The layer that a target was trained with to predict the token after the next (MTP); SGLang's NEXTN."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from draftbench.drafts.adaptive import adaptive_arguments
from draftbench.drafts.api import Capabilities, Checkpoint, DraftSpec, Loadable, Needs, Shape, Tree
from draftbench.drafts.layout import check_sizes, head_size, llama_layer, text_fields
from draftbench.drafts.sampled import EagleOptions
from draftbench.harness.errors import CheckpointError

COUNT = "num_nextn_predict_layers"


@dataclass(frozen=True)
class Layout:
    """How one family keeps its extra layer.

    Attributes:
        draft_class: as SGLang loads it.
        prefix: of its tensors' names, from the target's configuration.
        fusion: tensors between embedding, hidden state and layer, by the rest of their names.
        counted: whether config.json has to say how many there are.
        layer: shapes of the whole layer; None where it is the target's kind (MLA, experts), which SGLang checks.
    """

    draft_class: str
    prefix: Callable[[Mapping[str, Any]], str]
    fusion: Callable[[int], dict[str, Shape]]
    counted: bool = True
    layer: Callable[[Mapping[str, Any]], dict[str, Shape]] | None = None


def _after_the_last(config: Mapping[str, Any]) -> str:
    return f"model.layers.{config['num_hidden_layers']}."


def _deepseek(hidden: int) -> dict[str, Shape]:
    return {
        "enorm.weight": (hidden,),
        "hnorm.weight": (hidden,),
        "eh_proj.weight": (hidden, 2 * hidden),
        "shared_head.norm.weight": (hidden,),
    }


def _qwen_next(hidden: int) -> dict[str, Shape]:
    return {
        "pre_fc_norm_embedding.weight": (hidden,),
        "pre_fc_norm_hidden.weight": (hidden,),
        "fc.weight": (hidden, 2 * hidden),
        "norm.weight": (hidden,),
    }


def _mimo(hidden: int) -> dict[str, Shape]:
    return {
        "token_layernorm.weight": (hidden,),
        "hidden_layernorm.weight": (hidden,),
        "input_proj.weight": (hidden, 2 * hidden),
        "final_layernorm.weight": (hidden,),
    }


def _mimo_layer(config: Mapping[str, Any]) -> dict[str, Shape]:
    """Qwen 2's: biases of q, k, v, none of o."""
    size = head_size(config)
    kv = config.get("num_key_value_heads") or config["num_attention_heads"]
    shapes = llama_layer("", {**config, "attention_bias": False, "bias": False}, input_norm=True)
    heads = {"q": config["num_attention_heads"], "k": kv, "v": kv}
    biases = {f"self_attn.{name}_proj.bias": (count * size,) for name, count in heads.items()}
    return {name.removeprefix("."): shape for name, shape in shapes.items()} | biases


DEEPSEEK = Layout("DeepseekV3ForCausalLMNextN", _after_the_last, _deepseek)
LAYOUTS = {
    "DeepseekV3ForCausalLM": DEEPSEEK,
    "DeepseekV32ForCausalLM": DEEPSEEK,
    "Glm4MoeForCausalLM": Layout("Glm4MoeForCausalLMNextN", _after_the_last, _deepseek),
    "Qwen3NextForCausalLM": Layout("Qwen3NextForCausalLMMTP", lambda _: "mtp.", _qwen_next, counted=False),
    "MiMoForCausalLM": Layout("MiMoMTP", lambda _: "model.mtp_layers.0.", _mimo, layer=_mimo_layer),
}
"""By the target's architecture; SGLang knows some more, whose checkpoints were not looked at."""


def read(found: Checkpoint, options: EagleOptions, tree: Tree) -> Loadable:
    """The target's own folder, or one with its configuration and the extra layer alone.

    SGLang makes the draft's class of the target's (configs/model_config.py, 0.5.17), and shares embedding and head.
    """
    path, fields = found.folder / "config.json", text_fields(found.config)
    kind = next(iter(found.config.get("architectures") or ()), None)
    if kind not in LAYOUTS:
        raise CheckpointError(
            f"{path}: architectures is {kind!r}, a target whose layers for later tokens cannot be checked here; known: "
            f"{', '.join(LAYOUTS)}."
        )
    check_sizes(found, "hidden_size", "vocab_size", "num_hidden_layers")
    layout = LAYOUTS[kind]
    if layout.counted and not fields.get(COUNT):
        raise CheckpointError(
            f"{path}: {COUNT} is {fields.get(COUNT)!r}: this model was published without a layer for later tokens; "
            "take another draft."
        )
    prefix = layout.prefix(fields)
    expected = layout.fusion(fields["hidden_size"]) | (layout.layer(fields) if layout.layer is not None else {})
    whole = {f"{prefix}{name}": shape for name, shape in expected.items()}
    return Loadable(found.config, whole, draft_model_class=layout.draft_class, among_others=True)


SPEC = DraftSpec(
    name="nextn",
    title="the target's own layer for the token after the next, at every step (MTP); checkpoint: the target's folder",
    origin="DeepSeek-AI 2024, DeepSeek-V3 (section 2.2)",
    sglang_algorithm="EAGLE",
    draft_model_class=None,
    needs_checkpoint=True,
    capabilities=Capabilities(Needs("last"), draft_kv=True, children="beams", trainable=True),
    options=EagleOptions,
    read=read,
    engine_arguments=adaptive_arguments,
    model="draftbench.drafts.nextn.model:made",
    recipes={"nextn": "draftbench.drafts.nextn.recipe:NEXTN"},
)
