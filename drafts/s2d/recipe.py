"""How an S2D draft is trained: all exits at once, distilled from the target's probabilities."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from pydantic import Field, model_validator

from draftbench.drafts.api import Options
from draftbench.drafts.s2d.loss import nested_loss
from draftbench.drafts.s2d.model import nested_config, new_nested
from draftbench.drafts.s2d.spec import Threshold
from draftbench.drafts.standalone.loss import StandaloneObjective
from draftbench.drafts.training.recipe import Phase, Recipe


class NestedRecipeOptions(Options):
    """For S2D."""

    exits: Annotated[
        tuple[Annotated[int, Field(ge=1)], ...],
        Field(strict=False, min_length=1, description="Layers after which it can stop, ascending; the last: all."),
    ] = (1, 2, 3)
    thresholds: Annotated[
        tuple[Threshold, ...],
        Field(strict=False, description="Written into the checkpoint: from where each exit but the last is sure."),
    ] = (0.9, 0.9)

    @model_validator(mode="after")
    def _ascending(self) -> NestedRecipeOptions:
        if list(self.exits) != sorted(set(self.exits)):
            raise ValueError(f"exits {list(self.exits)} have to ascend")
        if len(self.thresholds) != len(self.exits) - 1:
            raise ValueError(f"thresholds need {len(self.exits) - 1} numbers, one for each exit but the last")
        return self


def _s2d(options: NestedRecipeOptions) -> Recipe:
    exits, thresholds = options.exits, options.thresholds
    return Recipe(
        "s2d",
        f"A {exits[-1]}-layer LLaMA language model with exits after layers {list(exits)}, which all learn at once, "
        "distilled from the target's probabilities. Differs from S2D: the paper takes layers of a pretrained model and "
        "learns from its corpus's tokens.",
        lambda start: new_nested(start.config, exits, thresholds, start.embedding_VD, start.seed),
        partial(nested_config, exits=exits, thresholds=thresholds),
        (Phase(1.0, StandaloneObjective(soft_weight=1.0, hard_weight=0.0), nested_loss),),
        options=NestedRecipeOptions,
        adapt=_s2d,
    )


S2D = _s2d(NestedRecipeOptions())
