"""Language models as drafts: nested exits, and what they learn from the target's probabilities."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from draftbench.drafts.s2d.loss import nested_loss
from draftbench.drafts.s2d.model import NestedDraft, new_nested
from draftbench.drafts.standalone.loss import StandaloneObjective, distillation, variation
from draftbench.drafts.training.features import Example, Features, features_of
from tests.fakes.target import CONFIG, new_target

EXAMPLES = [Example((1, 2, 3 + i), tuple(5 + (i + j) % 7 for j in range(12 + i))) for i in range(4)]
EMBEDDING_VD = torch.randn(64, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def features() -> Features:
    return features_of(new_target(), EXAMPLES)


def nested_of(*thresholds: float) -> NestedDraft:
    """Three layers with an exit after each."""
    return new_nested(CONFIG, (1, 2, 3), thresholds or (0.5, 0.5), EMBEDDING_VD, 3)


def test_an_exit_that_is_never_sure_changes_nothing(features: Features) -> None:
    """Thresholds that no probability reaches: the deepest exit's scores at every step; 0: the first one's."""
    batch = features.batch([0, 3])
    tokens, positions = batch.tokens_BT, batch.positions_BT
    states = list(nested_of().states_of_exits(tokens, positions, batch.causal))
    for thresholds, expected in (((1.01, 1.01), states[2]), ((1.01, 0.0), states[1]), ((0.0, 0.0), states[0])):
        draft = nested_of(*thresholds)
        torch.testing.assert_close(draft(tokens, torch.empty(0), positions, batch.causal, 2), expected)
        torch.testing.assert_close(draft(tokens, torch.empty(0), positions, batch.causal, 1), states[2])


def test_each_entry_leaves_at_its_first_sure_exit(features: Features) -> None:
    """With a threshold between the confidences of two entries one leaves and the other goes on, which still finds the
    keys and values of the first at every layer."""
    draft, batch = nested_of(1.01, 1.01), features.batch([0])
    tokens, positions = batch.tokens_BT, batch.positions_BT
    first = next(iter(draft.states_of_exits(tokens, positions, batch.causal)))
    confidences = draft.logits(first).softmax(-1).amax(-1)[0]
    draft.thresholds = {1: float(confidences.detach().median()), 2: 1.01}
    written: dict[int, int] = {}

    def attend(index: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        written[index] = k.shape[2]
        return batch.causal(index, q, k, v)

    found = draft(tokens, torch.empty(0), positions, attend, 2)[0]
    left = confidences >= draft.thresholds[1]
    assert 0 < int(left.sum()) < len(left)
    torch.testing.assert_close(found[left], first[0][left])
    assert not torch.isclose(found[~left], first[0][~left]).all(-1).any()
    assert written == dict.fromkeys(range(3), tokens.shape[1])


def test_every_exit_of_s2d_learns(features: Features) -> None:
    """The loss is the mean of the exits', and all layers get a gradient."""
    draft, batch, objective = nested_of(), features.batch([0, 3]), StandaloneObjective(1.0, 0.0)
    loss = nested_loss(draft, batch, objective)
    states = draft.states_of_exits(batch.tokens_BT, batch.positions_BT, batch.causal)
    own = [distillation(draft.logits(state[batch.learned_BT]), batch, objective) for state in states]
    torch.testing.assert_close(loss, torch.stack(own).mean())
    loss.backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in draft.model.layers.parameters())


def test_total_variation_is_half_the_distance_and_tvd_plus_plus_its_gradient_by_the_deviation() -> None:
    """Over a vocabulary that the target's likeliest tokens cover; the value is the same, as rates are judged by it."""
    torch.manual_seed(5)
    scores, target_NK = torch.randn(4, 6, requires_grad=True), torch.randn(4, 6).softmax(1)
    gradients = []
    for normalized in (False, True):
        scores.grad = None
        draft_NK = scores.softmax(1)
        loss = variation(draft_NK, target_NK, normalized)
        torch.testing.assert_close(loss, (draft_NK - target_NK).abs().sum(1).mean() / 2)
        loss.backward()
        gradients.append(scores.grad)
    rewards = (scores.softmax(1) * (target_NK > scores.softmax(1))).sum(1).mean()
    torch.testing.assert_close(gradients[1], gradients[0] / (rewards * (1 - rewards)).sqrt())
    # The same for tokens drawn from the draft, mean and all: a constant less in every reward changes nothing.
    advantages = ((target_NK > scores.softmax(1)).float() - rewards) / (rewards * (1 - rewards)).sqrt()
    probs = scores.softmax(1)
    scores.grad = None
    (-(probs * advantages.detach()).sum(1).mean()).backward()
    torch.testing.assert_close(scores.grad, gradients[1])
