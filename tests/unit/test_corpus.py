"""A training's corpus answered by the target: turn by turn, resumed, as far as it fits. The engine is played."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import draftbench.harness.corpora.answers
from draftbench.drafts.training.settings import load_training
from draftbench.harness.corpora.answers import Ask, Keep, prepare_corpus, write_outputs
from draftbench.harness.load.requests import Prompt
from draftbench.harness.models.find import EMBEDDED
from draftbench.harness.suite import Suite, load_suite
from draftbench.harness.workloads.render import ChatRenderer

TARGET = EMBEDDED / "tiny" / "target"
RENDERER = ChatRenderer(TARGET)
CHATS = [
    {"messages": [
        {"role": "user", "content": "First?"}, {"role": "assistant", "content": "The corpus's answer."},
        {"role": "user", "content": "Second?"}, {"role": "assistant", "content": "Another."},
    ]},
    {"messages": [{"role": "user", "content": "Only?"}]},
]  # fmt: skip
RECIPE = """\
version: 1
name: turns
target: {model: tiny, dtype: float32}
corpus:
  responses: target
  sources: [{name: chats, source: chat_jsonl, path: chats.jsonl}]
  sampling: {temperature: 0, max_tokens: 8, seed: 0}
budget: {axis: steps, amount: 2, learning_rates: [0.01]}
dtype: float32
drafts: [{name: medusa, recipe: medusa}]
"""


class Played:
    """A target that answers every prompt by how many it has been asked."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.asked: list[Prompt] = []
        self.fails_at = fails_at

    @contextmanager
    def asking(self, suite: Suite, folder: Path, announce: Any) -> Iterator[tuple[Ask, ChatRenderer, Suite]]:
        def ask(prompts: Sequence[Prompt], keep: Keep) -> None:
            for prompt in prompts:
                if len(self.asked) == self.fails_at:
                    raise KeyboardInterrupt
                self.asked.append(prompt)
                text = f"answer to {RENDERER.decode(prompt.prompt_ids).split()[-1]}{RENDERER.end_of_turn}"
                keep(prompt, SimpleNamespace(output_ids=RENDERER.encode(text)))  # type: ignore[arg-type]

        yield ask, RENDERER, suite


def prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, played: Played, text: str = RECIPE) -> tuple[Any, Any]:
    """The corpus's lines and what is said of it."""
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in CHATS))
    (tmp_path / "recipe.yaml").write_text(text)
    training, _ = load_training(tmp_path / "recipe.yaml")
    monkeypatch.setattr(draftbench.harness.corpora.answers, "asking", played.asking)
    path, facts = prepare_corpus(training, training.corpus, "corpus", TARGET, tmp_path, lambda text: None)
    return [json.loads(line) for line in path.read_text().splitlines()], facts


def test_later_turns_follow_the_targets_own_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each turn is a sample; what stands before it is what the target said, not what the corpus holds."""
    lines, facts = prepare(tmp_path, monkeypatch, Played())
    prompts = [RENDERER.decode(line["prompt_ids"]) for line in lines]
    assert len(lines) == 3
    (second,) = [prompt for prompt in prompts if "Second?" in prompt]
    assert "answer to" in second
    assert "First?" in second
    assert not any("The corpus's" in prompt for prompt in prompts)
    assert facts["left_out"] == {}


def test_an_interrupted_corpus_asks_only_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the interruption came between two turns; the corpus is that of one go."""
    (tmp_path / "whole").mkdir()
    whole, _ = prepare(tmp_path / "whole", monkeypatch, Played())
    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path, monkeypatch, Played(fails_at=2))
    rest = Played()
    lines, _ = prepare(tmp_path, monkeypatch, rest)
    assert [prompt.turn for prompt in rest.asked] == [1]
    assert lines == whole


def test_a_conversation_ends_where_it_no_longer_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its earlier turns are learned from, and the reason is counted."""
    first, second = sorted(len(line["prompt_ids"]) for line in prepare(tmp_path, monkeypatch, Played())[0])[-2:]
    assert second > first
    text = RECIPE.replace("path: chats.jsonl}]", f"path: chats.jsonl}}]\n  longest: {second + 7}")
    (tmp_path / "cut").mkdir()
    lines, facts = prepare(tmp_path / "cut", monkeypatch, Played(), text)
    assert len(lines) == 2
    assert facts["left_out"] == {f"prompts of chats that leave no room for 8 tokens in {second + 7}": 1}


def test_outputs_hold_every_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`bench.py outputs` writes what a recipe's `tokens` reads."""
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in CHATS))
    text = Path("suites/selftest.yaml").read_text()
    workloads = text[text.index("workloads:") : text.index("sampling:")]
    suite = tmp_path / "suite.yaml"
    suite.write_text(text.replace(workloads, "workloads: [{name: chats, source: chat_jsonl, path: chats.jsonl}]\n"))
    monkeypatch.setattr(draftbench.harness.corpora.answers, "asking", Played().asking)
    with (tmp_path / "out.jsonl").open("w") as out:
        write_outputs(load_suite(suite), tmp_path, out, lambda text: None)
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 3
