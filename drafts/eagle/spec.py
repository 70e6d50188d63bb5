"""A layer, or several, on the target's last hidden state drafts a tree; HASS is a way to train the same weights."""

from draftbench.drafts.api import Capabilities, Checkpoint, DraftSpec, Loadable, Needs, Options, Tree
from draftbench.drafts.layout import (
    ROTARY,
    attention_biases,
    check_sizes,
    engine_config,
    llama_layer,
    missing_zeros,
    renamed,
    whole_context,
    without_prefix,
)

ARCHITECTURE = "LlamaForCausalLMEagle"


def read(found: Checkpoint, options: Options, tree: Tree) -> Loadable:
    """SafeAILab's layout: `fc`, `layers.N`, perhaps `embed_tokens`, which the target's replaces.

    Published config.json name LlamaForCausalLM as their architecture, which SGLang would load as a whole model, and
    their `bias` is the fusion matrix's, where SGLang would give the attention one. The file says what has a bias.
    """
    check_sizes(found, "hidden_size", "vocab_size")
    found, names = renamed(found, lambda name: without_prefix(name, "model."))
    config, trained = whole_context(found, engine_config(found.config, ARCHITECTURE))
    config["attention_bias"] = bool(config.get("attention_bias")) or attention_biases(found)
    hidden = config["hidden_size"]
    expected = {"fc.weight": (hidden, 2 * hidden), "fc.bias": (hidden,)}
    for index in range(config["num_hidden_layers"]):
        expected |= llama_layer(f"layers.{index}", config, input_norm=index > 0)
    # SGLang builds these biases always; LLaMA-3's heads have no fc.bias, Qwen2's no bias of o_proj.
    zeros = missing_zeros(found, expected, "fc.bias", "o_proj.bias") if attention_biases(found) else {}
    zeros |= missing_zeros(found, expected, "fc.bias")
    unused = ("embed_tokens.weight", "lm_head.weight", *ROTARY)
    return Loadable(config, expected, unused, renamed=names, zeros=zeros, trained_tokens=trained)


SPEC = DraftSpec(
    name="eagle",
    title="one layer on the target's last hidden state (EAGLE-1/2; HASS weights and stacked layers too)",
    origin="Li et al. 2024, EAGLE-2; HASS: Zhang et al. 2024",
    sglang_algorithm="EAGLE",
    draft_model_class=ARCHITECTURE,
    needs_checkpoint=True,
    capabilities=Capabilities(Needs("last"), draft_kv=True, children="beams", trainable=True),
    read=read,
    model="draftbench.drafts.eagle.model:made",
    recipes={
        "eagle": "draftbench.drafts.eagle.recipe:EAGLE",
        "hass": "draftbench.drafts.eagle.recipe:HASS",
        "stacked-2": "draftbench.drafts.eagle.recipe:STACKED",
    },
)
