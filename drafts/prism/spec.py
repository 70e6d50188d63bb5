"""Modules that take turns over the draft steps, at the cost of one (PRISM)."""

import re
from dataclasses import replace

from pydantic import Field

from draftbench.drafts.adaptive import adaptive_arguments
from draftbench.drafts.api import Capabilities, Checkpoint, DraftSpec, Loadable, Needs, Tree
from draftbench.drafts.layout import (
    FUSION,
    LAST,
    ROTARY,
    attention_biases,
    check_sizes,
    engine_config,
    fused_layers,
    fusion,
    llama_layer,
    missing_zeros,
    reads_layers,
    renamed,
    whole_context,
)
from draftbench.drafts.sampled import EagleOptions
from draftbench.harness.errors import CheckpointError

ARCHITECTURE = "LlamaForCausalLMPrism"
STEP_TO_MODULE = "step_to_module"
AUTHORS_KEYS = ("eagle_config", "step_mapping", "num_step_models", "num_steps", "use_adapter")
EXTRA = re.compile(r"adapter|moe(?![a-z])|expert", re.IGNORECASE)
"""In keys and tensors of parts that the authors' modules may have and ours do not."""
NAMES = (
    (re.compile(r"(?:midlayer\.(\d+)|stepModels\.(\d+)\.0)\.(.+)"), "layer"),
    (re.compile(r"(?:fc(\d+)|stepFCs\.(\d+))\.(.+)"), "fc"),
)
"""Names in the authors' files: the module's number in one of two places, then the rest; and the module's part."""


class PrismOptions(EagleOptions):
    """`step_to_module` takes the place of the checkpoint's."""

    step_to_module: list[int] | None = Field(None, description="Module, from 0, of each draft step.", min_length=1)

    def problem(self, tree: Tree) -> tuple[str, str] | None:
        """The map needs an entry for every step."""
        short = None if self.step_to_module is None else _too_short(self.step_to_module, tree)
        return short or super().problem(tree)


def _too_short(steps: list[int], tree: Tree) -> tuple[str, str] | None:
    if len(steps) >= tree.num_steps:
        return None
    return STEP_TO_MODULE, f"has {len(steps)} entries, but num_steps is {tree.num_steps}; name a module for every step."


def _engine_name(name: str) -> str:
    """The name in our layout of a tensor in one of the authors': theirs number modules, and fusion matrices apart."""
    for pattern, part in NAMES:
        if match := pattern.fullmatch(name):
            return f"prism_modules.{match[1] or match[2]}.{part}.{match[3]}"
    return name


def _refuse_features(found: Checkpoint) -> None:
    """What the authors' code can do and the module here cannot: adapters before the head, experts, several layers."""
    for key, value in found.config.items():
        if value and EXTRA.search(key):
            raise CheckpointError(
                f"{found.folder / 'config.json'}: {key} is {value!r}: modules with such parts cannot be run here; take "
                "a draft without."
            )
    for name in found.shapes:
        if EXTRA.search(name):
            raise CheckpointError(f"{found.folder} has {name}: a module with such parts cannot be run here.")
        if re.match(r"stepModels\.\d+\.[1-9]", name):
            raise CheckpointError(f"{found.folder} has {name}: a module of several layers cannot be run here.")


def _map_of(found: Checkpoint, num_modules: int, tree: Tree) -> object:
    """The file's map of steps. The authors name the trained steps, or none; later ones keep the last module."""
    mapping = found.config.get("step_mapping")
    if isinstance(mapping, dict):
        steps = [mapping.get(str(step)) for step in range(len(mapping))]
        return mapping if None in steps else steps + steps[-1:] * (tree.num_steps - len(steps))
    if any(name.startswith("midlayer.") for name in found.shapes):
        return [min(step, num_modules - 1) for step in range(max(tree.num_steps, num_modules))]
    return found.config.get(STEP_TO_MODULE)


def read(found: Checkpoint, options: PrismOptions, tree: Tree) -> Loadable:
    """Our layout, `prism_modules.M.fc` and `prism_modules.M.layer`, or one of the authors'; M is counted in the file.

    With `fusion_layer` the first step reads several layers of the target: those that `eagle_config` names as for
    EAGLE-3, else EAGLE-3's, as the authors do.
    Source: Akemiiii/prism-mlsys-ae: `midlayer.M` with `fcM`, or `stepModels.M` with `stepFCs.M`.
    """
    if isinstance(inner := found.config.get("eagle_config"), dict) and "hidden_size" in inner:
        found = replace(found, config={**found.config, **inner})
    check_sizes(found, "hidden_size", "vocab_size")
    _refuse_features(found)
    filed = found
    found, names = renamed(found, _engine_name)
    matches = (re.match(r"prism_modules\.(\d+)\.", name) for name in found.shapes)
    num_modules = max((int(match[1]) for match in matches if match), default=-1) + 1
    if not num_modules:
        raise CheckpointError(f"{found.folder}: no tensor prism_modules.0.fc.weight; this is no PRISM checkpoint.")
    steps = options.step_to_module or _map_of(filed, num_modules, tree)
    where, key = f"{found.folder / 'config.json'}: ", STEP_TO_MODULE
    if options.step_to_module is not None:
        where = f"{found.folder}: options."
    elif "step_mapping" in found.config:
        key = "step_mapping"
    if not isinstance(steps, list) or not all(type(module) is int for module in steps):
        raise CheckpointError(f"{where}{key} is {steps!r}; it has to name each step's module, without a gap.")
    if short := _too_short(steps, tree):
        raise CheckpointError(f"{where}{key} {short[1]}")
    if set(steps) != set(range(num_modules)):
        raise CheckpointError(
            f"{where}{key} is {steps}, but the file's modules are 0 to {num_modules - 1}; the map has to "
            "use each of them and no other."
        )
    config, trained = whole_context(found, engine_config(found.config, ARCHITECTURE))
    config = {key: value for key, value in config.items() if key not in AUTHORS_KEYS} | {STEP_TO_MODULE: steps}
    config["attention_bias"] = bool(config.get("attention_bias")) or attention_biases(found)
    config["num_hidden_layers"] = 1
    hidden, layers = config["hidden_size"], fused_layers(found)
    config |= reads_layers(layers)
    expected: dict[str, tuple[int, ...]] = fusion(hidden, len(layers))
    for module in range(num_modules):
        prefix = f"prism_modules.{module}"
        expected |= {f"{prefix}.fc.weight": (hidden, 2 * hidden), f"{prefix}.fc.bias": (hidden,)}
        expected |= llama_layer(f"{prefix}.layer", config, input_norm=False)
    endings = (".fc.bias", f"{FUSION}.bias", *(("o_proj.bias",) if attention_biases(found) else ()))
    facts = {"num_modules": num_modules, STEP_TO_MODULE: steps, "reads": layers or LAST}
    # The authors' torch files repeat the first module under EAGLE's names.
    aliases = tuple(name for name in names if name.startswith(("stepModels.0.0.", "stepFCs.0.")))
    unused = ("embed_tokens.weight", "lm_head.weight", *ROTARY, *map(_alias, aliases))
    zeros, algorithm = missing_zeros(found, expected, *endings), "EAGLE3" if layers else None
    return Loadable(config, expected, unused, facts, names, zeros, trained, sglang_algorithm=algorithm)


def _alias(name: str) -> str:
    return name.replace("stepModels.0.0.", "layers.0.").replace("stepFCs.0.", "fc.")


SPEC = DraftSpec(
    name="prism",
    title="modules that take turns over the draft steps; each step costs what one module costs",
    origin="PRISM, arXiv 2602.01762, MLSys 2026",
    sglang_algorithm="EAGLE",
    draft_model_class=ARCHITECTURE,
    needs_checkpoint=True,
    capabilities=Capabilities(Needs("last"), draft_kv=True, children="beams", trainable=True),
    options=PrismOptions,
    read=read,
    engine_arguments=adaptive_arguments,
    engine_module="draftbench.drafts.prism.engine",
    model="draftbench.drafts.prism.model:made",
    recipes={
        "prism": "draftbench.drafts.prism.recipe:PRISM",
        "prism-artifact": "draftbench.drafts.prism.recipe:ARTIFACT",
    },
)
