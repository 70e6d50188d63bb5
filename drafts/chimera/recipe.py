"""How Chimera is trained: all of its steps, one after the other."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from draftbench.drafts.api import Options
from draftbench.drafts.chimera.loss import ChimeraObjective, chimera_loss
from draftbench.drafts.chimera.model import chimera_config, new_chimera
from draftbench.drafts.training.recipe import Phase, Recipe


class ChimeraOptions(Options):
    """For Chimera."""

    num_heads: Annotated[int, Field(ge=1, description="Heads: the steps that it can draft.")] = 4
    """Source: kafkayu/Chimera, README.md, training."""


def _chimera(options: ChimeraOptions) -> Recipe:
    count = options.num_heads
    return Recipe(
        "chimera",
        f"Chimera with {count} heads, trained over {count} aligned passes. Differs from Chimera: soft targets, later "
        "steps read the corpus's tokens and not the draft's own, and heads are residual blocks before the target's.",
        lambda start: new_chimera(start.config, start.embedding_VD, start.head_VD, start.seed, count),
        lambda config: chimera_config(config, count),
        (Phase(1.0, ChimeraObjective(1.0, 1.0), chimera_loss),),
        options=ChimeraOptions,
        adapt=_chimera,
        most_passes=count,
    )


CHIMERA = _chimera(ChimeraOptions())
