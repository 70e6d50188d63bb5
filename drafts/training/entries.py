"""From the drafts that a recipe file lists to recipes, with mistakes told by line."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from draftbench.drafts.training.recipe import Recipe, with_objective
from draftbench.drafts.training.recipes import broken_recipes, recipes
from draftbench.drafts.training.settings import DraftEntry, Training
from draftbench.harness.suite.strict_yaml import nearest, refuse, spelled
from draftbench.harness.suite.yaml_lines import Path_

Problems = list[tuple[Path_, str]]


def resolve_drafts(training: Training, path: Path, lines: dict[Path_, int], num_layers: int) -> dict[str, Recipe]:
    """Every draft's recipe with its options and objective.

    Args:
        path: the recipe file; `lines`: of its keys.
        num_layers: of the target.

    Raises:
        SuiteError: one is unknown or cannot be so, or reads layers that the target does not have.
    """
    known = recipes()
    problems: Problems = []
    found: dict[str, Recipe] = {}
    for index, entry in enumerate(training.drafts):
        at: Path_ = ("drafts", index)
        recipe = known.get(entry.recipe)
        if recipe is None:
            here = (*at, "recipe")
            why = broken_recipes().get(entry.recipe) or nearest(entry.recipe, sorted(known))
            problems.append((here, f"{spelled(here)} is {entry.recipe}; {why}"))
            continue
        recipe = _with_options(recipe, entry, at, problems)
        if recipe is not None:
            problems += [*_objective_problems(recipe, entry, at), *_layer_problems(recipe, entry, at, num_layers)]
            found[entry.name] = with_objective(recipe, entry.objective)
    refuse(path, lines, problems)
    return found


def _with_options(recipe: Recipe, entry: DraftEntry, at: Path_, problems: Problems) -> Recipe | None:
    try:
        options = recipe.options.model_validate(entry.options)
    except ValidationError as error:
        for found in error.errors():
            here = (*at, "options", *found["loc"])
            if found["type"] == "extra_forbidden":
                text = f"is not known to {entry.recipe}; "
                text += nearest(str(found["loc"][-1]), list(recipe.options.model_fields) or ["none"])
            else:
                said = found["msg"].removeprefix("Value error, ")
                text = f"is {found['input']!r}; {said[0].lower()}{said[1:]}."
            problems.append((here, f"{spelled(here)} {text}"))
        return None
    return recipe if recipe.adapt is None else recipe.adapt(options)


def _objective_problems(recipe: Recipe, entry: DraftEntry, at: Path_) -> Problems:
    """Fields that no phase's objective has, or values that are not of their kind."""
    kinds: dict[str, Any] = {}
    for phase in recipe.phases:
        if is_dataclass(phase.objective):
            kinds |= {field.name: type(getattr(phase.objective, field.name)) for field in fields(phase.objective)}
    problems: Problems = []
    for key, value in entry.objective.items():
        here = (*at, "objective", key)
        if key not in kinds:
            text = f"{spelled(here)} is not known to {entry.recipe}; {nearest(key, list(kinds) or ['none'])}"
            problems.append((here, text))
            continue
        try:
            TypeAdapter(kinds[key]).validate_python(value, strict=True)
        except ValidationError:
            problems.append((here, f"{spelled(here)} is {value!r}; allowed: a {kinds[key].__name__}."))
            continue
        if key == "num_passes" and not 1 <= value <= (recipe.most_passes or value):
            most = "" if recipe.most_passes is None else f" to {recipe.most_passes}, its draft steps"
            problems.append((here, f"{spelled(here)} is {value}; allowed: 1{most or ' or more'}."))
    return problems


def _layer_problems(recipe: Recipe, entry: DraftEntry, at: Path_, num_layers: int) -> Problems:
    layers = recipe.layers(num_layers)
    if len(set(layers)) == len(layers) and all(0 <= layer < num_layers - 1 for layer in layers):
        return []
    text = f"the target has {num_layers} layers, of which different ones from 0 to {num_layers - 2} can be read."
    return [(at, f"{spelled(at)}: {entry.recipe} reads the target's layers {list(layers)}; {text}")]
