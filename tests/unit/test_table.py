"""`bench.py table`, and an arm that names what it wrote: made for the target's token ids, or refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from draftbench import bench
from draftbench.drafts.api import discover
from draftbench.harness.corpora.trigrams import load_table
from draftbench.harness.errors import CheckpointError, SuiteError
from draftbench.harness.host.provenance import file_sha256
from draftbench.harness.models.find import EMBEDDED
from draftbench.harness.runtime.fleet import SglangFleet, find_fleet
from draftbench.harness.suite import load_suite

TARGET = EMBEDDED / "tiny" / "target"
SUITE = """version: 1
name: t
target: {model: %s, dtype: float32}
arms:
  - {name: vanilla, architecture: vanilla}
  - {name: a, architecture: %s, checkpoint: table, num_steps: 4, topk: 12, num_draft_tokens: 25}
workloads: [{name: w, source: synthetic, family: code, num_prompts: 1}]
sampling: {temperature: 0, max_tokens: 8, seed: 0}
load: [{concurrency: 1}]
blocks: 1
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a table of two samples."""
    lines = [{"prompt_ids": [5, 6], "output_ids": [7, 8]}, {"ids": [5, 6, 9], "spans": []}]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert table(tmp_path) == 0
    return tmp_path


def table(folder: Path, *more: str) -> int:
    return bench.main(
        ["table", str(folder / "corpus.jsonl"), "--target", "tiny", "--out", str(folder / "table"), *more]
    )


def arms_of(folder: Path, target: str = "tiny", architecture: str = "adaptive_trigram") -> SglangFleet:
    (folder / "suite.yaml").write_text(SUITE % (target, architecture))
    return find_fleet(load_suite(folder / "suite.yaml"), discover(), folder, folder / "run", False)


def changed(folder: Path, **fields: Any) -> None:
    path = folder / "table" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_a_table_says_what_it_was_made_of(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Counts, the corpus's hash and its tokens, where reports and suites look for them."""
    assert load_table(folder / "table").successors(5, 6) == {7: 0.5, 9: 0.5}
    ledger = json.loads((folder / "table" / "training.json").read_text())
    sha256 = file_sha256(folder / "corpus.jsonl")
    assert ledger["data"] == {"corpus_sha256": sha256, "num_samples": 2, "num_tokens": 7}
    arms = arms_of(folder)
    facts = {"proposer": "AdaptiveTrigram", "table_pairs": 2, "table_corpus": sha256}
    assert dict(arms.loadables["a"].facts) == facts
    assert {"draft a"} <= arms.hashes().keys()
    assert "speculative_draft_model_path" not in arms.arguments("a")
    shutil.rmtree(folder / "table")
    assert table(folder) == 0
    assert "2 pairs with 3 successors of 7 tokens" in capsys.readouterr().out


def test_a_table_is_not_written_over(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor is anything else that is there; wrong arguments are named, too."""
    assert table(folder) == 2
    assert "is there already" in capsys.readouterr().err
    shutil.rmtree(folder / "table")
    (folder / "corpus.jsonl").write_text('{"ids": [1, 2]}\n')
    assert table(folder) == 2
    assert "no sample has three tokens" in capsys.readouterr().err
    (folder / "corpus.jsonl").unlink()
    assert table(folder) == 2
    assert "cannot be read" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        table(folder, "--successors", "0")
    assert not (folder / "table").exists()


def test_another_targets_table_is_refused(folder: Path) -> None:
    """Of equal size, too: one token that is another's number changes the vocabulary's hash."""
    other = shutil.copytree(TARGET, folder / "other")
    text = (other / "tokenizer.json").read_text()
    tokens = json.loads(text)
    vocabulary = tokens["model"]["vocab"]
    first, second = list(vocabulary)[300:302]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (other / "tokenizer.json").write_text(json.dumps(tokens))
    with pytest.raises(CheckpointError, match=r"arm a: .*made for the token ids of another target"):
        arms_of(folder, str(other))
    (other / "tokenizer.json").write_text(json.dumps(json.loads(text), indent=3))
    assert arms_of(folder, str(other)).loadables


def test_what_is_no_table_is_refused(folder: Path) -> None:
    """A draft's weights, another vocabulary's size, tensors that config.json does not name, another architecture."""
    changed(folder, vocab_size=4096)
    with pytest.raises(CheckpointError, match="vocab_size is 4096, but the target"):
        arms_of(folder)
    changed(folder, vocab_size=2048, num_pairs=3)
    with pytest.raises(CheckpointError, match=r"pairs_P has shape \[2\], expected \[3\]"):
        arms_of(folder)
    changed(folder, architectures=["LlamaForCausalLM"])
    with pytest.raises(CheckpointError, match="no table of tri-grams"):
        arms_of(folder)
    with pytest.raises(SuiteError, match="checkpoint means nothing for prompt_lookup"):
        arms_of(folder, architecture="prompt_lookup")
