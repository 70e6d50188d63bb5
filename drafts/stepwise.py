"""Drafts with keys and values in the engine's pool, written once in torch: the module that is trained is the one that
drafts. EAGLE-like: it reads the target's last hidden state, or several layers' outputs, at step 1 and its own
afterwards; embedding and output head are the target's.

The module that `factory(config)` makes has

    embed_tokens                    nn.Embedding, frozen; the engine puts the target's in
    forward(tokens [B, T], hidden [B, T, D], positions [B, T], attend, step) -> hidden [B, T, D]

or, where later steps need more than an estimate of the hidden state, a state of its own [B, T, W], of which

    scored(state [..., W], step)    gives what the target's head scores [..., D]
    reads_tokens                    is how many of its last tokens step 1 reads: tokens are then [B, T, n] there

and, to be trained, what else `draftbench.drafts.training.draft.Draft` lists: `FeatureDraft` there has all of it but
`forward`. It calls `attend(index, q, k, v)` with queries, keys and values [B, H, T, C], rotated if it wants them
rotated, for attention number `index` from 0; the result is [B, H, T, C]. With queries of no entries it only keeps
keys and values. `step` counts draft steps from 1 and is plain
Python: it must not depend on data. `draftbench.drafts.training.layer` has LLaMA's blocks in this form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from draftbench.drafts.api import Capabilities, Checkpoint, DraftSpec, Loadable, Needs, Options, Shape, Tree
from draftbench.drafts.installed import named
from draftbench.drafts.layout import PER_LAYER, check_layers, check_sizes, head_size
from draftbench.harness.errors import CheckpointError

ARCHITECTURE = "StepwiseDraftModel"
LAYERS = "target_layers"


def stepwise_spec(
    name: str,
    title: str,
    origin: str,
    factory: str,
    expected: Callable[[Mapping[str, Any]], Mapping[str, Shape]],
    num_attentions: int = 1,
    options: type[Options] = Options,
    reads_layers: bool = False,
    most_steps: Callable[[Mapping[str, Any]], int] | None = None,
    facts: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda config: {},
    recipes: Mapping[str, str] = MappingProxyType({}),
) -> DraftSpec:
    """The spec of such a draft.

    Args:
        factory: "package.module:name"; called with the checkpoint's config.json, the arm's options put over it.
        expected: shapes of the tensors that a checkpoint must hold, by name, from its config.json; `embed_tokens` need
            not be there.
        num_attentions: how many attentions the module has, each with a KV slot of its own.
        reads_layers: at step 1 `hidden` is [B, T, L * D], the outputs of those L layers of the target, side by side,
            that the checkpoint's config.json names under `target_layers`.
        most_steps: steps that a checkpoint can draft, from its config.json; any number unless given.
        facts: what the engine's receipt has to say of a checkpoint besides its factory, from its config.json.
        recipes: ways to train it, as in `DraftSpec`.
    """

    def read(found: Checkpoint, chosen: Options, tree: Tree) -> Loadable:
        check_sizes(found, "hidden_size", "vocab_size")
        own = {**found.config, **chosen.model_dump(exclude_none=True)}
        if most_steps is not None and tree.num_steps > most_steps(own):
            raise CheckpointError(
                f"{found.folder}: it can draft {most_steps(own)} steps, but num_steps is {tree.num_steps}; set it to "
                f"{most_steps(own)} or less."
            )
        own_facts = {"factory": factory, **facts(own)}
        config = {
            **{key: value for key, value in found.config.items() if key not in PER_LAYER},
            "head_dim": head_size(found.config),
            "architectures": [ARCHITECTURE],
            "stepwise_factory": factory,
            "stepwise_config": own,
            "stepwise_facts": own_facts,
            "num_hidden_layers": num_attentions,
            # Keys and values come as the module makes them: one per query head.
            "num_key_value_heads": found.config["num_attention_heads"],
            "tie_word_embeddings": False,
        }
        if reads_layers:
            layers = found.config.get(LAYERS)
            check_layers(found, LAYERS, layers)
            config["eagle_config"] = {"eagle_aux_hidden_state_layer_ids": layers}
        return Loadable(config, expected(own), ("embed_tokens.weight",), own_facts)

    return DraftSpec(
        name=name,
        title=title,
        origin=origin,
        sglang_algorithm="EAGLE3" if reads_layers else "EAGLE",
        draft_model_class=ARCHITECTURE,
        needs_checkpoint=True,
        capabilities=Capabilities(
            Needs("layers" if reads_layers else "last"), draft_kv=True, children="beams", trainable=True
        ),
        options=options,
        read=read,
        engine_module="draftbench.harness.runtime.drafts.stepwise_model",
        model="draftbench.drafts.stepwise:made",
        recipes=recipes,
    )


def made(config: Mapping[str, Any]) -> Any:
    """The module that a stepwise draft's engine configuration names."""
    return named(config["stepwise_factory"])(config["stepwise_config"])
