"""What the harness needs to know of a draft architecture, and how architectures are found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from draftbench.drafts.installed import loaded, under
from draftbench.harness.errors import HarnessError

ENTRY_POINTS = "draftbench.drafts"
"""Entry-point group of architectures: name = "package.module:SPEC"."""

Shape = tuple[int, ...]


class DraftError(HarnessError):
    """An architecture that is installed but cannot be used."""


@dataclass(frozen=True)
class Tree:
    """The tree of a round, alike for every architecture.

    Attributes:
        num_steps: its depth, the root not counted.
        topk: its width: children that a node may have.
        num_draft_tokens: nodes that are verified, the root included.
    """

    num_steps: int
    topk: int
    num_draft_tokens: int


@dataclass(frozen=True)
class Needs:
    """What the target's passes have to leave behind for a draft.

    Attributes:
        hidden: which hidden states of the target it reads: none, the last ones (after the final norm), or the outputs
            of several layers, side by side.
        layers: these layers, from 0, negative from the end; empty where a checkpoint names them. SGLang cannot hand out
            what the last layer leaves before the norm.
        node_topk: so many likeliest next tokens of every verified node, rejected ones too; 0 for none.
    """

    hidden: Literal["none", "last", "layers"] = "none"
    layers: tuple[int, ...] = ()
    node_topk: int = 0

    def layers_of(self, num_layers: int) -> tuple[int, ...]:
        """The layers of a target with so many, counted from 0.

        Raises:
            DraftError: it has no such layer, or it is the last.
        """
        found = tuple(layer + num_layers if layer < 0 else layer for layer in self.layers)
        if not all(0 <= layer < num_layers - 1 for layer in found):
            raise DraftError(
                f"it reads the target's layers {list(self.layers)}, but the target has {num_layers}: 0 to "
                f"{num_layers - 2}, or {-num_layers} to -2, can be read."
            )
        return found


Children = Literal["none", "beams", "joint", "own"]


@dataclass(frozen=True)
class Capabilities:
    """What a draft needs and how it works. The engine is set up accordingly, and `bench.py list` shows it.

    Attributes:
        draft_kv: it has keys and values of its own in the engine's pool.
        online_state: it learns while it decodes; its options have `state`.
        children: how a tree's nodes are chosen: "beams", at every step the likeliest continuations of all beams
            (EAGLE-2); "joint", the paths of highest joint probability of heads that do not see each other; "own", as it
            likes.
        trainable: it has weights of its own and a recipe to train them.
    """

    needs: Needs = Needs()
    draft_kv: bool = False
    online_state: bool = False
    children: Children = "none"
    trainable: bool = False

    def __str__(self) -> str:
        hidden = {"none": "tokens", "last": "last hidden state", "layers": "hidden states of layers"}
        reads = [hidden[self.needs.hidden]]
        if self.needs.node_topk:
            reads.append(f"top {self.needs.node_topk} of every node")
        traits = {"draft KV": self.draft_kv, "learns online": self.online_state, "trainable": self.trainable}
        nodes = f"nodes by {self.children if self.children != 'own' else 'its own rule'}"
        return ", ".join((" and ".join(reads), nodes, *(name for name, holds in traits.items() if holds)))


class Options(BaseModel):
    """An architecture's own settings, `options:` of an arm. Subclasses add fields with defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    def problem(self, tree: Tree) -> tuple[str, str] | None:
        """The first field that does not go with the tree, and why; None if all do."""
        return None

    @property
    def fixes_tree(self) -> bool:
        """Whether they say themselves which tree it is, so that no other can be tried."""
        return False


@dataclass(frozen=True)
class Checkpoint:
    """A draft's folder as it was found.

    Attributes:
        config: its config.json.
        shapes: the shape of every tensor in its weights, by name.
        target: the target's config.json.
    """

    folder: Path
    config: Mapping[str, Any]
    shapes: Mapping[str, Shape]
    target: Mapping[str, Any]


@dataclass(frozen=True)
class Loadable:
    """What the engine is to load from a draft's folder.

    Attributes:
        config: config.json as the engine is to see it.
        expected: the tensors that must be there, with their shapes; None where the layout is the engine's own affair.
        unused: endings of tensor names that may be there though nothing reads them.
        facts: what the model in the engine must say of itself (`draft_facts()`).
        renamed: the engine's names of tensors whose names in the file are others; the other fields have the engine's.
        zeros: tensors that the file does not have and the engine would leave random: it gets zeros.
        trained_tokens: positions that the draft was made for, where the target has more; None where it has not.
        sglang_algorithm: the one that this checkpoint needs, where it is not the architecture's.
        draft_model_class: likewise, the class as which SGLang must report it.
        among_others: the file is the target's own: tensors that are not expected are its other ones.
    """

    config: Mapping[str, Any]
    expected: Mapping[str, Shape] | None
    unused: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    zeros: Mapping[str, Shape] = field(default_factory=dict)
    trained_tokens: int | None = None
    sglang_algorithm: str | None = None
    draft_model_class: str | None = None
    among_others: bool = False

    @property
    def as_filed(self) -> bool:
        """Whether the engine can read the draft's own files."""
        return not self.renamed and not self.zeros


def stepwise_tree(num_steps: int, topk: int) -> int:
    """Most nodes, the root included, that `topk` beams can propose in `num_steps` steps (EAGLE-2's expansion)."""
    return 1 + topk + (num_steps - 1) * topk**2


def full_tree(num_steps: int, topk: int) -> int:
    """Nodes, the root included, of the tree in which every inner node has `topk` children."""
    return sum(topk**depth for depth in range(num_steps + 1))


def as_found(found: Checkpoint, options: Options, tree: Tree) -> Loadable:
    """The checkpoint as it is; its layout is the engine's own affair."""
    return Loadable(found.config, None)


def eagle_arguments(tree: Tree, options: Options) -> dict[str, int | str]:
    """The tree as SGLang's EAGLE family takes it."""
    return {
        "speculative_num_steps": tree.num_steps,
        "speculative_eagle_topk": tree.topk,
        "speculative_num_draft_tokens": tree.num_draft_tokens,
    }


@dataclass(frozen=True)
class DraftSpec:
    """One draft architecture, as data; importing it loads no torch."""

    name: str
    title: str
    origin: str
    """Paper or project, as a reader would cite it."""
    sglang_algorithm: str | None
    """Name under which SGLang runs it; None decodes without a draft."""
    draft_model_class: str | None
    """Class as which SGLang must report the draft to be loaded; None accepts any."""
    needs_checkpoint: bool
    capabilities: Capabilities = Capabilities()
    options: type[Options] = Options
    read: Callable[[Checkpoint, Any, Tree], Loadable] = as_found
    """Checks a checkpoint against the arm's options (an instance of `options`) and tree, says what is to be loaded.

    Raises a CheckpointError that names the key or tensor."""
    largest_tree: Callable[[int, int], int] = stepwise_tree
    """Most nodes, the root included, that it can propose with so many steps and so wide a tree."""
    takes_checkpoint: bool = False
    """A checkpoint can be given though it works without."""
    engine_arguments: Callable[[Tree, Any], Mapping[str, int | str | Mapping[str, Any]]] = eagle_arguments
    """SGLang's server arguments for a tree and options; what it resolved them to is checked in the receipt. A mapping
    stands for the path of a JSON file that holds it."""
    proposer_factory: str | None = None
    """For a draft without a KV cache of its own: "package.module:name", called as name(options, tree, vocab_size) in
    the engine's process, with the checkpoint's folder as a fourth where the arm has one. It runs under SGLang's NGRAM,
    its trees in place of the trie's."""
    needs_gpu: str | None = None
    """Why it cannot run without one; None where it can."""
    engine_module: str | None = None
    """Module that engine processes import. If it has `MODELS`, they are added to SGLang's; if it has a `DRAFT_WORKER`,
    that takes the place of SGLang's `EagleDraftWorker`."""
    model: str | None = None
    """Of a draft with weights: "package.module:name", called as name(config) with the configuration that `read` hands
    to the engine. It makes the torch module (`draftbench.drafts.training.draft.Draft`) that is trained and simulated,
    its weights not in it yet."""
    updater: str | None = None
    """Of a draft that is updated between blocks (`draftbench.drafts.updated`): the module that a process of its own
    runs, with the update's folder as its argument. Its engine takes the new weights at /update_weights_from_disk."""
    recipes: Mapping[str, str] = field(default_factory=dict)
    """Ways to train it, by the name under which recipe files ask for them: "package.module:NAME" of a
    `draftbench.drafts.training.recipe.Recipe`."""

    @property
    def drafts(self) -> bool:
        """Whether there is a draft at all."""
        return self.sglang_algorithm is not None

    def algorithm_of(self, loadable: Loadable | None) -> str | None:
        """SGLang's algorithm for a checkpoint."""
        return (loadable and loadable.sglang_algorithm) or self.sglang_algorithm

    def class_of(self, loadable: Loadable | None) -> str | None:
        """The class as which SGLang must report a checkpoint to be loaded; None accepts any."""
        return (loadable and loadable.draft_model_class) or self.draft_model_class


@cache
def installed() -> tuple[dict[str, DraftSpec], dict[str, str]]:
    """All installed architectures that can be used, and why others cannot."""
    return loaded(under(ENTRY_POINTS), DraftSpec)


def discover() -> dict[str, DraftSpec]:
    """All installed architectures by name, but for those that `broken` names.

    Raises:
        DraftError: none are installed.
    """
    found, left_out = installed()
    if "vanilla" not in found:
        why = "".join(f" {name}: {reason}." for name, reason in left_out.items())
        raise DraftError(f"no architectures are installed (entry points {ENTRY_POINTS}); run make setup.{why}")
    return dict(sorted(found.items()))


def broken() -> dict[str, str]:
    """Installed architectures that cannot be used, and why."""
    return dict(sorted(installed()[1].items()))
