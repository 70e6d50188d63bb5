"""What SGLang can do with a target, read off its model files: importing them takes seconds, and torch."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from draftbench.drafts.api import DraftError, DraftSpec, Loadable
from draftbench.harness.errors import CheckpointError
from draftbench.harness.runtime.tested import TESTED_SGLANG

if TYPE_CHECKING:
    from draftbench.harness.suite import Arm, Target

SHARES, LAYERS = "get_embed_and_head", "set_eagle3_layers_to_capture"
BLOCK_LAYERS = "set_dflash_layers_to_capture"
"""Methods of a model class: it hands its embedding and head to drafts; it hands out the outputs of layers, to EAGLE-3
or to drafts that make a block at once."""
BLOCKS = ("DFLASH", "DSPARK")
"""SGLang's algorithms of these."""
BARE_LAYERS = ("Gemma3ForCausalLM", "Gemma3ForConditionalGeneration")
"""Models whose layers SGLang 0.5.17 hands out before their residual is added (models/gemma3_causal.py), which is
nothing that a draft was trained on."""
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
"""Fields of models whose feed-forward blocks are divided by experts."""
VOCABULARY_STEP = 64
"""SGLang's embeddings have a multiple of so many rows (layers/vocab_parallel_embedding.py, 0.5.17)."""
SIZES = ("num_hidden_layers", "hidden_size")
"""Fields of config.json that are asked of every target."""


def check_arm(arm: Arm, spec: DraftSpec, target: Mapping[str, Any], has_gpu: bool) -> None:
    """Find out before anything is started whether SGLang can run an arm on this host for a target.

    Args:
        target: its config.json.

    Raises:
        DraftError: it cannot.
    """
    if (reason := unserved(target, spec)) is not None:
        raise DraftError(f"arm {arm.name}: {reason}")
    if spec.needs_gpu is not None and not has_gpu:
        raise DraftError(f"arm {arm.name}: {spec.name} runs on a GPU alone: {spec.needs_gpu}.")
    if has_gpu and arm.options.get("acceptance_rule"):
        raise DraftError(
            f"arm {arm.name}: options.acceptance_rule was never run on a GPU: draws and rule would be outside of "
            "its CUDA graphs. Leave it out, or run on a CPU."
        )
    try:
        spec.capabilities.needs.layers_of(target["num_hidden_layers"])
    except DraftError as error:
        raise DraftError(f"arm {arm.name}, architecture {spec.name}: {error}") from error


def unshared(config: Mapping[str, Any], ranks: int) -> str | None:
    """Why a model cannot be spread over so many devices, and over how many it can; None if it can, or does not say how
    many heads it has.

    Source: SGLang 0.5.17, models/llama.py and layers/: every device takes as many query heads, as much of a
    feed-forward block and as many rows of the vocabulary, filled up to a multiple of 64; keys and values are divided,
    or each of them is held by as many devices. Without a GPU it fills up what does not fit; that is not relied on.
    """
    fields = config.get("text_config") or config
    heads = fields.get("num_attention_heads")
    if heads is None or not (misfits := _misfits(fields, ranks)):
        return None
    fitting = [count for count in range(1, heads + 1) if not _misfits(fields, count)]
    return (
        f"{' and '.join(misfits)} cannot be shared by target.tensor_parallel: {ranks} devices; "
        f"allowed: {', '.join(map(str, fitting))}."
    )


def check_shared(config: Mapping[str, Any], target: Target, what: str) -> None:
    """Refuse a model that the devices of a suite's target cannot share.

    Raises:
        CheckpointError: with the suite's line, and how many devices could.
    """
    if (reason := unshared(config, target.tensor_parallel)) is not None:
        raise CheckpointError(f"{target.place}: {what}: {reason}")


def _misfits(fields: Mapping[str, Any], ranks: int) -> list[str]:
    """What of a model so many devices cannot divide among them."""
    heads = fields["num_attention_heads"]
    shared = fields.get("num_key_value_heads") or heads
    found = []
    if heads % ranks or max(shared, ranks) % min(shared, ranks):
        found.append(f"{heads} attention heads and {shared} for keys and values")
    inner = 0 if any(name in fields for name in EXPERTS) else fields.get("intermediate_size") or 0
    if inner % ranks:
        found.append(f"an intermediate_size of {inner}")
    for name in ("vocab_size", "draft_vocab_size"):
        if -(-(fields.get(name) or 0) // VOCABULARY_STEP) * VOCABULARY_STEP % ranks:
            found.append(f"a {name} of {fields[name]}")
    return found


def unserved(config: Mapping[str, Any], spec: DraftSpec, loadable: Loadable | None = None) -> str | None:
    """Why SGLang cannot run a draft of this kind for a target; None if it can.

    Args:
        config: the target's config.json.
        loadable: what the draft is, where it has been read: it may read layers though its kind need not.
    """
    absent = next((key for key in SIZES if key not in config), None)
    if absent is not None:
        return (
            f"the target's config.json has no {absent}: its sizes have other names than LLaMA's (model_type "
            f"{config.get('model_type')}), which are not known here; take another target."
        )
    name = next(iter(config.get("architectures") or ()), None)
    if name is None or not _files():
        return None
    if config.get("model_type") == "gemma2" and "hidden_act" not in config:
        return (
            f"the target's config.json has no hidden_act, which SGLang {TESTED_SGLANG} asks of Gemma 2; add "
            '"hidden_act": "gelu_pytorch_tanh".'
        )
    if not spec.drafts:  # SGLang may run a model that it has not through transformers
        return None
    methods = _methods(str(name))
    if methods is None:
        return (
            f"SGLang {TESTED_SGLANG} has no model {name} of its own, so that no draft can be run; take another target."
        )
    if spec.sglang_algorithm in ("EAGLE", "EAGLE3") and SHARES not in methods:
        return (
            f"SGLang {TESTED_SGLANG} does not share {name}'s embedding and head with drafts, which {spec.name} needs."
        )
    reads_layers = spec.capabilities.needs.hidden == "layers" or spec.algorithm_of(loadable) == "EAGLE3"
    asked = BLOCK_LAYERS if spec.sglang_algorithm in BLOCKS else LAYERS
    if reads_layers and (asked not in methods or name in BARE_LAYERS):
        bare = " but before their residual is added" if name in BARE_LAYERS else ""
        return (
            f"SGLang {TESTED_SGLANG} does not hand out the outputs of {name}'s layers{bare}, which {spec.name} reads."
        )
    return None


@cache
def _methods(name: str) -> frozenset[str] | None:
    """Methods of a model class that SGLang can load, inherited ones too; None where it has no such class."""
    if not any(re.search(rf"\b{name}\b", found[1]) for text in _files() if (found := _ENTRIES.search(text))):
        return None
    return frozenset(_inherited(name))


_ENTRIES = re.compile(r"^EntryClass\s*=\s*(\[.*?\]|\(.*?\)|\w+)", re.MULTILINE | re.DOTALL)


def _inherited(name: str) -> Iterator[str]:
    for text in _files():
        if re.search(rf"^class {name}\b", text, re.MULTILINE):
            for node in ast.parse(text).body:
                if isinstance(node, ast.ClassDef) and node.name == name:
                    yield from (part.name for part in node.body if isinstance(part, ast.FunctionDef))
                    for base in node.bases:
                        if isinstance(base, ast.Name) and base.id != name:
                            yield from _inherited(base.id)


@cache
def _files() -> tuple[str, ...]:
    """The texts of SGLang's model files; none where it is not installed."""
    spec = find_spec("sglang")
    if spec is None or spec.origin is None:
        return ()
    return tuple(path.read_text() for path in sorted((Path(spec.origin).parent / "srt" / "models").glob("*.py")))
