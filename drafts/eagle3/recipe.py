"""How EAGLE-3 is trained: training-time test, on the corpus's most frequent tokens."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import nn

from draftbench.drafts.api import Options
from draftbench.drafts.eagle3.loss import Eagle3Objective, eagle3_loss
from draftbench.drafts.eagle3.model import eagle3_config, new_eagle3
from draftbench.drafts.layout import default_layers
from draftbench.drafts.training.recipe import Phase, Recipe, Start


class Eagle3RecipeOptions(Options):
    """For EAGLE-3."""

    vocab_size: Annotated[
        int, Field(ge=1, description="The most frequent tokens of the corpus, which it can draft.")
    ] = 1024
    num_layers: Annotated[
        int, Field(ge=1, description="Stacked layers; those after the first read the hidden state alone.")
    ] = 1
    layers: Annotated[
        list[int] | None,
        Field(min_length=2, description="Layers of the target that it reads, from 0; SGLang fuses two or more."),
    ] = None


def _eagle3(options: Eagle3RecipeOptions) -> Recipe:
    def layers(num_layers: int) -> tuple[int, ...]:
        return default_layers(num_layers) if options.layers is None else tuple(options.layers)

    def new(start: Start) -> nn.Module:
        frequent = start.frequent_tokens_W(min(options.vocab_size, start.config["vocab_size"]))
        num_read = len(layers(start.config["num_hidden_layers"]))
        given = start.config, frequent, start.embedding_VD, start.head_VD, start.seed
        return new_eagle3(*given, num_read, options.num_layers)

    return Recipe(
        "eagle3",
        f"{_counted(options.num_layers)} EAGLE-3 draft with training-time test over 5 passes, and a vocabulary of the "
        f"corpus's {options.vocab_size:,} most frequent tokens.",
        new,
        lambda config: eagle3_config(
            config,
            min(options.vocab_size, config["vocab_size"]),
            layers(config["num_hidden_layers"]),
            options.num_layers,
        ),
        (Phase(1.0, Eagle3Objective(5, 0.8), eagle3_loss),),
        layers,
        Eagle3RecipeOptions,
        _eagle3,
    )


def _counted(num_layers: int) -> str:
    return "A one-layer" if num_layers == 1 else f"A {num_layers}-layer"


EAGLE3 = _eagle3(Eagle3RecipeOptions())
