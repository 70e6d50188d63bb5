"""A small language model drafts and learns, between blocks, what the target said where it was rejected."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from draftbench.drafts.api import Capabilities, Checkpoint, DraftSpec, Loadable, Tree
from draftbench.drafts.standalone.spec import SPEC as STANDALONE
from draftbench.drafts.standalone.spec import read as read_standalone
from draftbench.drafts.updated import UpdatedOptions
from draftbench.harness.errors import CheckpointError


class OnlineOptions(UpdatedOptions):
    """How the draft is updated."""

    loss: Annotated[
        Literal["kl", "reverse_kl", "jsd", "tvd"],
        Field(description="Distance to the target's probabilities: KL(target, draft), KL(draft, target), JSD or TVD."),
    ] = "kl"


def read(found: Checkpoint, options: OnlineOptions, tree: Tree) -> Loadable:
    """A LLaMA, as for `standalone`: another language model cannot be trained here."""
    loadable = read_standalone(found, options, tree)
    if loadable.expected is None:
        raise CheckpointError(
            f"{found.folder / 'config.json'}: architectures is {found.config.get('architectures')}; online can update "
            "LlamaForCausalLM alone. Take such a draft, or architecture: standalone."
        )
    return loadable


SPEC = DraftSpec(
    name="online",
    title="a small language model drafts, updated between blocks from what the target rejected",
    origin="Liu et al. 2023, Online Speculative Decoding",
    sglang_algorithm=STANDALONE.sglang_algorithm,
    draft_model_class=None,
    needs_checkpoint=True,
    capabilities=Capabilities(draft_kv=True, online_state=True, children="beams"),
    options=OnlineOptions,
    read=read,
    model="draftbench.drafts.online.model:made",
    engine_module="draftbench.drafts.online.engine",
    updater="draftbench.drafts.training.online_update",
)
