"""Heads on the target's last hidden state, one per later token (Medusa-1)."""

from __future__ import annotations

import re

from pydantic import Field

from draftbench.drafts.api import Capabilities, Checkpoint, DraftSpec, Loadable, Needs, Options, Tree, full_tree
from draftbench.drafts.layout import draft_fields, engine_config, missing_zeros, renamed, without_prefix
from draftbench.harness.errors import CheckpointError

ARCHITECTURE = "MedusaHeads"
PREFIXES = ("medusa_head.", "medusa_heads.", "model.medusa_head.", "base_model.medusa_head.")
"""What exports put before the heads' names."""


class MedusaOptions(Options):
    """A tree of its own: published Medusa trees are lists of paths, each a list of ranks."""

    choices: list[list[int]] | None = Field(
        None, description="The tree's paths as ranks of each head's candidates, from 0; built best-first if left out."
    )

    def problem(self, tree: Tree) -> tuple[str, str] | None:
        """Given paths have to be a tree, and the one whose size the arm names."""
        if self.choices is None:
            return None
        paths = {tuple(path) for path in self.choices}
        for path in sorted(paths):
            if not path or min(path) < 0 or max(path) >= tree.topk:
                return "choices", f"holds {list(path)}; a path has one rank or more, each from 0 to topk - 1."
            if len(path) > 1 and path[:-1] not in paths:
                return "choices", f"holds {list(path)}, but not its beginning {list(path[:-1])}; add it."
        if len(paths) != len(self.choices):
            return "choices", "holds a path twice; keep one of them."
        depth = max(len(path) for path in paths)
        if (depth, len(paths) + 1) != (tree.num_steps, tree.num_draft_tokens):
            text = (
                f"is a tree of depth {depth} with {len(paths) + 1} nodes, the root included; set num_steps to {depth}"
            )
            return "choices", f"{text} and num_draft_tokens to {len(paths) + 1}."
        return None

    @property
    def fixes_tree(self) -> bool:
        """Given paths are the tree."""
        return self.choices is not None


def read(found: Checkpoint, options: MedusaOptions, tree: Tree) -> Loadable:
    """FasterDecoding's layout: `{head}.{block}.linear.*` and `{head}.{blocks}.weight`, counted in the file,
    perhaps behind a prefix; a block without a bias has zeros.

    Published config.json name neither the model's sizes nor the right number of heads: the target's are taken.
    """
    found, names = renamed(found, lambda name: without_prefix(name, *PREFIXES))
    blocks: dict[int, int] = {}
    for name in found.shapes:
        if match := re.fullmatch(r"(\d+)\.(\d+)\.linear\.weight", name):
            head, block = int(match[1]), int(match[2])
            blocks[head] = max(blocks.get(head, 0), block + 1)
    if not blocks:
        raise CheckpointError(f"{found.folder}: no tensor 0.0.linear.weight; this is no Medusa checkpoint.")
    if len(set(blocks.values())) > 1:
        raise CheckpointError(
            f"{found.folder}: the heads' residual blocks, counted by {{head}}.{{block}}.linear.weight, are {blocks}; "
            "every head needs the same number."
        )
    num_heads, num_blocks = max(blocks) + 1, next(iter(blocks.values()))
    if tree.num_steps > num_heads:
        raise CheckpointError(
            f"{found.folder} has {num_heads} heads, but num_steps is {tree.num_steps}; a head drafts one step, so set "
            f"it to {num_heads} or less."
        )
    hidden, vocab = found.target["hidden_size"], found.target["vocab_size"]
    expected: dict[str, tuple[int, ...]] = {}
    for head in range(num_heads):
        for block in range(num_blocks):
            expected |= {f"{head}.{block}.linear.weight": (hidden, hidden), f"{head}.{block}.linear.bias": (hidden,)}
        expected[f"{head}.{num_blocks}.weight"] = (vocab, hidden)
    facts = {"num_heads": num_heads, "num_blocks": num_blocks}
    config = {
        **engine_config(draft_fields(found.target), ARCHITECTURE),
        "num_hidden_layers": 1,
        "medusa_num_heads": num_heads,
        "medusa_num_layers": num_blocks,
        "medusa_choices": options.choices,
    }
    zeros = missing_zeros(found, expected, "linear.bias")
    return Loadable(config, expected, (), facts, names, zeros)


SPEC = DraftSpec(
    name="medusa",
    title="heads on the target's last hidden state, one per later token (Medusa-1)",
    origin="Cai et al. 2024, Medusa",
    sglang_algorithm="EAGLE",
    draft_model_class=ARCHITECTURE,
    needs_checkpoint=True,
    capabilities=Capabilities(Needs("last"), children="joint", trainable=True),
    options=MedusaOptions,
    read=read,
    largest_tree=full_tree,
    engine_module="draftbench.drafts.medusa.engine",
    model="draftbench.drafts.medusa.model:made",
    recipes={"medusa": "draftbench.drafts.medusa.recipe:MEDUSA"},
)
