"""The training loop: it learns, it stops at its budget, it goes on as if never stopped, it says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from draftbench.drafts.api import Tree
from draftbench.drafts.layout import layers_read
from draftbench.drafts.prism.model import PrismDraft
from draftbench.drafts.training.features import Example, ExampleStates, Features
from draftbench.drafts.training.fusion_layer import Fusion
from draftbench.drafts.training.loop import CURVE, STATE, Trainer
from draftbench.drafts.training.offline_acceptance import measure_acceptance
from draftbench.drafts.training.recipe import with_objective
from draftbench.drafts.training.recipes import recipes
from draftbench.harness.errors import TrainingError
from tests.fakes.target import CONFIG

New = Callable[..., Trainer]


def fit(trainer: Trainer) -> list[dict[str, Any]]:
    return trainer.run(lambda share, loss: None)


@pytest.mark.parametrize(
    "name", [name if name in ("eagle", "prism") else pytest.param(name, marks=pytest.mark.slow) for name in recipes()]
)
def test_overfitting_drives_acceptance_of_the_trained_steps(
    new_trainer: New, answers: tuple[Any, list[Example]], name: str
) -> None:
    """After enough steps on 20 samples, 95% of the drafts of every trained step are accepted; frozen weights stay."""
    passes = 1 if name == "eagle" else 3
    recipe = with_objective(recipes()[name], {"num_passes": passes})
    trainer = new_trainer(recipe, amount=800 if name == "medusa" else 240, rate=0.02, tokens_per_batch=512)
    frozen = {key: p.clone() for key, p in trainer.draft.named_parameters() if not p.requires_grad}
    curve = fit(trainer)
    assert curve[-1]["loss"] < 0.5 * curve[0]["loss"]
    draft: Any = trainer.draft.eval()
    # The last tokens are shown, not counted: a round that reaches them is not cut short.
    counted = [Example(sample.prompt_ids, sample.output_ids[: -passes - 1]) for sample in answers[1]]
    found = measure_acceptance(draft, trainer.features, counted, Tree(passes, 1, passes + 1))
    assert min(found.accept_rates) >= 0.95, found
    assert all(torch.equal(p, frozen[key]) for key, p in draft.named_parameters() if key in frozen)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_one_seed_twice_is_bit_equal_and_another_is_not(new_trainer: New, dtype: str) -> None:
    """Losses and weights repeat exactly on a CPU."""
    made = [new_trainer(recipes()["prism"], dtype=dtype, seed=seed, amount=6) for seed in (3, 3, 4)]
    curves = [fit(trainer) for trainer in made]
    assert curves[0] == curves[1]
    assert curves[0] != curves[2]
    first, second = (trainer.draft.state_dict() for trainer in made[:2])
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_gradients_reach_the_active_module_only(new_trainer: New) -> None:
    """PRISM's warm-up trains one module alone; the copies then part from each other, each serving its own steps."""
    recipe = recipes()["prism"]
    trainer = new_trainer(replace(recipe, phases=(replace(recipe.phases[0], share=1.0),)), amount=3)
    draft: Any = trainer.draft
    assert isinstance(draft, PrismDraft)
    weights = [module.fc.weight for module in draft.prism_modules]
    before = weights[1].clone()
    fit(trainer)
    assert torch.equal(weights[1], before)
    assert not torch.equal(weights[0], before)
    trainer = new_trainer(recipe, amount=4)
    fit(trainer)
    draft = trainer.draft
    assert draft.step_to_module == (0, 1, 1, 1, 1)
    batch = trainer.features.batch([0])
    for step, active in ((1, 0), (2, 1)):
        draft.zero_grad()
        draft(batch.tokens_BT, batch.hidden_BTD, batch.positions_BT, batch.causal, step).sum().backward()
        reached = [any(p.grad is not None for p in module.parameters()) for module in draft.prism_modules]
        assert reached == [number == active for number in (0, 1)]


@pytest.mark.parametrize("name", ["eagle", "hass", "hass-artifact", "stacked-3", "prism", "prism-artifact"])
def test_every_control_can_read_three_layers(new_trainer: New, name: str) -> None:
    """The fusion is trained, the features hold the layers, and the configuration names them."""
    recipe = recipes()[name]
    assert recipe.adapt is not None
    recipe = recipe.adapt(recipe.options.model_validate({"reads_layers": 3}))
    assert recipe.layers(6) == (1, 2, 3)
    trainer = new_trainer(recipe, amount=6)
    draft: Any = trainer.draft
    before = draft.fusion_layer.weight.clone()
    fit(trainer)
    assert draft.reads_layers
    assert not torch.equal(draft.fusion_layer.weight, before)
    config = recipe.config({**CONFIG, "num_hidden_layers": 6})
    assert config["eagle_config"] == {"eagle_aux_hidden_state_layer_ids": [1, 2, 3]}
    assert layers_read(recipes()[name].config({**CONFIG, "num_hidden_layers": 6})) == []


@dataclass
class Larger:
    """A store whose layers' outputs are 64 times as large."""

    store: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def read(self, index: int, layers: Sequence[int]) -> ExampleStates:
        seen: ExampleStates = self.store.read(index, layers)
        return replace(seen, aux_nE=64 * seen.aux_nE.float())


@pytest.mark.parametrize("name", ["hass", "prism"])
def test_how_large_the_targets_layers_are_does_not_matter(new_trainer: New, name: str) -> None:
    """Deep targets' layers leave states a hundred times as large as the last one's, on which training diverged: with
    layers 64 times as large the losses are the same to the last bit, and the fusion's weights a 64th."""
    recipe = recipes()[name]
    assert recipe.adapt is not None
    recipe = recipe.adapt(recipe.options.model_validate({"reads_layers": 3}))

    def larger(features: Features) -> Features:
        return replace(features, store=Larger(features.store))

    plain, scaled = new_trainer(recipe, amount=6), new_trainer(recipe, amount=6, wrapped=larger)
    assert [line["loss"] for line in fit(plain)] == [line["loss"] for line in fit(scaled)]
    ours, theirs = (trainer.draft.state_dict()["fusion_layer.weight"] for trainer in (plain, scaled))
    assert torch.equal(ours, 64 * theirs)


def test_a_fusions_state_is_that_of_the_plain_matrix() -> None:
    """What is saved computes the same without units, and goes back into a fusion with units unchanged."""
    torch.manual_seed(0)
    fusion, x = Fusion(3, 8), torch.randn(1, 5, 24) * 50
    hidden = torch.randn(9, 8)
    fusion.measure([(hidden, torch.cat((hidden, 9 * hidden, 99 * hidden), 1))])
    assert fusion.units_E[::8].tolist() == [1.0, 8.0, 128.0]
    plain = torch.nn.Linear(24, 8)
    plain.load_state_dict(fusion.state_dict())
    torch.testing.assert_close(plain(x), fusion(x))
    before = fusion.weight.clone()
    fusion.load_state_dict(fusion.state_dict())
    assert torch.equal(fusion.weight, before)


def test_prisms_second_phase_is_what_its_options_say(new_trainer: New) -> None:
    """Feature term and gradients between passes on or off; the artifact's is at a third of the rate."""
    plain, artifact = recipes()["prism"], recipes()["prism-artifact"]
    assert plain.adapt is not None
    said = [(phase.objective.feature_weight, phase.objective.detach) for phase in plain.phases]
    assert said == [(1.0, False), (0.0, False)]
    other = plain.adapt(plain.options.model_validate({"feature_term": True, "detach": True, "warm_up": 0.75}))
    assert [(phase.share, phase.objective.feature_weight, phase.objective.detach) for phase in other.phases] == [
        (0.75, 1.0, False), (0.25, 1.0, True),
    ]  # fmt: skip
    assert [(phase.objective.num_passes, phase.objective.detach, phase.rate) for phase in artifact.phases] == [
        (3, True, 1.0), (3, False, 1 / 3),
    ]  # fmt: skip
    assert [(phase.objective.feature_weight, phase.objective.logit_weight) for phase in artifact.phases] == [
        (1.0, 0.1), (0.0, 0.1),
    ]  # fmt: skip
    assert [phase.objective for phase in recipes()["hass-artifact"].phases] == [artifact.phases[0].objective]
    rates = [line["rate"] for line in fit(new_trainer(artifact, amount=10, rate=0.01, warmup=0.0, decay=0.0))]
    assert rates == pytest.approx([0.01] * 8 + [0.01 / 3] * 2)


@pytest.mark.parametrize("killed_after", [3, 7, 11])
def test_a_killed_training_goes_on_with_the_same_losses(new_trainer: New, tmp_path: Path, killed_after: int) -> None:
    """Ended at any step, in either phase, it repeats what was not saved and ends as if it had never stopped."""
    whole = new_trainer(recipes()["prism"], amount=14, every=4)
    expected = fit(whole)

    class Killed(Exception):
        pass

    def told(share: float, loss: float) -> None:
        if round(share * 14) == killed_after:
            raise Killed

    folder = tmp_path / "killed"
    with pytest.raises(Killed):
        new_trainer(recipes()["prism"], amount=14, every=4, folder=folder).run(told)
    assert len((folder / CURVE).read_text().splitlines()) == killed_after
    (folder / CURVE).open("a").write('{"step": 99, "lo')  # a line that was being written
    resumed = new_trainer(recipes()["prism"], amount=14, every=4, folder=folder)
    assert fit(resumed) == expected
    lines = [json.loads(line) for line in (folder / CURVE).read_text().splitlines()]
    assert lines == expected
    ours, theirs = resumed.draft.state_dict(), whole.draft.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_state_of_other_settings_is_refused(new_trainer: New, tmp_path: Path) -> None:
    """A folder's saved state is not taken up by a training with another budget."""
    fit(new_trainer(recipes()["medusa"], amount=2, folder=tmp_path / "a"))
    with pytest.raises(TrainingError, match="other settings"):
        fit(new_trainer(recipes()["medusa"], amount=3, folder=tmp_path / "a"))


@pytest.mark.parametrize(("axis", "amount"), [("tokens", 1500), ("steps", 9), ("flops", 4e8)])
def test_every_draft_stops_at_the_same_amount(new_trainer: New, axis: str, amount: float) -> None:
    """On each axis: never above the amount, and less than a step below it; the learning rate ends near zero."""
    for name in ("medusa", "hass"):
        trainer = new_trainer(recipes()[name], axis=axis, amount=amount)
        curve = fit(trainer)
        spent = trainer.course.spent(axis)
        largest = spent / len(curve) * 1.6
        assert spent <= amount * 1.001
        assert spent > amount - largest
        assert curve[-1]["rate"] < 0.5 * max(line["rate"] for line in curve)
        assert sum("validation_loss" in line for line in curve) >= 4


def test_on_equal_tokens_all_drafts_see_the_same_batches(new_trainer: New) -> None:
    """The tokens after each step agree between architectures."""
    seen = [[line["tokens"] for line in fit(new_trainer(recipes()[n], axis="tokens", amount=900))] for n in recipes()]
    assert all(each == seen[0] for each in seen)


def test_accumulated_batches_are_one_large_one(new_trainer: New) -> None:
    """Four small batches of a step make the step of one batch four times as large."""
    large = new_trainer(recipes()["eagle"], amount=1, tokens_per_batch=10_000, chosen=range(16))
    small = new_trainer(
        recipes()["eagle"], amount=1, tokens_per_batch=4 * 18, gradient_accumulation=4, chosen=range(16)
    )
    assert fit(small)[0]["loss"] == pytest.approx(fit(large)[0]["loss"], rel=1e-5)
    assert small.course.num_tokens == large.course.num_tokens


def test_packed_rows_learn_the_same(new_trainer: New) -> None:
    """One step on all samples has the same loss, however they share rows."""
    alone = new_trainer(recipes()["hass"], amount=1, tokens_per_batch=10_000)
    packed = new_trainer(recipes()["hass"], amount=1, tokens_per_batch=10_000, row_tokens=100)
    assert fit(packed)[0]["loss"] == pytest.approx(fit(alone)[0]["loss"], rel=1e-4)


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_state(new_trainer: New) -> None:
    """The reason and the step are said, and what was saved before is there and finite."""

    def poisoned(features: Features) -> Features:
        features.store._states[5][0][:] = float("nan")  # type: ignore[attr-defined]
        return features

    trainer = new_trainer(recipes()["eagle"], wrapped=poisoned, tokens_per_batch=40, every=1)
    with pytest.raises(TrainingError, match=r"the loss of step \d+ is not finite.*last good state is kept"):
        fit(trainer)
    state = torch.load(trainer._folder / STATE, weights_only=True)
    assert state["course"]["num_steps"] == trainer.course.num_steps
    assert all(torch.isfinite(value).all() for value in state["draft"].values())


@pytest.mark.parametrize(
    ("name", "budget"), [("eagle", {"axis": "tokens", "amount": 10}), ("prism", {"axis": "steps", "amount": 1})]
)
def test_an_impossible_budget_is_told(new_trainer: New, name: str, budget: dict[str, Any]) -> None:
    """Less than a step, or than a step for each phase, is refused with what to change."""
    with pytest.raises(TrainingError, match=r"too few for its \d phases?; raise budget.amount"):
        fit(new_trainer(recipes()[name], **budget))
