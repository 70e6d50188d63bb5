"""How FLASH's head is trained: one pass, all of its tokens."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from draftbench.drafts.api import Options
from draftbench.drafts.flash_text.loss import FlashTextObjective, flash_text_loss
from draftbench.drafts.flash_text.model import flash_text_config, new_flash_text
from draftbench.drafts.training.recipe import Phase, Recipe


class FlashTextOptions(Options):
    """For FLASH's head."""

    tokens_per_pass: Annotated[int, Field(ge=1, description="Tokens that a pass drafts at once.")] = 5
    """Source: ZihuaEvan/FlashSD at 598e999, flash/train/nar_config.json."""


def _flash_text(options: FlashTextOptions) -> Recipe:
    count = options.tokens_per_pass
    return Recipe(
        "flash_text",
        f"FLASH's semi-autoregressive head, {count} tokens a pass, trained on one pass. Differs from FLASH: "
        "cross-entropy weighs 1.0, not 0.1, and no noise is added to the features.",
        lambda start: new_flash_text(start.config, start.embedding_VD, start.head_VD, start.seed, count),
        lambda config: flash_text_config(config, count),
        (Phase(1.0, FlashTextObjective(1.0, 1.0), flash_text_loss),),
        options=FlashTextOptions,
        adapt=_flash_text,
    )


FLASH_TEXT = _flash_text(FlashTextOptions())
