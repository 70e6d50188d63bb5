"""What architectures declare of themselves, and that it agrees with what they are."""

from __future__ import annotations

import pytest

from draftbench.drafts.api import DraftError, Needs, discover
from draftbench.drafts.proposer import StatefulOptions
from draftbench.drafts.training.recipes import recipes


def test_what_is_trainable_has_a_recipe() -> None:
    """The project's own architectures with weights are those that its trainer makes; online begins with another's."""
    trainable = {name for name, spec in discover().items() if spec.capabilities.trainable}
    assert trainable == {recipe.architecture for recipe in recipes().values()}
    assert trainable == {name for name, spec in discover().items() if spec.needs_checkpoint} - {"dspark", "online"}


def test_what_learns_online_can_be_kept_or_reset() -> None:
    """Every proposer whose options have `state` says so, and no other."""
    for spec in discover().values():
        if spec.proposer_factory is not None:
            assert spec.capabilities.online_state == issubclass(spec.options, StatefulOptions)


def test_capabilities_read_as_a_line() -> None:
    """`list` shows them in words."""
    specs = discover()
    assert str(specs["prism"].capabilities) == "last hidden state, nodes by beams, draft KV, trainable"
    recycling = "tokens and top 8 of every node, nodes by its own rule, learns online"
    assert str(specs["token_recycling"].capabilities) == recycling


def test_layers_count_from_either_end() -> None:
    """As Python's indices do; the last layer and those beyond cannot be read."""
    assert Needs("layers", (1, -4, 10)).layers_of(12) == (1, 8, 10)
    for layer in (11, -1, 12, -13):
        with pytest.raises(DraftError, match=r"0 to 10, or -12 to -2"):
            Needs("layers", (layer,)).layers_of(12)
