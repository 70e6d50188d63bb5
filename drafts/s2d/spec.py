"""A language model with nested exits: a step's token is that of the first exit which is sure of it (S2D)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from draftbench.drafts.api import Capabilities, Checkpoint, DraftSpec, Loadable, Options, Tree
from draftbench.drafts.layout import ROTARY, check_sizes, llama_model, whole_context
from draftbench.harness.errors import CheckpointError

ARCHITECTURE = "LlamaForCausalLMNested"
EXITS, THRESHOLDS = "exits", "exit_thresholds"
Threshold = Annotated[float, Field(ge=0, le=1)]


class NestedOptions(Options):
    """`exit` and `thresholds` exclude each other."""

    exit: int | None = Field(None, description="Run the nested model up to this exit alone, counted from 1.", ge=1)
    thresholds: list[Threshold] | None = Field(
        None, description="Probability of its likeliest token from which an exit is sure; one for each but the last."
    )

    def problem(self, tree: Tree) -> tuple[str, str] | None:
        """One exit has no threshold."""
        if self.exit is not None and self.thresholds is not None:
            return "thresholds", "say when to leave at an exit, but exit names the only one; give one of the two."
        return None


def read(found: Checkpoint, options: NestedOptions, tree: Tree) -> Loadable:
    """A LLaMA language model whose config.json has `exits`, layers after which it can stop, the last of them all.

    With `exit` the layers behind it are not loaded: several targets are served from one file, each with the size that
    pays for it.
    """
    check_sizes(found, "vocab_size")
    path = found.folder / "config.json"
    layers, exits = found.config.get("num_hidden_layers"), found.config.get(EXITS)
    if not isinstance(exits, list) or not exits or exits != sorted({*exits} & {*range(1, int(layers or 0) + 1)}):
        raise CheckpointError(f"{path}: {EXITS} is {exits!r}; it has to list layers from 1 to {layers}, ascending.")
    if exits[-1] != layers:
        raise CheckpointError(f"{path}: {EXITS} is {exits}, but the last exit has to be the last layer, {layers}.")
    if not found.config.get("tie_word_embeddings"):
        raise CheckpointError(f"{path}: tie_word_embeddings is not set; all exits share the embedding as their head.")
    thresholds = found.config.get(THRESHOLDS) if options.thresholds is None else options.thresholds
    config, trained = whole_context(found, {**found.config, "architectures": [ARCHITECTURE]})
    dropped: tuple[str, ...] = ()
    if options.exit is not None:
        if options.exit > len(exits):
            raise CheckpointError(f"{found.folder}: options.exit is {options.exit}, but it has {len(exits)} exits.")
        kept = exits[options.exit - 1]
        exits, thresholds = [kept], []
        config["num_hidden_layers"] = kept
        dropped = tuple(name for name in found.shapes if (at := _layer(name)) is not None and at >= kept)
    _check_thresholds(found, exits, thresholds)
    config |= {EXITS: exits, THRESHOLDS: list(thresholds or ())}
    facts = {EXITS: exits, THRESHOLDS: config[THRESHOLDS]}
    return Loadable(config, llama_model(config), ("lm_head.weight", *ROTARY, *dropped), facts, trained_tokens=trained)


def _layer(name: str) -> int | None:
    match = re.match(r"model\.layers\.(\d+)\.", name)
    return int(match[1]) if match else None


def _check_thresholds(found: Checkpoint, exits: Sequence[int], thresholds: object) -> None:
    good = isinstance(thresholds, list) and len(thresholds) == len(exits) - 1
    if not good or not all(isinstance(value, (int, float)) and 0 <= value <= 1 for value in thresholds):
        raise CheckpointError(
            f"{found.folder}: {THRESHOLDS} (options.thresholds) is {thresholds!r}; it needs {len(exits) - 1} numbers "
            f"from 0 to 1, one for each of the exits {list(exits)} but the last."
        )


SPEC = DraftSpec(
    name="s2d",
    title="a small language model with nested exits, the first that is sure of its token drafts it (S2D)",
    origin="Kavehzadeh et al. 2024, S2D, arXiv 2407.01955",
    sglang_algorithm="STANDALONE",
    draft_model_class=ARCHITECTURE,
    needs_checkpoint=True,
    capabilities=Capabilities(draft_kv=True, children="beams", trainable=True),
    options=NestedOptions,
    read=read,
    engine_module="draftbench.drafts.s2d.engine",
    model="draftbench.drafts.s2d.model:made",
    recipes={"s2d": "draftbench.drafts.s2d.recipe:S2D"},
)
