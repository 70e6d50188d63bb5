"""How Medusa's heads are trained: on the target's probabilities of later tokens."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from draftbench.drafts.api import Options
from draftbench.drafts.medusa.loss import MedusaObjective, medusa_loss
from draftbench.drafts.medusa.model import medusa_config, new_medusa
from draftbench.drafts.training.recipe import Phase, Recipe


class MedusaRecipeOptions(Options):
    """For Medusa."""

    num_heads: Annotated[int, Field(ge=1, description="Heads: the steps that it can draft.")] = 4


def _medusa(options: MedusaRecipeOptions) -> Recipe:
    return Recipe(
        "medusa",
        f"{options.num_heads} Medusa heads, trained on the target's probabilities; later heads weigh 0.8 of the one "
        "before.",
        lambda start: new_medusa(options.num_heads, start.head_VD, start.seed),
        lambda config: medusa_config(config, options.num_heads),
        (Phase(1.0, MedusaObjective(0.8), medusa_loss),),
        options=MedusaRecipeOptions,
        adapt=_medusa,
    )


MEDUSA = _medusa(MedusaRecipeOptions())
