"""How EAGLE heads are trained: as EAGLE, as HASS, and with stacked layers as PRISM's control."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from pydantic import Field
from torch import nn

from draftbench.drafts.api import Options
from draftbench.drafts.eagle.loss import EagleObjective, eagle_loss
from draftbench.drafts.eagle.model import eagle_config, new_eagle
from draftbench.drafts.training.recipe import Phase, Recipe, Start

ONE_STEP = EagleObjective(1, 1.0, 1.0, 0.0, 10, 1.0, True)
ALIGNED = EagleObjective(5, 1.0, 1.0, 1.0, 10, 1.0, False)

StackedLayers = Annotated[int, Field(ge=1, description="Stacked layers, all of which run at every step.")]


class LayerOptions(Options):
    """For EAGLE heads."""

    num_layers: StackedLayers = 1


class StackedOptions(LayerOptions):
    """For PRISM's control."""

    num_layers: StackedLayers = 2


def _eagle(summary: str, objective: EagleObjective, options: LayerOptions) -> Recipe:
    def new(start: Start) -> nn.Module:
        return new_eagle(start.config, start.embedding_VD, start.head_VD, start.seed, options.num_layers)

    return Recipe(
        "eagle",
        summary + (f" {options.num_layers} layers." if options.num_layers > 1 else ""),
        new,
        partial(eagle_config, num_layers=options.num_layers),
        (Phase(1.0, objective, eagle_loss),),
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
STACKED = _eagle(
    "PRISM's control: stacked layers that all run at every step, trained exactly as `hass`.",
    ALIGNED,
    StackedOptions(),
)
