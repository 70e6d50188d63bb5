"""An EAGLE head that samples the state by the token and gives two: one to score, one to go on with (FSPAD)."""

from draftbench.drafts.api import Capabilities, Checkpoint, DraftSpec, Loadable, Needs, Options, Shape, Tree
from draftbench.drafts.layout import (
    ROTARY,
    check_sizes,
    engine_config,
    llama_layer,
    missing_zeros,
    renamed,
    whole_context,
    without_prefix,
)
from draftbench.harness.errors import CheckpointError

ARCHITECTURE = "LlamaForCausalLMFspad"
NAMES = {
    "fc.fc.": "fc.",
    "fc.post_attention_layernorm.": "sampling.norm.",
    "fc.mlp.gate_proj.": "sampling.gate.",
    "fc.mlp.up_proj.": "sampling.up.",
    "fc.mlp.down_proj.": "sampling.down.",
}
"""The authors' names (Luc4Gui/FSPAD, eagle/model/cnets_fspad.py) and ours."""


def _engine_name(name: str) -> str:
    name = without_prefix(name, "model.")
    return next((ours + name.removeprefix(theirs) for theirs, ours in NAMES.items() if name.startswith(theirs)), name)


def read(found: Checkpoint, options: Options, tree: Tree) -> Loadable:
    """The authors' layout, `fc.fc`, `fc.mlp` and `layers.0`, or ours, `fc`, `sampling` and `layers.0`.

    An EAGLE head has no sampling, and its last matrix makes one state, not two: both are told by shape and name.
    """
    check_sizes(found, "hidden_size", "vocab_size")
    found, names = renamed(found, _engine_name)
    config, trained = whole_context(found, engine_config(found.config, ARCHITECTURE))
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    if config["num_hidden_layers"] != 1:
        raise CheckpointError(
            f"{found.folder / 'config.json'}: num_hidden_layers is {config['num_hidden_layers']}; FSPAD has one layer."
        )
    expected: dict[str, Shape] = {
        "fc.weight": (hidden, 2 * hidden),
        "fc.bias": (hidden,),
        "sampling.norm.weight": (hidden,),
        "sampling.gate.weight": (inner, hidden),
        "sampling.up.weight": (inner, hidden),
        "sampling.down.weight": (hidden, inner),
        **llama_layer("layers.0", config, input_norm=False),
        "layers.0.mlp.down_proj.weight": (2 * hidden, inner),
    }
    zeros = missing_zeros(found, expected, "fc.bias")
    unused = ("embed_tokens.weight", "lm_head.weight", *ROTARY)
    return Loadable(config, expected, unused, renamed=names, zeros=zeros, trained_tokens=trained)


SPEC = DraftSpec(
    name="fspad",
    title="an EAGLE head that samples the state by the token and gives two: one to score, one to go on with (FSPAD)",
    origin="Gui et al. 2024, FSPAD, arXiv 2408.15562",
    sglang_algorithm="EAGLE",
    draft_model_class=ARCHITECTURE,
    needs_checkpoint=True,
    capabilities=Capabilities(Needs("last"), draft_kv=True, children="beams", trainable=True),
    read=read,
    engine_module="draftbench.drafts.fspad.engine",
    model="draftbench.drafts.fspad.model:made",
    recipes={"fspad": "draftbench.drafts.fspad.recipe:FSPAD"},
)
