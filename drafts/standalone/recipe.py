"""How a standalone draft is trained: distilled from the target's probabilities, at once or after pretraining."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from pydantic import Field

from draftbench.drafts.api import Options
from draftbench.drafts.standalone.loss import (
    StandaloneObjective,
    VariationObjective,
    standalone_loss,
    variation_loss,
)
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


class DirectRecipeOptions(StandaloneRecipeOptions):
    """For direct alignment."""

    loss: Annotated[
        Literal["kl", "tvd", "tvd++"],
        Field(description="Of the alignment: forward KL, total variation, or that with normalized rewards."),
    ] = "tvd++"
    pretraining: Annotated[
        float, Field(gt=0, lt=1, description="Share of the budget that learns the corpus's tokens alone.")
    ] = 0.5


def _direct(options: DirectRecipeOptions) -> Recipe:
    share = 1 - options.pretraining
    alignments = {
        "kl": Phase(share, StandaloneObjective(1.0, 0.0), standalone_loss),
        "tvd": Phase(share, VariationObjective(False), variation_loss),
        "tvd++": Phase(share, VariationObjective(True), variation_loss),
    }
    return Recipe(
        "standalone",
        f"A {options.num_layers}-layer LLaMA language model, directly aligned: {options.pretraining:.0%} of the budget "
        f"learns the next token, the rest the target's probabilities by {options.loss.upper()}. Differs from Direct "
        "Alignment: both phases see the target's own answers, the paper pretrains on other text and mixes some of it "
        "in later; expectations are summed over the target's 16 likeliest tokens.",
        lambda start: new_standalone(start.config, start.embedding_VD, start.seed, options.num_layers),
        partial(standalone_config, num_layers=options.num_layers),
        (
            Phase(options.pretraining, StandaloneObjective(soft_weight=0.0, hard_weight=1.0), standalone_loss),
            alignments[options.loss],
        ),
        options=DirectRecipeOptions,
        adapt=_direct,
    )


DIRECT = _direct(DirectRecipeOptions())
