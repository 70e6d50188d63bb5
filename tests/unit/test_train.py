"""`bench.py train` without an engine: recipe files, corpora with their own answers, folders, several processes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from draftbench.drafts.training.entries import resolve_drafts
from draftbench.drafts.training.recipes import recipes
from draftbench.drafts.training.settings import load_training
from draftbench.harness.errors import HarnessError, SuiteError, TrainingError
from draftbench.harness.models.find import EMBEDDED
from draftbench.harness.suite import Workload
from draftbench.harness.train import read_ready, train
from draftbench.harness.workloads.dialogues import dialogues, learnable
from draftbench.harness.workloads.render import ChatRenderer
from tests.fakes.target import new_target, own_answers

ROOT = Path(__file__).parents[2]
GOOD = """\
version: 1
name: try
target: {model: ./target, dtype: float32}
corpus: {responses: target, tokens: answers.jsonl}
budget:
  axis: tokens
  amount: 1500
  tokens_per_batch: 128
  learning_rates: [0.01, 0.02]
dtype: float32
seeds: [0, 1]
drafts:
  - {name: eagle, recipe: eagle}
  - {name: medusa, recipe: medusa, options: {num_heads: 2}, seeds: [5]}
"""
RECIPES = ", ".join(sorted(recipes()))
ONE_DRAFT = GOOD[: GOOD.index("  - {name: medusa")].replace("[0, 1]", "[0]")
"""The recipe with EAGLE and one seed alone."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe beside a target of six layers and 30 of its answers, some of them spoilt."""
    folder = tmp_path_factory.mktemp("train")
    target = new_target(6)
    target.save_pretrained(folder / "target")
    lines = [json.dumps({"prompt_ids": s.prompt_ids, "output_ids": s.output_ids}) for s in own_answers(target, 30)]
    (folder / "answers.jsonl").write_text("\n".join([*lines[:9], '{"prompt_ids": []', *lines[9:]]) + "\n")
    (folder / "recipe.yaml").write_text(GOOD)
    return folder


def run(recipe: Path, out: Path, resume: bool = False) -> tuple[int, str]:
    """The command's exit code and what it printed."""
    printed = io.StringIO()
    code = train(recipe, out, resume, Console(file=printed, width=300))
    return code, printed.getvalue()


@pytest.fixture(scope="module")
def trained(folder: Path) -> tuple[Path, str]:
    """The folder of a whole run, and what it printed."""
    code, printed = run(folder / "recipe.yaml", folder / "out")
    assert code == 0, printed
    return folder / "out", printed


def ledger(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "training.json").read_text())
    return found


def test_a_recipe_becomes_checkpoints_with_ledgers(trained: tuple[Path, str]) -> None:
    """A folder for each draft and seed: weights, configuration, curve as JSONL and SVG, ledger."""
    out, printed = trained
    assert {path.name for path in out.glob("*-s*")} == {"eagle-s0", "eagle-s1", "medusa-s5"}
    for name in ("eagle-s0", "medusa-s5"):
        files = {path.name for path in (out / name).iterdir()}
        assert files == {
            "model.safetensors", "config.json", "training.json", "README.md", "loss.jsonl", "loss.svg",
            "acceptance.jsonl",
        }  # fmt: skip
    assert "1 malformed, the first at" in printed
    assert "hidden states of" in printed
    assert "GB in" in printed
    eagle, medusa = ledger(out / "eagle-s0"), ledger(out / "medusa-s5")
    assert eagle["used"]["tokens"] == medusa["used"]["tokens"] <= 1500
    assert eagle["budget"]["axis"] == "tokens"
    assert [tried["rate"] for tried in eagle["learning_rates"]] == [0.01, 0.02]
    best = min(eagle["learning_rates"], key=lambda tried: tried["validation_loss"])
    assert eagle["budget"]["learning_rate"] == best["rate"]
    assert eagle["data"]["responses"] == "target"
    assert eagle["data"]["skipped"] == {"malformed": 1}
    assert eagle["data"]["corpus_sha256"] == medusa["data"]["corpus_sha256"]
    assert eagle["data"]["features_sha256"] == medusa["data"]["features_sha256"]
    assert medusa["num_active_parameters"] * 2 == medusa["num_trained_parameters"]
    assert eagle["training_flops"] > 0
    assert eagle["heldout_acceptance"]["tree"]["validation"]["acceptance_length"] >= 1


def test_what_is_trained_is_not_trained_again(trained: tuple[Path, str], folder: Path) -> None:
    """Without --resume the folder is refused; with it only a draft that is missing is made, exactly as it was."""
    out, _ = trained
    with pytest.raises(TrainingError, match="go on with --resume"):
        run(folder / "recipe.yaml", out)
    before = (out / "eagle-s1" / "model.safetensors").read_bytes()
    for path in (out / "eagle-s1").iterdir():
        path.unlink()
    code, printed = run(folder / "recipe.yaml", out, resume=True)
    assert code == 0, printed
    assert printed.count("trained already") == 2
    assert (out / "eagle-s1" / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("amount: 1500", "amount: 3000", "budget.amount"),
        ("dtype: float32\nseeds", "dtype: bfloat16\nseeds", "budget.dtype"),
        ("recipe: eagle}", "recipe: hass}", "summary, phases"),
        ("recipe: eagle}", "recipe: eagle, num_samples: 20}", "data.num_samples"),
        ("num_heads: 2", "num_heads: 3", "config.medusa_num_heads"),
        ("dtype: float32\nseeds", "dtype: float32\ntree: {num_steps: 2}\nseeds", "tree.num_steps"),
    ],
)  # fmt: skip
def test_a_draft_that_was_trained_otherwise_is_not_taken_for_done(
    trained: tuple[Path, str], folder: Path, old: str, new: str, said: str
) -> None:
    """--resume with a changed recipe: what differs is told, and the finished draft stays as it is."""
    out, _ = trained
    assert old in GOOD
    recipe = folder / "changed.yaml"
    recipe.write_text(GOOD.replace(old, new))
    before = {path: path.read_bytes() for path in out.glob("*-s*/*")}
    code, printed = run(recipe, out, resume=True)
    assert code == 1
    assert said in printed
    assert "give another --out" in printed
    assert {path: path.read_bytes() for path in out.glob("*-s*/*")} == before


def test_a_search_with_another_budget_is_made_anew(folder: Path, tmp_path: Path) -> None:
    """Losses of a search count for its own settings alone."""
    recipe = tmp_path / "recipe.yaml"
    text = ONE_DRAFT.replace("./target", str(folder / "target")).replace("answers.jsonl", str(folder / "answers.jsonl"))
    recipe.write_text(text)
    run(recipe, tmp_path / "out")
    for path in (tmp_path / "out").glob("*-s*/*"):
        path.unlink()
    recipe.write_text(text.replace("amount: 1500", "amount: 4500"))
    code, printed = run(recipe, tmp_path / "out", resume=True)
    assert code == 0, printed
    run(recipe, tmp_path / "new")
    again, new = (ledger(tmp_path / name / "eagle-s0")["learning_rates"] for name in ("out", "new"))
    assert again == new


def test_a_drafts_share_of_the_budget_and_of_the_search_are_its_own(folder: Path, tmp_path: Path) -> None:
    """A control that is trained half as long, its rates tried at that length; both stand in its ledger."""
    recipe = tmp_path / "recipe.yaml"
    text = GOOD.replace("./target", str(folder / "target")).replace("answers.jsonl", str(folder / "answers.jsonl"))
    recipe.write_text(text.replace("recipe: eagle}", "recipe: eagle, share: 0.5, search_share: 1.0}"))
    code, printed = run(recipe, tmp_path / "out")
    assert code == 0, printed
    found = ledger(tmp_path / "out" / "eagle-s0")
    assert found["budget"]["amount"] == 750
    assert found["used"]["tokens"] <= 750
    searches = [json.loads(path.read_text()) for path in (tmp_path / "out" / "searches").glob("eagle-*/result.json")]
    assert {search["settings"]["budget"]["amount"] for search in searches} == {750}
    assert {search["settings"]["data"]["num_samples"] for search in searches} == {found["data"]["num_samples"]}


def test_a_corpus_that_changed_before_its_features_were_complete_is_read_anew(folder: Path, tmp_path: Path) -> None:
    """The token files of an interrupted run are not taken for those of another corpus."""
    recipe, answers = tmp_path / "recipe.yaml", tmp_path / "answers.jsonl"
    lines = (folder / "answers.jsonl").read_text().splitlines()
    recipe.write_text(ONE_DRAFT.replace("./target", str(folder / "target")))
    answers.write_text("\n".join(lines) + "\n")
    run(recipe, tmp_path / "out")
    (tmp_path / "out" / "features" / "index.json").unlink()
    for path in (tmp_path / "out").glob("*-s*/*"):
        path.unlink()
    answers.write_text("\n".join(lines[:20]) + "\n")
    code, printed = run(recipe, tmp_path / "out", resume=True)
    assert code == 0, printed
    run(recipe, tmp_path / "new")
    assert ledger(tmp_path / "out" / "eagle-s0")["data"] == ledger(tmp_path / "new" / "eagle-s0")["data"]


def test_two_processes_train_what_one_does(trained: tuple[Path, str], folder: Path) -> None:
    """The same recipe under a launcher: the losses are those of one process, up to rounding."""
    out = folder / "two"
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command = [sys.executable, *launcher, "bench.py", "train", str(folder / "recipe.yaml"), "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("eagle-s0", "medusa-s5"):
        one, two = (
            [json.loads(line) for line in (each / name / "loss.jsonl").read_text().splitlines()]
            for each in (trained[0], out)
        )
        assert ledger(out / name)["num_processes"] == 2
        assert [line["tokens"] for line in two] == [line["tokens"] for line in one]
        for ours, theirs in zip(two, one, strict=True):
            assert ours["loss"] == pytest.approx(theirs["loss"], rel=2e-2)
            assert ours["flops"] == pytest.approx(theirs["flops"], rel=0.1)


def test_a_process_waits_for_the_corpora_of_its_own_run(tmp_path: Path) -> None:
    """What an earlier run has left is not taken, even before the first process has removed it."""
    ready = tmp_path / "ready.json"
    ready.write_text('{"corpus": "an earlier run\'s"}')
    os.utime(ready, (1e9, 1e9))
    later = threading.Timer(1.5, ready.write_text, ['{"corpus": "this run\'s"}'])
    later.start()
    assert read_ready(tmp_path, first=False) == {"corpus": "this run's"}
    later.join()


def _loaded(path: Path) -> tuple[Any, Path, Any]:
    training, lines = load_training(path)
    return training, path, lines


@pytest.mark.parametrize("name", list(recipes()))
def test_a_recipe_without_options_is_trained_as_it_is(folder: Path, tmp_path: Path, name: str) -> None:
    """Its own options hold where a recipe file gives none: stacked-2 has two layers."""
    path = tmp_path / "recipe.yaml"
    (tmp_path / "answers.jsonl").write_text("")
    path.write_text(GOOD.replace("recipe: eagle}", f"recipe: {name}}}"))
    found, own = resolve_drafts(*_loaded(path), 12)["eagle"], recipes()[name]
    config = json.loads((folder / "target" / "config.json").read_text()) | {"num_hidden_layers": 12}
    assert found.config(config) == own.config(config)
    assert found.summary == own.summary
    assert [phase.objective for phase in found.phases] == [phase.objective for phase in own.phases]


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("  axis: tokens", "  axis: token", 6, "is 'token'; allowed: tokens, steps, flops. Did you mean tokens?"),
        ("  amount: 1500", "  amount: 0", 7, "budget.amount is 0; input should be greater than 0"),
        ("  amount: 1500", "  amount: 1500\n  stop: 3", 8, "budget.stop is not known here; allowed: amount, axis,"),
        ("dtype: float32\nseeds", "seeds", 1, "dtype is missing; it has no default, so the recipe must say it."),
        ("tokens: answers.jsonl", "tokens: none.jsonl", 4, "there is no file"),
        (
            "tokens: answers.jsonl", "sources: [{name: own, source: prompts, path: none.txt}], sampling: "
            "{temperature: 0, max_tokens: 8, seed: 0}", 4, "paths are relative to the recipe.",
        ),
        ("tokens: answers.jsonl", "sampling: null", 4, "give either sources or tokens"),
        ("recipe: eagle}", "recipe: eagel}", 13, f"drafts[0].recipe is eagel; allowed: {RECIPES}. Did you mean eagle?"),
        ("num_heads: 2", "num_head: 2", 14, "drafts[1].options.num_head is not known to medusa; allowed: num_heads."),
        ("num_heads: 2", "num_heads: 0", 14, "greater than or equal to 1"),
        ("recipe: eagle}", "recipe: eagle, objective: {passes: 2}}", 13, "allowed: num_passes,"),
        ("recipe: eagle}", "recipe: eagle, objective: {num_passes: 1.5}}", 13, "num_passes is 1.5; allowed: a int"),
        ("recipe: eagle}", "recipe: eagle, objective: {num_passes: 0}}", 13, "num_passes is 0; allowed: 1 or more"),
        ("recipe: eagle}", "recipe: prism, objective: {num_passes: 6}}", 13, "allowed: 1 to 5, its draft steps"),
        ("recipe: eagle}", "recipe: eagle3, options: {layers: [1, 5]}}", 13, "the target has 6 layers"),
        ("recipe: eagle}", "recipe: prism, options: {step_to_module: [0, 2]}}", 13, "has to name every module"),
        ("name: medusa,", "name: eagle,", 1, "drafts[1].name is eagle, as an earlier one"),
    ],
)  # fmt: skip
def test_mistakes_in_a_recipe_are_told_with_file_and_line(
    folder: Path, tmp_path: Path, old: str, new: str, line: int, said: str
) -> None:
    """What was found, what is allowed, the nearest name."""
    (tmp_path / "answers.jsonl").write_text("")
    path = tmp_path / "recipe.yaml"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(SuiteError) as told:
        resolve_drafts(*_loaded(path), 6)
    assert said in str(told.value)
    assert str(told.value).startswith(f"{path}:{line}: ")


CHATS = [
    {"messages": [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]},
    {"prompt": "One?", "response": "Two."},
    {"text": "A text of its own."},
    {"messages": [{"role": "user", "content": "Hi."}]},
    {"messages": [{"role": "robot", "content": "Hi."}]},
    {
        "messages": [
            {"role": "user", "content": "A?"}, {"role": "assistant", "content": "B."},
            {"role": "user", "content": "C?"}, {"role": "assistant", "content": "D."},
        ]
    },
]  # fmt: skip


def test_conversations_and_texts_give_their_own_answers(tmp_path: Path) -> None:
    """Answers are marked turn by turn with the token that ends them; what has none is told with its place."""
    path = tmp_path / "chats.jsonl"
    path.write_text("".join(json.dumps(chat) + "\n" for chat in CHATS))
    workload = Workload.model_validate({"name": "own", "source": "chat_jsonl", "path": str(path)})
    renderer = ChatRenderer(EMBEDDED / "tiny" / "target")
    found = list(dialogues(workload, 0))
    told = [str(dialogue) for _, dialogue in found if isinstance(dialogue, HarnessError)]
    assert [text.split(": ")[0] for text in told] == [f"{path}:4", f"{path}:5"]
    good = [learnable(dialogue, renderer) for _, dialogue in found if not isinstance(dialogue, HarnessError)]
    answers = [[renderer.decode(each.ids[first:end]) for first, end in each.spans] for each in good]
    assert answers[0] == ["Hello."]
    assert answers[1] == ["Two."]
    assert answers[3] == ["B.", "D."]
    end = renderer.encode(renderer.end_of_turn)
    for each in good:
        assert each.ids[each.spans[-1][1] - 1 : each.spans[-1][1]] == end
    prompt = renderer.render([{"role": "user", "content": "Hi."}])
    assert good[0].ids[: good[0].spans[0][0]] == prompt
    assert renderer.decode(good[2].ids) == "A text of its own."


def test_a_corpus_of_its_own_answers_is_trained_on(tmp_path: Path) -> None:
    """From chats to a checkpoint, though another draft fails; the ledger says whose answers they are."""
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in CHATS * 3))
    (tmp_path / "recipe.yaml").write_text(
        "version: 1\nname: own\ntarget: {model: tiny, dtype: float32}\n"
        "corpus:\n  responses: corpus\n  sources: [{name: own, source: chat_jsonl, path: chats.jsonl}]\n"
        "budget: {axis: steps, amount: 2, learning_rates: [0.01]}\ndtype: bfloat16\n"
        "drafts:\n  - {name: many, recipe: eagle, num_samples: 99}\n  - {name: medusa, recipe: medusa}\n"
    )
    code, printed = run(tmp_path / "recipe.yaml", tmp_path / "out")
    assert code == 1
    assert "FAILED: many: num_samples is 99, but the corpus leaves 11 to learn from. Lower it." in printed
    assert "left out 6 malformed records of own" in printed
    data = ledger(tmp_path / "out" / "medusa-s0")["data"]
    assert (data["responses"], data["left_out"]) == ("corpus", {"malformed records of own": 6})
