"""A draft with a KV cache and training: the hidden state, gated by the token, through one LLaMA layer."""

from collections.abc import Mapping
from typing import Any

from draftbench.drafts.api import Shape
from draftbench.drafts.layout import llama_layer
from draftbench.drafts.stepwise import stepwise_spec


def expected(config: Mapping[str, Any]) -> dict[str, Shape]:
    """Tensors of a checkpoint."""
    size = config["hidden_size"]
    own = {"token.weight": (size, size), "gate.weight": (size, size), "gate.bias": (size,)}
    return {**own, **llama_layer("layer", config, input_norm=False)}


SPEC = stepwise_spec(
    name="gated",
    title="the hidden state, gated by the token, through one LLaMA layer",
    origin="an example of docs/adding-a-draft.md",
    factory="draftbench_gated.model:GatedDraft",
    expected=expected,
    recipes={"gated": "draftbench_gated.model:RECIPE"},
)
