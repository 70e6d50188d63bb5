"""Architectures and recipes come in through what packages declare; a broken package is named and left out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from draftbench.drafts import api
from draftbench.drafts.installed import named
from draftbench.drafts.training import recipes
from draftbench.drafts.training.recipe import Recipe
from draftbench.harness.errors import SuiteError
from draftbench.harness.host.doctor import diagnose
from draftbench.harness.suite import load_suite

Install = Callable[[str, str], None]
GOOD = """\
from dataclasses import replace

from draftbench.drafts.eagle.recipe import EAGLE
from draftbench.drafts.eagle.spec import SPEC as ONE

RECIPE = replace(EAGLE, architecture="mine")
SPEC = replace(ONE, name="mine", recipes={"mine": "good:RECIPE"})
"""
SUITE = """\
version: 1
name: s
target: {model: tiny, dtype: float32}
arms:
  - {name: vanilla, architecture: vanilla}
  - {name: own, architecture: NAME, checkpoint: tiny/eagle, num_steps: 2, topk: 1, num_draft_tokens: 3}
workloads:
  - {name: arithmetic, source: synthetic, family: arithmetic, num_prompts: 2}
sampling: {temperature: 0, max_tokens: 8, seed: 0}
load: [{concurrency: 1}]
blocks: 1
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a module with entry points on the path."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def put(text: str, points: str) -> None:
        name = f"p{len(list(tmp_path.iterdir()))}"
        dist = tmp_path / f"{name}-1.0.dist-info"
        dist.mkdir()
        (dist / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (dist / "entry_points.txt").write_text(points)
        (tmp_path / f"{points.split(' = ')[1].split(':')[0]}.py").write_text(text)
        api.installed.cache_clear()
        recipes.installed.cache_clear()

    yield put
    for name in ("good", "bad"):
        sys.modules.pop(name, None)
    api.installed.cache_clear()
    recipes.installed.cache_clear()


def test_a_spec_brings_its_model_and_recipes(install: Install) -> None:
    """One entry point is enough, as for the project's own."""
    install(GOOD, "[draftbench.drafts]\nmine = good:SPEC\n")
    assert api.discover()["mine"].name == "mine"
    assert recipes.recipes()["mine"].architecture == "mine"
    assert (api.broken(), recipes.broken_recipes()) == ({}, {})


def test_a_recipe_for_anothers_architecture_has_an_entry_point(install: Install) -> None:
    """Under the group of recipes."""
    install(GOOD, "[draftbench.recipes]\nmine = good:RECIPE\n")
    assert isinstance(recipes.recipes()["mine"], Recipe)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import nothing_of_that_name", "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("SPEC = 1 / 0", "ZeroDivisionError: division by zero"),
        ("def", "SyntaxError"),
        ("OTHER = 1", "has no attribute 'SPEC'"),
        ("SPEC = 1", "bad:SPEC is a int, not a DraftSpec"),
    ],
)
def test_a_broken_package_is_named_and_left_out(install: Install, tmp_path: Path, text: str, why: str) -> None:
    """Other suites run; one that names it is told what is wrong, with its line; doctor and list say it."""
    install(text, "[draftbench.drafts]\nbad = bad:SPEC\n")
    assert "bad" not in api.discover()
    assert why in api.broken()["bad"]
    suite = tmp_path / "suite.yaml"
    suite.write_text(SUITE.replace("NAME", "eagle"))
    load_suite(suite)
    suite.write_text(SUITE.replace("NAME", "bad"))
    with pytest.raises(SuiteError, match=r"suite.yaml:6: .*architecture is bad; bad:SPEC (cannot be loaded|is a int)"):
        load_suite(suite)
    assert [finding for finding in diagnose() if "left out: bad: bad:SPEC" in finding.text and not finding.ok]


def test_a_broken_recipe_leaves_the_others_be(install: Install) -> None:
    """Named by recipes alone."""
    install("RECIPE = None", "[draftbench.recipes]\nbad = bad:RECIPE\n")
    assert "bad" not in recipes.recipes()
    assert recipes.broken_recipes() == {"bad": "bad:RECIPE is a NoneType, not a Recipe"}


def test_every_trainable_architecture_has_a_model() -> None:
    """Whatever its spec names can be imported."""
    for spec in api.discover().values():
        assert bool(spec.recipes) == spec.capabilities.trainable
        assert (spec.model is not None) == (spec.capabilities.trainable or spec.updater is not None)
        if spec.model is not None:
            assert callable(named(spec.model))
