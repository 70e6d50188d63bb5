"""How a standalone draft is trained: distilled from the target's probabilities."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from pydantic import Field

from draftbench.drafts.api import Options
from draftbench.drafts.standalone.loss import StandaloneObjective, standalone_loss
from draftbench.drafts.standalone.model import NUM_LAYERS, new_standalone, standalone_config
from draftbench.drafts.training.recipe import Phase, Recipe


class StandaloneRecipeOptions(Options):
    """For standalone drafts."""

    num_layers: Annotated[int, Field(ge=1, description="Layers, as wide as the target's.")] = NUM_LAYERS


def _standalone(options: StandaloneRecipeOptions) -> Recipe:
    return Recipe(
        "standalone",
        f"A {options.num_layers}-layer LLaMA language model, distilled from the target's probabilities on the corpus.",
        lambda start: new_standalone(start.config, start.embedding_VD, start.seed, options.num_layers),
        partial(standalone_config, num_layers=options.num_layers),
        (Phase(1.0, StandaloneObjective(soft_weight=1.0, hard_weight=0.0), standalone_loss),),
        options=StandaloneRecipeOptions,
        adapt=_standalone,
    )


STANDALONE = _standalone(StandaloneRecipeOptions())
