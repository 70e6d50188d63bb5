"""`bench.py prompts`: what is sent, to whom and how, without a server or an engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from draftbench import bench
from draftbench.harness.models.find import EMBEDDED
from draftbench.harness.workloads.render import ChatRenderer

SUITE = """\
version: 1
name: own
target: {model: tiny, dtype: float32}
arms:
  - {name: vanilla, architecture: vanilla}
  - {name: ids, endpoint: "http://127.0.0.1:9", api: openai, model: m}
  - {name: chat, endpoint: "http://127.0.0.1:9", api: openai-chat, model: m}
workloads:
  - {name: talk, source: prompts, path: talk.jsonl, max_tokens: 5}
  - {name: sums, source: synthetic, family: arithmetic, num_prompts: 3}
sampling: {temperature: 0, max_tokens: 8, seed: 0}
load: [{concurrency: 1}]
blocks: 1
"""
TALK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say é."}]


def shown(tmp_path: Path, capsys: Any, *words: str) -> str:
    messages = [*TALK, {"role": "system", "content": "Louder."}, {"role": "user", "content": "Again."}]
    (tmp_path / "talk.jsonl").write_text(json.dumps({"id": "t", "messages": messages}))
    (tmp_path / "own.yaml").write_text(SUITE)
    assert bench.main(["prompts", str(tmp_path / "own.yaml"), *words]) == 0
    return str(capsys.readouterr().out)


def test_the_very_tokens_are_shown(tmp_path: Path, capsys: Any) -> None:
    """Rendered by the target's template, counted, with special tokens; as messages for a server that renders itself."""
    ids = ChatRenderer(EMBEDDED / "tiny" / "target").render(TALK)
    told = shown(tmp_path, capsys, "--ids")
    assert "<|system|>\nBe brief.<|end|>\n<|user|>\nSay é.<|end|>\n<|assistant|>" in told
    assert f"t, turn 1: {len(ids)} tokens" in told
    assert "ids: " + " ".join(map(str, ids)) in told
    assert "messages: " + json.dumps(TALK, ensure_ascii=False) in told
    assert 'turn 2, after the target\'s answer: [{"role": "system", "content": "Louder."}, {"role": "user"' in told
    assert "workload talk: 1 conversations of 2 turns" in told
    assert "outputs at most 5" in told


def test_arms_are_told_by_how_they_are_asked(tmp_path: Path, capsys: Any) -> None:
    """No server is asked; so many prompts are shown as are wanted, and ids only where they are."""
    told = shown(tmp_path, capsys, "--num", "2")
    assert "vanilla: sent as token ids" in told
    assert "ids: sent as token ids, to /v1/completions" in told
    assert "chat: sent as messages, to /v1/chat/completions, whose server renders them" in told
    assert told.count(", turn 1: ") == 3
    assert "\nids: " not in told.replace("ids: sent", "")
    assert shown(tmp_path, capsys, "--num", "0").count(", turn 1: ") == 0


def test_a_target_that_is_not_here_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Nothing is downloaded."""
    monkeypatch.setattr("draftbench.harness.commands.prompts.local_folder", lambda name, folder: None)
    (tmp_path / "talk.jsonl").write_text('{"prompt": "p"}')
    (tmp_path / "own.yaml").write_text(SUITE)
    assert bench.main(["prompts", str(tmp_path / "own.yaml")]) == 2
    assert "target tiny is not on this host" in " ".join(capsys.readouterr().err.split())
