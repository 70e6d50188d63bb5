"""How EAGLE heads are trained: as EAGLE, as HASS, and with stacked layers as PRISM's control."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from draftbench.drafts.api import Options
from draftbench.drafts.eagle.loss import EagleObjective, eagle_loss
from draftbench.drafts.eagle.model import eagle_config, new_eagle
from draftbench.drafts.layout import default_layers
from draftbench.drafts.training.recipe import Phase, Recipe, Start

ONE_STEP = EagleObjective(1, 1.0, 1.0, 0.0, 10, 1.0, True)
ALIGNED = EagleObjective(5, 1.0, 1.0, 1.0, 10, 1.0, False)
AS_PRISMS_ARTIFACT = EagleObjective(3, 1.0, 0.1, 0.0, 10, 1.0, True)
"""What the first phase of PRISM's artifact learns by. Source: Akemiiii/prism-mlsys-ae at 3b00014."""

StackedLayers = Annotated[int, Field(ge=1, description="Stacked layers, all of which run at every step.")]
ReadsLayers = Annotated[
    Literal[1, 3],
    Field(description="What the first step reads: 1, the target's last hidden state; 3, three layers, as EAGLE-3."),
]


class LayerOptions(Options):
    """For EAGLE heads."""

    num_layers: StackedLayers = 1
    reads_layers: ReadsLayers = 1


class StackedOptions(LayerOptions):
    """For PRISM's control."""

    num_layers: StackedLayers = 2


class ThreeOptions(LayerOptions):
    """For the deeper one."""

    num_layers: StackedLayers = 3


def layers_for(reads: int) -> Callable[[int], tuple[int, ...]]:
    """The target's layers that such a draft reads, from the number of its layers; none for its last hidden state."""
    return default_layers if reads > 1 else lambda num_layers: ()


def reading(reads: int) -> str:
    """What a summary says of it."""
    return " Its first step reads three layers of the target." if reads > 1 else ""


def _eagle(summary: str, objective: EagleObjective, options: LayerOptions) -> Recipe:
    layers = layers_for(options.reads_layers)

    def new(start: Start) -> nn.Module:
        num_read = len(layers(start.config["num_hidden_layers"]))
        given = start.config, start.embedding_VD, start.head_VD, start.seed
        return start.measured(new_eagle(*given, options.num_layers, num_read))

    stacked = f" {options.num_layers} layers." if options.num_layers > 1 else ""
    return Recipe(
        "eagle",
        summary + stacked + reading(options.reads_layers),
        new,
        lambda config: eagle_config(config, options.num_layers, layers(config["num_hidden_layers"])),
        (Phase(1.0, objective, eagle_loss),),
        layers,
        options=type(options),
        adapt=partial(_eagle, summary, objective),
    )


EAGLE = _eagle(
    "An EAGLE head, trained on one step. Differs from EAGLE: cross-entropy weighs 1.0, not 0.1, and no noise is "
    "added to the features.",
    ONE_STEP,
    LayerOptions(),
)
HASS = _eagle(
    "An EAGLE head, trained as HASS over 5 aligned passes, with the top-10 loss; about five times the training "
    "compute of `eagle` on the same tokens. Differs from HASS: cross-entropy weighs 1.0, not 0.1, and gradients "
    "flow through the passes.",
    ALIGNED,
    LayerOptions(),
)
HASS_ARTIFACT = _eagle(
    "An EAGLE head, trained all along as in `prism-artifact`'s first phase: 3 passes, smooth L1 1.0, cross-entropy "
    "0.1, gradients stopped between the passes. Its control on equal tokens.",
    AS_PRISMS_ARTIFACT,
    LayerOptions(),
)
STACKED = _eagle(
    "PRISM's control: stacked layers that all run at every step, trained exactly as `hass`.",
    ALIGNED,
    StackedOptions(),
)
STACKED_3 = _eagle(
    "PRISM's second control: one stacked layer more than `stacked-2`, trained exactly as `hass`.",
    ALIGNED,
    ThreeOptions(),
)
