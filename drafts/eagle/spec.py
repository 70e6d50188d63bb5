"""A layer, or several, on the target's last hidden state drafts a tree; HASS is a way to train the same weights."""

from dataclasses import replace

from draftbench.drafts.adaptive import adaptive_arguments
from draftbench.drafts.api import Capabilities, Checkpoint, DraftSpec, Loadable, Needs, Options, Tree
from draftbench.drafts.layout import (
    FUSION,
    ROTARY,
    attention_biases,
    check_sizes,
    engine_config,
    fused_layers,
    fusion,
    llama_layer,
    missing_zeros,
    reads_layers,
    renamed,
    whole_context,
    without_prefix,
)
from draftbench.drafts.sampled import EagleOptions

ARCHITECTURE = "LlamaForCausalLMEagle"
FUSED = "LlamaForCausalLMEagleFused"
"""A head on several layers of the target, which SGLang does not have: `draftbench.drafts.eagle.engine`."""


def read(found: Checkpoint, options: Options, tree: Tree) -> Loadable:
    """SafeAILab's layout: `fc`, `layers.N`, perhaps `embed_tokens`, which the target's replaces.

    Published config.json name LlamaForCausalLM as their architecture, which SGLang would load as a whole model, and
    their `bias` is the fusion matrix's, where SGLang would give the attention one. The file says what has a bias.
    With `fusion_layer`, PRISM's, the first step reads several layers of the target: a control, not a published draft.
    """
    check_sizes(found, "hidden_size", "vocab_size")
    found, names = renamed(found, lambda name: without_prefix(name, "model."))
    config, trained = whole_context(found, engine_config(found.config, ARCHITECTURE))
    config["attention_bias"] = bool(config.get("attention_bias")) or attention_biases(found)
    hidden, layers = config["hidden_size"], fused_layers(found)
    expected = {"fc.weight": (hidden, 2 * hidden), "fc.bias": (hidden,), **fusion(hidden, len(layers))}
    for index in range(config["num_hidden_layers"]):
        expected |= llama_layer(f"layers.{index}", config, input_norm=index > 0)
    # SGLang builds these biases always; LLaMA-3's heads have no fc.bias, Qwen2's no bias of o_proj.
    zeros = missing_zeros(found, expected, "fc.bias", "o_proj.bias") if attention_biases(found) else {}
    zeros |= missing_zeros(found, expected, "fc.bias", f"{FUSION}.bias")
    unused = ("embed_tokens.weight", "lm_head.weight", *ROTARY)
    loadable = Loadable(config, expected, unused, renamed=names, zeros=zeros, trained_tokens=trained)
    if not layers:
        return loadable
    config |= {"architectures": [FUSED], **reads_layers(layers)}
    return replace(loadable, facts={"reads": layers}, sglang_algorithm="EAGLE3", draft_model_class=FUSED)


SPEC = DraftSpec(
    name="eagle",
    title="one layer on the target's last hidden state (EAGLE-1/2; HASS weights and stacked layers too)",
    origin="Li et al. 2024, EAGLE-2; HASS: Zhang et al. 2024",
    sglang_algorithm="EAGLE",
    draft_model_class=ARCHITECTURE,
    needs_checkpoint=True,
    capabilities=Capabilities(Needs("last"), draft_kv=True, children="beams", trainable=True),
    options=EagleOptions,
    read=read,
    engine_arguments=adaptive_arguments,
    engine_module="draftbench.drafts.eagle.engine",
    model="draftbench.drafts.eagle.model:made",
    recipes={
        "eagle": "draftbench.drafts.eagle.recipe:EAGLE",
        "hass": "draftbench.drafts.eagle.recipe:HASS",
        "hass-artifact": "draftbench.drafts.eagle.recipe:HASS_ARTIFACT",
        "stacked-2": "draftbench.drafts.eagle.recipe:STACKED",
        "stacked-3": "draftbench.drafts.eagle.recipe:STACKED_3",
    },
)
