"""How DFlash is trained: blocks from anchors within the target's answers."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from torch import nn

from draftbench.drafts.api import Options
from draftbench.drafts.dflash.loss import DFlashObjective, dflash_loss
from draftbench.drafts.dflash.model import made
from draftbench.drafts.dflash.spec import ARCHITECTURE, LAYERS
from draftbench.drafts.layout import default_layers, draft_fields
from draftbench.drafts.training.layer import reset
from draftbench.drafts.training.recipe import Phase, Recipe, Start


class DFlashOptions(Options):
    """For DFlash."""

    num_layers: Annotated[int, Field(ge=1, description="The draft's own layers.")] = 2
    block_size: Annotated[int, Field(ge=2, description="Tokens of a block, the last sure one included.")] = 6
    mask_token: Annotated[
        int | None,
        Field(ge=0, description="Token that stands for one to be drafted; the vocabulary's last unless told."),
    ] = None
    layers: Annotated[
        list[int] | None, Field(min_length=1, description="Layers of the target that it reads, from 0.")
    ] = None


def _dflash(options: DFlashOptions) -> Recipe:
    def layers(num_layers: int) -> tuple[int, ...]:
        return default_layers(num_layers) if options.layers is None else tuple(options.layers)

    def config(target: dict[str, Any]) -> dict[str, Any]:
        fields, read = draft_fields(target), list(layers(target["num_hidden_layers"]))
        mask = fields["vocab_size"] - 1 if options.mask_token is None else options.mask_token
        return {
            **fields,
            "architectures": [ARCHITECTURE],
            "model_type": "qwen3",
            "num_hidden_layers": options.num_layers,
            "num_target_layers": target["num_hidden_layers"],
            "layer_types": ["full_attention"] * options.num_layers,
            "block_size": options.block_size,
            "dflash_config": {"block_size": options.block_size, "mask_token_id": mask, LAYERS: read},
            LAYERS: read,
        }

    def new(start: Start) -> nn.Module:
        draft = made(config(start.config))
        draft.adopt(start.embedding_VD, start.head_VD)
        reset(draft, start.seed)
        return draft

    return Recipe(
        "dflash",
        f"A DFlash draft of {options.num_layers} layers for blocks of {options.block_size} tokens. Unlike DFlash, "
        "it learns the target's distribution, not only its token.",
        new,
        config,
        (Phase(1.0, DFlashObjective(128, 4.0), dflash_loss),),
        layers,
        DFlashOptions,
        _dflash,
    )


DFLASH = _dflash(DFlashOptions())
