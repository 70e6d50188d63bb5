"""The recipes of the project's own architectures, and those that packages add."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from importlib.metadata import entry_points
from typing import Annotated

from pydantic import Field, model_validator
from torch import nn

from draftbench.drafts.api import Options
from draftbench.drafts.eagle.loss import EagleObjective, eagle_loss
from draftbench.drafts.eagle.model import eagle_config, new_eagle
from draftbench.drafts.eagle3.loss import Eagle3Objective, eagle3_loss
from draftbench.drafts.eagle3.model import eagle3_config, new_eagle3
from draftbench.drafts.medusa.loss import MedusaObjective, medusa_loss
from draftbench.drafts.medusa.model import medusa_config, new_medusa
from draftbench.drafts.prism.loss import begin_switching, begin_warm_up
from draftbench.drafts.prism.model import new_prism, prism_config
from draftbench.drafts.standalone.loss import StandaloneObjective, standalone_loss
from draftbench.drafts.standalone.model import NUM_LAYERS, new_standalone, standalone_config
from draftbench.drafts.training.recipe import Phase, Recipe, Start
from draftbench.harness.errors import TrainingError

ENTRY_POINTS = "draftbench.recipes"
ONE_STEP = EagleObjective(1, 1.0, 1.0, 0.0, 10, 1.0, True)
ALIGNED = EagleObjective(5, 1.0, 1.0, 1.0, 10, 1.0, False)


def eagle3_layers(num_layers: int) -> tuple[int, ...]:
    """A low, a middle and a high layer (from 0): what SGLang takes by default (0.5.17, models/llama.py)."""
    return (1, num_layers // 2 - 1, num_layers - 4)


StackedLayers = Annotated[int, Field(ge=1, description="Stacked layers, all of which run at every step.")]


class LayerOptions(Options):
    """For EAGLE heads."""

    num_layers: StackedLayers = 1


class StackedOptions(LayerOptions):
    """For PRISM's control."""

    num_layers: StackedLayers = 2


class StandaloneOptions(Options):
    """For standalone drafts."""

    num_layers: Annotated[int, Field(ge=1, description="Layers, as wide as the target's.")] = NUM_LAYERS


class MedusaOptions(Options):
    """For Medusa."""

    num_heads: Annotated[int, Field(ge=1, description="Heads: the steps that it can draft.")] = 4


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


class Eagle3Options(Options):
    """For EAGLE-3."""

    vocab_size: Annotated[
        int, Field(ge=1, description="The most frequent tokens of the corpus, which it can draft.")
    ] = 1024
    layers: Annotated[list[int] | None, Field(description="Layers of the target that it reads, from 0.")] = None


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


def _standalone(options: StandaloneOptions) -> Recipe:
    return Recipe(
        "standalone",
        f"A {options.num_layers}-layer LLaMA language model, distilled from the target's probabilities on the corpus.",
        lambda start: new_standalone(start.config, start.embedding_VD, start.seed, options.num_layers),
        partial(standalone_config, num_layers=options.num_layers),
        (Phase(1.0, StandaloneObjective(soft_weight=1.0, hard_weight=0.0), standalone_loss),),
        options=StandaloneOptions,
        adapt=_standalone,
    )


def _medusa(options: MedusaOptions) -> Recipe:
    return Recipe(
        "medusa",
        f"{options.num_heads} Medusa heads, trained on the target's probabilities; later heads weigh 0.8 of the one "
        "before.",
        lambda start: new_medusa(options.num_heads, start.head_VD, start.seed),
        lambda config: medusa_config(config, options.num_heads),
        (Phase(1.0, MedusaObjective(0.8), medusa_loss),),
        options=MedusaOptions,
        adapt=_medusa,
    )


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


def _eagle3(options: Eagle3Options) -> Recipe:
    def layers(num_layers: int) -> tuple[int, ...]:
        return eagle3_layers(num_layers) if options.layers is None else tuple(options.layers)

    def new(start: Start) -> nn.Module:
        frequent = start.frequent_tokens_W(min(options.vocab_size, start.config["vocab_size"]))
        num_layers = len(layers(start.config["num_hidden_layers"]))
        return new_eagle3(start.config, frequent, start.embedding_VD, start.head_VD, start.seed, num_layers)

    return Recipe(
        "eagle3",
        "A one-layer EAGLE-3 draft with training-time test over 5 passes, and a vocabulary of the corpus's "
        f"{options.vocab_size:,} most frequent tokens.",
        new,
        lambda config: eagle3_config(
            config, min(options.vocab_size, config["vocab_size"]), layers(config["num_hidden_layers"])
        ),
        (Phase(1.0, Eagle3Objective(5, 0.8), eagle3_loss),),
        layers,
        Eagle3Options,
        _eagle3,
    )


RECIPES = {
    "standalone": _standalone(StandaloneOptions()),
    "medusa": _medusa(MedusaOptions()),
    "eagle": _eagle(
        "An EAGLE head, trained on one step. Differs from EAGLE: cross-entropy weighs 1.0, not 0.1, and no noise is "
        "added to the features.",
        ONE_STEP,
        LayerOptions(),
    ),
    "hass": _eagle(
        "An EAGLE head, trained as HASS over 5 aligned passes, with the top-10 loss; about five times the training "
        "compute of `eagle` on the same tokens. Differs from HASS: cross-entropy weighs 1.0, not 0.1, and gradients "
        "flow through the passes.",
        ALIGNED,
        LayerOptions(),
    ),
    "stacked-2": _eagle(
        "PRISM's control: stacked layers that all run at every step, trained exactly as `hass`.",
        ALIGNED,
        StackedOptions(),
    ),
    "prism": _prism(PrismOptions()),
    "eagle3": _eagle3(Eagle3Options()),
}


def recipes() -> dict[str, Recipe]:
    """The project's own recipes and those of installed packages.

    Raises:
        TrainingError: an installed one cannot be loaded.
    """
    found = dict(RECIPES)
    for point in entry_points(group=ENTRY_POINTS):
        try:
            recipe = point.load()
        except (ImportError, AttributeError) as error:
            raise TrainingError(f"recipe {point.name} ({point.value}) cannot be loaded: {error}") from error
        if not isinstance(recipe, Recipe):
            raise TrainingError(f"recipe {point.name} ({point.value}) is a {type(recipe).__name__}, not a Recipe.")
        found[point.name] = recipe
    return found
