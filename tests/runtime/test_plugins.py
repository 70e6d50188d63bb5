"""Architectures from other packages: built, installed, trained and run on the real engine; and ones that misbehave."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from draftbench.drafts import api
from draftbench.drafts.api import Tree
from draftbench.drafts.training import recipes
from draftbench.drafts.training.load import load_draft
from draftbench.harness.models.find import EMBEDDED
from tests.runtime.oracle import Oracle

ROOT = Path(__file__).parents[2]
NAUGHTY = ROOT / "tests" / "runtime" / "naughty"
TARGET = EMBEDDED / "tiny" / "target"
TREE = (4, 3, 10)
SUITE = """\
version: 1
name: plugins
target: {{model: tiny, dtype: float32}}
arms:
  - {{name: vanilla, architecture: vanilla}}
{arms}
workloads:
  - {{name: dialogue, source: synthetic, family: dialogue, num_prompts: 8}}
sampling: {{temperature: 0, max_tokens: 48, seed: 0}}
load: [{{concurrency: 3}}]
blocks: 1
chunked_prefill_size: 48
"""
ARMS = """\
  - {name: gated, architecture: gated, checkpoint: ./drafts/gated, num_steps: 4, topk: 3, num_draft_tokens: 10}
  - {name: bigram, architecture: bigram, num_steps: 3, topk: 1, num_draft_tokens: 4, options: {shortest_request: 4}}
  - {name: watcher, architecture: watcher, num_steps: 4, topk: 2, num_draft_tokens: 8}
  - {name: layer_watcher, architecture: layer_watcher, num_steps: 4, topk: 2, num_draft_tokens: 8}
  - {name: layered, architecture: layered, checkpoint: ./drafts/layered, num_steps: 4, topk: 3, num_draft_tokens: 10}
  - {name: raises, architecture: naughty, num_steps: 3, topk: 1, num_draft_tokens: 4, options: {mischief: raises}}
  - {name: hangs, architecture: naughty, num_steps: 3, topk: 1, num_draft_tokens: 4, options: {mischief: hangs}}
"""
RECIPE = """\
version: 1
name: plugins
target: {model: tiny, dtype: float32}
corpus:
  responses: target
  sources:
    - {name: dialogue, source: synthetic, family: dialogue, num_prompts: 14}
  sampling: {temperature: 0, max_tokens: 48, seed: 0}
budget: {axis: steps, amount: 36, learning_rates: [0.01]}
dtype: bfloat16
drafts:
  - {name: gated, recipe: gated}
  - {name: layered, recipe: layered}
"""


def call(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command with the installed packages on its path."""
    environment = {**os.environ, "PYTHONPATH": str(folder / "site"), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True)


def look_anew() -> None:
    """Forget which architectures and recipes are installed."""
    api.installed.cache_clear()
    recipes.installed.cache_clear()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Both examples installed: found by this process, its engines, and the tests' misbehaving package too."""
    folder = tmp_path_factory.mktemp("plugins")
    sources = [folder / name for name in ("bigram_draft", "gated_draft")]
    for source in sources:
        shutil.copytree(ROOT / "examples" / source.name, source)
    install = ["-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    done = call(folder, *install, "--target", str(folder / "site"), *map(str, sources))
    assert done.returncode == 0, done.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder / "site"))
        for path in (folder / "site", NAUGHTY):
            patch.syspath_prepend(str(path))
        look_anew()
        yield folder / "site"
    look_anew()


@pytest.fixture(scope="module")
def folder(site: Path, command: Callable[..., tuple[int, str]]) -> Path:
    """The examples with weights trained on the target's own outputs, and all of them run."""
    folder = site.parent
    (folder / "recipe.yaml").write_text(RECIPE)
    code, printed = command("train", str(folder / "recipe.yaml"), "--out", str(folder / "drafts"))
    assert code == 0, printed
    for name in ("gated", "layered"):
        (folder / "drafts" / f"{name}-s0").rename(folder / "drafts" / name)
    (folder / "suite.yaml").write_text(SUITE.format(arms=ARMS))
    code, printed = command(str(folder / "suite.yaml"), "--out", str(folder / "run"))
    assert code == 0, printed
    return folder


@pytest.fixture(scope="module")
def rows(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "run" / "results.csv").open() as file:
        return {row["arm"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def requests(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "run" / "requests.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("arm", ["gated", "bigram", "watcher", "layer_watcher", "layered"])
def test_packages_add_architectures(rows: dict[str, dict[str, str]], arm: str) -> None:
    """They run like the project's own: valid, lossless, with drafts accepted."""
    assert rows[arm]["valid"] == "true", rows[arm]["reason"]
    assert rows[arm]["lossless_share"] == "1.0"
    assert float(rows[arm]["acceptance_length"]) > (1.5 if arm in ("gated", "layered") else 1.02)


def test_list_names_them(folder: Path) -> None:
    """`list` shows what is installed, with its origin."""
    listed = call(folder, "bench.py", "list").stdout
    assert "gated" in listed
    assert "an example of docs/adding-a-draft.md" in listed


@pytest.mark.parametrize("arm", ["gated", "layered"])
def test_the_module_that_was_trained_is_the_one_that_drafts(
    folder: Path, requests: list[dict[str, Any]], arm: str
) -> None:
    """The stepwise adapter's rounds are those of the simulation, which loads others' drafts as it does its own."""
    oracle = Oracle(TARGET)
    draft = load_draft(arm, folder / "drafts" / arm, oracle.target, Tree(*TREE))
    references = (folder / "run" / "references.jsonl").read_text().splitlines()
    prompts = {found["prompt_id"]: tuple(found["prompt_ids"]) for found in map(json.loads, references)}
    records = [record for record in requests if record["cell"]["arm"] == arm]
    assert len(records) == 8
    answers = [(prompts[record["prompt_id"]], tuple(record["output_ids"])) for record in records]
    with torch.no_grad():
        simulated = list(oracle.rounds(draft, answers, Tree(*TREE)))
    assert simulated == [[found["num_accepted_drafts"] for found in record["rounds"]] for record in records]


def test_a_proposer_is_told_what_the_target_saw(folder: Path) -> None:
    """Hidden states after the final norm and likeliest tokens are the target's own, at the places they belong to."""
    heard = np.load(folder / "run" / "engines" / "watcher" / "heard.npz")
    target = Oracle(TARGET).target
    # The prefill's token and then all rounds' tokens: the hidden states' own heads name the next one.
    named = target.lm_head(torch.tensor(heard["hidden"])).argmax(-1).tolist()
    prompt = heard["tokens"].tolist()
    assert named[0] == prompt[-1]
    sequence = torch.tensor([prompt + named[1:]])
    with torch.no_grad():
        hidden = target.model(sequence).last_hidden_state[0]
    first = len(prompt) - 2
    torch.testing.assert_close(torch.tensor(heard["hidden"]), hidden[first : first + len(named)], rtol=1e-3, atol=1e-3)
    roots = np.cumsum([0, *(heard["accepted"][:-1] + 1)]) + first + 1
    wanted = target.lm_head(hidden[torch.tensor(roots)]).topk(3).indices
    assert wanted.tolist() == heard["node_topk"].tolist()
    assert len(roots) > 5


def test_a_proposer_is_told_what_chosen_layers_left(folder: Path) -> None:
    """Outputs of the layers it named, side by side, at the prompt's end, the roots and the accepted nodes."""
    heard = np.load(folder / "run" / "engines" / "layer_watcher" / "heard.npz")
    oracle, prompt = Oracle(TARGET), tuple(heard["tokens"].tolist())
    target, count = oracle.target, len(heard["hidden"])
    with torch.no_grad():
        found = target.model(
            torch.tensor([prompt + oracle.continued(prompt, count - 1)]), output_hidden_states=True
        ).hidden_states
    num_layers = target.config.num_hidden_layers
    # hidden_states begins with the embeddings: the output of layer 1 is its third entry.
    wanted = torch.cat((found[2][0], found[num_layers - 4 + 1][0]), -1)
    first = len(prompt) - 2
    torch.testing.assert_close(torch.tensor(heard["hidden"]), wanted[first : first + count], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("arm", "said"),
    [("raises", "naughty: propose raised KeyError: 'lost'"), ("hangs", "naughty: propose did not answer within 10 s")],
)
def test_mischief_fails_its_cells_alone(
    rows: dict[str, dict[str, str]], requests: list[dict[str, Any]], arm: str, said: str
) -> None:
    """The row is invalid with the architecture's name and the reason; its requests' tokens are still the target's."""
    assert rows[arm]["valid"] == "false"
    assert said in rows[arm]["reason"]
    own = [record for record in requests if record["cell"]["arm"] == arm]
    truth = {record["prompt_id"]: record["output_ids"] for record in requests if record["cell"]["arm"] == "vanilla"}
    assert own
    assert all(record["error"] is None for record in own)
    assert all(record["output_ids"] == truth[record["prompt_id"]] for record in own)
    assert rows["vanilla"]["valid"] == "true"
