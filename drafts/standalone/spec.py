"""A small language model of the same vocabulary drafts."""

from draftbench.drafts.api import Capabilities, Checkpoint, DraftSpec, Loadable, Options, Tree
from draftbench.drafts.layout import ROTARY, check_sizes, llama_model, whole_context
from draftbench.drafts.sampled import SampledOptions

ROTARY_KEYS = ("rope_theta", "rope_scaling", "rope_parameters")
"""A configuration with one of them has positions that can go on; another's are the engine's affair."""


def read(found: Checkpoint, options: Options, tree: Tree) -> Loadable:
    """Any language model that SGLang knows; a LLaMA's tensors are checked here, others' by SGLang alone."""
    check_sizes(found, "vocab_size")
    config, trained = dict(found.config), None
    if any(key in config for key in ROTARY_KEYS) or config.get("model_type") == "llama":
        config, trained = whole_context(found, config)
    if config.get("architectures") != ["LlamaForCausalLM"]:
        return Loadable(config, None, trained_tokens=trained)
    return Loadable(config, llama_model(config), ("lm_head.weight", *ROTARY), trained_tokens=trained)


SPEC = DraftSpec(
    name="standalone",
    title="a small language model drafts",
    origin="Leviathan et al. 2023, Fast Inference from Transformers via Speculative Decoding",
    sglang_algorithm="STANDALONE",
    draft_model_class=None,
    needs_checkpoint=True,
    capabilities=Capabilities(draft_kv=True, children="beams", trainable=True),
    options=SampledOptions,
    read=read,
    model="draftbench.drafts.standalone.model:made",
    recipes={
        "standalone": "draftbench.drafts.standalone.recipe:STANDALONE",
        "direct-alignment": "draftbench.drafts.standalone.recipe:DIRECT",
    },
)
