"""An encoder of the last three tokens that looks at the target's states of the whole context (Chimera)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from draftbench.drafts.api import Shape
from draftbench.drafts.layout import llama_layer, whole_number
from draftbench.drafts.stepwise import stepwise_spec

NUM_HEADS = "num_heads"
TOKENS = 3
"""That the encoder reads: a tri-gram."""


def num_heads(config: Mapping[str, Any]) -> int:
    """Steps that a checkpoint can draft."""
    return whole_number(config, NUM_HEADS)


def expected(config: Mapping[str, Any]) -> dict[str, Shape]:
    """Tensors of a checkpoint."""
    hidden = config["hidden_size"]
    wide = TOKENS * hidden
    shapes: dict[str, Shape] = {
        "encoder.block.weight": (wide, wide),
        "encoder.block.bias": (wide,),
        "encoder.out.weight": (hidden, wide),
        **llama_layer("layer", config, input_norm=True),
    }
    return shapes | {f"heads.{head}.weight": (hidden, 2 * hidden) for head in range(num_heads(config))}


SPEC = stepwise_spec(
    name="chimera",
    title="the last three tokens, encoded, look at the target's hidden states of the whole context",
    origin="Zeng et al. 2024, Chimera",
    factory="draftbench.drafts.chimera.model:made",
    expected=expected,
    most_steps=num_heads,
    facts=lambda config: {NUM_HEADS: num_heads(config)},
    recipes={"chimera": "draftbench.drafts.chimera.recipe:CHIMERA"},
)
