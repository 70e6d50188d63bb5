"""A block of masked tokens between the target's layers and its head, drafted in one pass (DFlash)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from draftbench.drafts.api import Capabilities, Checkpoint, DraftSpec, Loadable, Needs, Options, Shape, Tree
from draftbench.drafts.layout import (
    ROTARY,
    check_layers,
    check_sizes,
    head_size,
    llama_layer,
    renamed,
    text_fields,
    whole_context,
    without_prefix,
)
from draftbench.harness.errors import CheckpointError

ARCHITECTURE = "DFlashDraftModel"
LAYERS = "target_layer_ids"
NOT_OURS = ("auto_map", "dflash_config", "quantization_config")
"""Fields that name code beside the checkpoint, are read here, or concern weights that are refused."""


def block_config(found: Checkpoint, tree: Tree) -> tuple[dict[str, Any], int | None]:
    """The engine's configuration of a draft that makes a block at once, and the positions that it was made for.

    `block_size`, `mask_token_id` and `target_layer_ids` stand in config.json or in its `dflash_config`; the engine gets
    them in both, the block as long as the tree.

    Raises:
        CheckpointError: one is missing or does not fit the target or the tree.
    """
    check_sizes(found, "hidden_size", "vocab_size")
    path, outer = found.folder / "config.json", text_fields(found.config)
    inner = dict(found.config.get("dflash_config") or {})
    if found.config.get("quantization_config"):
        raise CheckpointError(f"{path}: quantization_config is set; take a draft whose weights are not quantized.")
    layers = inner.get(LAYERS, outer.get(LAYERS))
    target_layers = text_fields(found.target)["num_hidden_layers"]
    trained_layers = inner.get("num_target_layers", outer.get("num_target_layers"))
    if trained_layers not in (None, target_layers):
        raise CheckpointError(
            f"{path}: num_target_layers is {trained_layers}, but the target has {target_layers} layers; a draft "
            "must be made for its target."
        )
    if layers is None:
        layers = spread_layers(target_layers, outer["num_hidden_layers"])
    check_layers(found, LAYERS, layers)
    mask = inner.get("mask_token_id", outer.get("mask_token_id"))
    if type(mask) is not int or not 0 <= mask < outer["vocab_size"]:
        raise CheckpointError(
            f"{path}: mask_token_id is {mask!r}; it has to be a token of the target's vocabulary, from 0 to "
            f"{outer['vocab_size'] - 1}, under dflash_config. Engines here load no tokenizer to look it up in."
        )
    if tree.topk != 1:
        raise CheckpointError(f"{found.folder}: a block is a chain, but topk is {tree.topk}; set it to 1.")
    config, trained = whole_context(found, outer)
    for name in NOT_OURS:
        config.pop(name, None)
    inner |= {LAYERS: list(layers), "mask_token_id": mask, "num_target_layers": target_layers}
    config |= {
        "model_type": "qwen3",
        "head_dim": head_size(outer),
        "num_key_value_heads": outer.get("num_key_value_heads") or outer["num_attention_heads"],
        "dflash_config": inner,
        LAYERS: list(layers),
    }
    return config, trained


def spread_layers(num_target_layers: int, num_layers: int) -> list[int]:
    """The target's layers that are read where a configuration names none: spread evenly, from the second to the third
    last. Source: SGLang 0.5.17, srt/speculative/dflash_utils.py."""
    if num_layers == 1:
        return [num_target_layers // 2]
    first, last = 1, num_target_layers - 3
    return [round(first + index * (last - first) / (num_layers - 1)) for index in range(num_layers)]


def block_layers(config: Mapping[str, Any]) -> dict[str, Shape]:
    """Shapes of a block draft's own tensors: layers as Qwen 3 has them, and what fuses the target's."""
    hidden, head = config["hidden_size"], config["head_dim"]
    expected: dict[str, Shape] = {
        "fc.weight": (hidden, len(config[LAYERS]) * hidden),
        "hidden_norm.weight": (hidden,),
        "norm.weight": (hidden,),
    }
    for index in range(config["num_hidden_layers"]):
        prefix = f"layers.{index}"
        expected |= llama_layer(prefix, config, input_norm=True)
        expected |= {f"{prefix}.self_attn.{name}_norm.weight": (head,) for name in "qk"}
    return expected


def read(found: Checkpoint, options: Options, tree: Tree) -> Loadable:
    """Z-lab's layout: `layers.N`, `fc`, `hidden_norm`, `norm`; embedding and head are the target's."""
    found, names = renamed(found, lambda name: without_prefix(name, "model."))
    config, trained = block_config(found, tree)
    inner = config["dflash_config"]
    size = inner.get("block_size", config.get("block_size"))
    if type(size) is not int or tree.num_draft_tokens > size:
        raise CheckpointError(
            f"{found.folder / 'config.json'}: block_size is {size!r}, but num_draft_tokens is {tree.num_draft_tokens}; "
            "a block holds the last sure token and the drafts, as many as it was trained with or fewer."
        )
    inner["block_size"] = config["block_size"] = tree.num_draft_tokens
    config["architectures"] = [ARCHITECTURE]
    unused = ("embed_tokens.weight", "lm_head.weight", *ROTARY)
    return Loadable(config, block_layers(config), unused, renamed=names, trained_tokens=trained)


def block_arguments(tree: Tree, options: Options) -> dict[str, int | str]:
    """SGLang counts a block as one step of one branch, and its tokens with the last sure one."""
    return {
        "speculative_num_steps": 1,
        "speculative_eagle_topk": 1,
        "speculative_num_draft_tokens": tree.num_draft_tokens,
    }


SPEC = DraftSpec(
    name="dflash",
    title="a block of masked tokens in one pass over the target's layers (DFlash); SGLang's own",
    origin="Chen et al. 2026, DFlash, arXiv 2602.06036",
    sglang_algorithm="DFLASH",
    draft_model_class=ARCHITECTURE,
    needs_checkpoint=True,
    capabilities=Capabilities(Needs("layers"), draft_kv=True, children="joint", trainable=True),
    read=read,
    engine_arguments=block_arguments,
    engine_module="draftbench.drafts.dflash.engine",
    model="draftbench.drafts.dflash.model:made",
    recipes={"dflash": "draftbench.drafts.dflash.recipe:DFLASH"},
)
