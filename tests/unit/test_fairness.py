"""Suites that require drafts to be alike: what is compared, who is exempt, and what is said before anything starts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from draftbench import bench
from draftbench.harness.errors import CheckpointError, SuiteError
from draftbench.harness.models.fairness import check_fairness, read_ledger, unfair
from draftbench.harness.models.find import EMBEDDED
from draftbench.harness.models.required import needs_of
from draftbench.harness.suite import Suite, load_suite, suite_schema

TREE = "num_steps: 3, topk: 2, num_draft_tokens: 6"
SUITE = f"""\
version: 1
name: fair
target: {{model: tiny, dtype: float32}}
arms:
  - {{name: vanilla, architecture: vanilla}}
  - {{name: lookup, architecture: prompt_lookup, {TREE}}}
  - {{name: eagle, architecture: eagle, checkpoint: tiny/eagle, {TREE}}}
  - {{name: hass, architecture: eagle, checkpoint: tiny/hass, {TREE}}}
workloads:
  - {{name: sums, source: synthetic, family: arithmetic, num_prompts: 4}}
sampling: {{temperature: 0, max_tokens: 32, seed: 0}}
load: [{{concurrency: 1}}]
blocks: 2
fairness:
  require: [data, tokens]
"""
MARK = "tuning: {configurations: 6, prompts_sha256: ab, run: tune-1}"


def suite(tmp_path: Path, require: str = "data, tokens", text: str = SUITE) -> Suite:
    path = tmp_path / "fair.yaml"
    path.write_text(text.replace("data, tokens", require))
    return load_suite(path)


def ledger(corpus: str = "a" * 64, tokens: int = 1_000_000, steps: int = 300) -> dict[str, Any]:
    return {"data": {"corpus_sha256": corpus}, "budget": {"num_steps": steps}, "num_entries_seen": tokens}


def test_drafts_trained_alike_pass(tmp_path):
    """Vanilla and a draft without weights have no ledger and need none; a batch's worth of tokens is no difference."""
    check_fairness(suite(tmp_path), {"eagle": ledger(), "hass": ledger(tokens=1_009_000)})


@pytest.mark.parametrize(
    ("require", "hass", "said"),
    [
        ("data, tokens", ledger(corpus="b" * 64), "has data, but the arms differ: aaaaaaaa (eagle); bbbbbbbb (hass)"),
        ("data, tokens", ledger(tokens=500_000), "has tokens, but the arms differ: 1,000,000 (eagle); 500,000 (hass)"),
        ("steps", ledger(steps=600), "has steps, but the arms differ: 300 (eagle); 600 (hass)"),
        ("data, tokens", None, "has data, tokens, but the training of hass is unknown: no training.json"),
        ("flops", ledger(), "has flops, but the training.json of eagle, hass does not say it"),
    ],
)
def test_what_differs_or_is_unknown_is_told_with_its_place(tmp_path, require, hass, said):
    """File, line, which requirement, which arms with which values, and what to do."""
    with pytest.raises(SuiteError) as caught:
        check_fairness(suite(tmp_path, require), {"eagle": ledger(), "hass": hass})
    assert str(caught.value).startswith(f"{tmp_path / 'fair.yaml'}:15: fairness.require ")
    assert said in str(caught.value)
    assert "--only" in str(caught.value)


def test_every_finding_is_told_at_once(tmp_path):
    """Another corpus and other tokens are two lines."""
    other = ledger(corpus="b" * 64, tokens=1)
    assert len(unfair(suite(tmp_path), {"eagle": ledger(), "hass": other})) == 2


def test_nothing_is_required_unless_the_suite_says_so(tmp_path):
    """Unknown trainings are only told in the report then."""
    assert unfair(suite(tmp_path, ""), {"eagle": None, "hass": ledger()}) == []


def test_trees_are_compared_for_drafts_without_weights_too(tmp_path):
    """A tree costs time whatever drafts it."""
    wider = SUITE.replace(f"prompt_lookup, {TREE}", "prompt_lookup, num_steps: 3, topk: 2, num_draft_tokens: 8")
    assert unfair(suite(tmp_path, "tree"), {}) == []
    assert "3 × 2, 6 (eagle, hass); 3 × 2, 8 (lookup)" in unfair(suite(tmp_path, "tree", wider), {})[0]


def test_tuning_is_for_all_or_for_none(tmp_path):
    """A draft is tuned if one of its arms is; a suite with default and tuned rows of every draft is fair."""
    lines = SUITE.splitlines()
    tuned = [line.replace("name: ", "name: tuned-").replace("}", f", {MARK}}}") for line in lines[5:8]]
    both = "\n".join([*lines[:8], *tuned, *lines[8:]]) + "\n"
    assert unfair(suite(tmp_path, "tuning"), {}) == []
    assert unfair(suite(tmp_path, "tuning", both), {}) == []
    one = unfair(suite(tmp_path, "tuning", both.replace(tuned[2] + "\n", "")), {})
    assert len(one) == 1
    assert "default (hass); tuned, 6 configurations, run tune-1 (eagle and tuned-eagle" in one[0]


@pytest.mark.parametrize(
    ("text", "said"), [("{", "training.json:1: not JSON"), ("[1]", "training.json: no JSON object")]
)
def test_a_broken_ledger_is_told(tmp_path, text, said):
    """It is not taken for an unknown training."""
    (tmp_path / "training.json").write_text(text)
    with pytest.raises(CheckpointError, match=said):
        read_ledger(tmp_path)


def test_what_a_ledger_says_in_another_way_is_not_known(tmp_path):
    """Fields of another kind are as good as none."""
    odd = {"data": "mine", "budget": [], "num_entries_seen": "many"}
    assert len(unfair(suite(tmp_path), {"eagle": odd, "hass": odd})) == 2


def test_a_misspelt_requirement_is_told(tmp_path):
    """With its line and what is allowed."""
    with pytest.raises(SuiteError, match=r"fair\.yaml:15: .*Did you mean tokens\?"):
        suite(tmp_path, "token")
    assert "Fairness" in suite_schema()["$defs"]


def copied_draft(tmp_path: Path, **changes: Any) -> str:
    """The suite with a copy of the embedded hass that has another ledger."""
    shutil.copytree(EMBEDDED / "tiny/hass", tmp_path / "mine")
    path = tmp_path / "mine/training.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return SUITE.replace("tiny/hass", "./mine")


def test_plan_and_doctor_say_beforehand_whether_drafts_are_alike(tmp_path):
    """Embedded drafts are; a copy with another count of tokens would be refused."""
    assert "fairness: data, tokens: alike for lookup, eagle, hass" in needs_of(suite(tmp_path), tmp_path)
    found = suite(tmp_path, text=copied_draft(tmp_path, num_entries_seen=7))
    assert any(line.startswith("fairness: REFUSED: fairness.require has tokens") for line in needs_of(found, tmp_path))


def test_a_run_is_refused_before_anything_starts(tmp_path, capsys):
    """Exit code 2, the place, and no folder of a run."""
    suite(tmp_path, text=copied_draft(tmp_path, num_entries_seen=7))
    assert bench.main([str(tmp_path / "fair.yaml"), "--out", str(tmp_path / "run")]) == 2
    assert f"{tmp_path / 'fair.yaml'}:15: fairness.require has tokens" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_an_endpoints_draft_cannot_be_held_to_a_requirement(tmp_path):
    """Nobody here knows what it drafts with."""
    server = "  - {name: prod, endpoint: 'http://127.0.0.1:9', api: sglang}\nworkloads:"
    found = unfair(suite(tmp_path, "tree", SUITE.replace("workloads:", server)), {})
    assert found == [
        "fairness.require has tree, but what prod drafts with is known to its server alone. Compare drafts that are "
        "alike (--only names them), or leave the requirement out."
    ]
