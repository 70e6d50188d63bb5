"""How PRISM is trained: one module first, then all of them in their turns."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated

from pydantic import Field, model_validator

from draftbench.drafts.api import Options
from draftbench.drafts.eagle.loss import eagle_loss
from draftbench.drafts.eagle.recipe import ALIGNED
from draftbench.drafts.prism.loss import begin_switching, begin_warm_up
from draftbench.drafts.prism.model import new_prism, prism_config
from draftbench.drafts.training.recipe import Phase, Recipe


class PrismOptions(Options):
    """For PRISM; by default module 1 serves the first step alone, as in its main results."""

    step_to_module: Annotated[
        tuple[int, ...], Field(strict=False, min_length=1, description="Module of each draft step, from 0.")
    ] = (0, 1, 1, 1, 1)

    @model_validator(mode="after")
    def _every_module_occurs(self) -> PrismOptions:
        if set(self.step_to_module) != set(range(max(self.step_to_module) + 1)):
            raise ValueError(f"step_to_module {self.step_to_module} has to name every module, from 0")
        return self


def _prism(options: PrismOptions) -> Recipe:
    steps = options.step_to_module
    aligned = replace(ALIGNED, num_passes=len(steps))
    return Recipe(
        "prism",
        f"{max(steps) + 1} PRISM modules, taking turns over the draft steps as {list(steps)}. Half of the budget "
        "trains one module exactly as `hass`; then it is copied and they take turns, without the loss on hidden "
        "states. Differs from PRISM: soft targets and the top-10 loss as in `hass`, smooth L1 for MSE, 5 passes for 3, "
        "and gradients flow through the passes.",
        lambda start: new_prism(start.config, steps, start.embedding_VD, start.head_VD, start.seed),
        lambda config: prism_config(config, steps),
        (
            Phase(0.5, aligned, eagle_loss, begin_warm_up),
            Phase(
                0.5, replace(aligned, feature_weight=0.0), eagle_loss, partial(begin_switching, step_to_module=steps)
            ),
        ),
        options=PrismOptions,
        adapt=_prism,
        most_passes=len(steps),
    )


PRISM = _prism(PrismOptions())
