"""How PRISM is trained: one module first, as HASS is, then all of them in their turns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

from pydantic import Field, model_validator
from torch import nn

from draftbench.drafts.api import Options
from draftbench.drafts.eagle.loss import EagleObjective, eagle_loss
from draftbench.drafts.eagle.recipe import ALIGNED, AS_PRISMS_ARTIFACT, ReadsLayers, layers_for, reading
from draftbench.drafts.prism.loss import begin_switching, begin_warm_up
from draftbench.drafts.prism.model import new_prism, prism_config
from draftbench.drafts.training.recipe import Phase, Recipe, Start


class PrismRecipeOptions(Options):
    """For PRISM; by default module 1 serves the first step alone, as in its main results."""

    step_to_module: Annotated[
        tuple[int, ...], Field(strict=False, min_length=1, description="Module of each draft step, from 0.")
    ] = (0, 1, 1, 1, 1)
    reads_layers: ReadsLayers = 1
    warm_up: Annotated[
        float, Field(gt=0, lt=1, description="Share of the budget in which one module learns alone, as `hass` does.")
    ] = 0.5
    detach: Annotated[bool, Field(description="Stop gradients between passes once the modules take turns.")] = False
    feature_term: Annotated[bool, Field(description="Keep the loss on hidden states once the modules take turns.")] = (
        False
    )

    @model_validator(mode="after")
    def _every_module_occurs(self) -> PrismRecipeOptions:
        if set(self.step_to_module) != set(range(max(self.step_to_module) + 1)):
            raise ValueError(f"step_to_module {self.step_to_module} has to name every module, from 0")
        return self


class ArtifactOptions(PrismRecipeOptions):
    """As the authors' artifact has them: 40 epochs of HASS, 10 of PRISM from its state."""

    warm_up: Annotated[float, Field(gt=0, lt=1, description="As for `prism`; 40 of 50 epochs.")] = 0.8


@dataclass(frozen=True)
class Way:
    """What is not an option: the objective that one module learns with, and how fast all of them learn afterwards.

    Attributes:
        num_passes: None for as many as there are draft steps.
        rate: of the modules in their turns, relative to the one module's.
    """

    summary: str
    objective: EagleObjective
    num_passes: int | None
    rate: float


def _prism(way: Way, options: PrismRecipeOptions) -> Recipe:
    steps, layers = options.step_to_module, layers_for(options.reads_layers)
    alone = replace(way.objective, num_passes=way.num_passes or len(steps))
    weight = alone.feature_weight if options.feature_term else 0.0
    in_turns = replace(alone, feature_weight=weight, detach=options.detach)

    def new(start: Start) -> nn.Module:
        num_read = len(layers(start.config["num_hidden_layers"]))
        return start.measured(new_prism(start.config, steps, start.embedding_VD, start.head_VD, start.seed, num_read))

    return Recipe(
        "prism",
        f"{max(steps) + 1} PRISM modules, taking turns over the draft steps as {list(steps)}. {options.warm_up:.0%} of "
        "the budget trains one module; then it is copied and they take turns, with"
        f"{'' if options.feature_term else 'out'} the loss on hidden states, gradients "
        f"{'stopped between' if options.detach else 'flowing through'} the passes. {way.summary}"
        + reading(options.reads_layers),
        new,
        lambda config: prism_config(config, steps, layers(config["num_hidden_layers"])),
        (
            Phase(options.warm_up, alone, eagle_loss, begin_warm_up),
            Phase(
                1 - options.warm_up,
                in_turns,
                eagle_loss,
                partial(begin_switching, step_to_module=steps),
                way.rate,
            ),
        ),
        layers,
        options=type(options),
        adapt=partial(_prism, way),
        most_passes=len(steps),
    )


PRISM = _prism(
    Way(
        "One module learns exactly as `hass`. Differs from PRISM: soft targets and the top-10 loss as in `hass`, "
        "smooth L1 for MSE, 5 passes for 3.",
        ALIGNED,
        None,
        1.0,
    ),
    PrismRecipeOptions(),
)
ARTIFACT = _prism(
    Way(
        "As the authors' artifact: one module learns by 3 passes, smooth L1 1.0 and cross-entropy 0.1, gradients "
        "stopped between the passes; then cross-entropy alone at a third of the learning rate. Differs from it: keys "
        "and values of the context are the first module's, as they are served, and no noise is added.",
        AS_PRISMS_ARTIFACT,
        3,
        1 / 3,
    ),
    ArtifactOptions(),
)
"""Source: Akemiiii/prism-mlsys-ae at 3b00014: 40 epochs at 3e-5, 10 at 1e-5."""
