"""What plan and doctor say of a suite's models and sets, without a network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from draftbench.drafts.api import discover
from draftbench.harness.errors import CheckpointError
from draftbench.harness.host.doctor import diagnose_suite
from draftbench.harness.models import required
from draftbench.harness.models.find import EMBEDDED, local_folder, model_folder, read_config
from draftbench.harness.models.memory import Memory, kv_bytes
from draftbench.harness.models.required import ModelNeed, draft_needs, memory_need, model_needs, needs_of
from draftbench.harness.runtime.fleet import find_fleet
from draftbench.harness.suite import load_suite

TINY, REAL = load_suite(Path("suites/prism_paper-tiny.yaml")), load_suite(Path("suites/mt_bench.yaml"))


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """No hub and no cache of one."""
    monkeypatch.setattr(required, "hub_bytes", lambda name: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))


def test_embedded_models_and_local_files_are_here():
    """Sizes of folders, hashes of files; an example is not taken for the authors' file."""
    text = "\n".join(needs_of(TINY, Path("suites")))
    assert "target tiny: here" in text
    assert "draft prism ./examples/prism-ae/LD-800k: here" in text
    assert "examples/gsm8k.jsonl, SHA-256" in text
    assert "authors" not in text


def test_what_would_be_downloaded_is_said_with_its_size_where_known():
    """The target's size by the name it bears; drafts' sizes are not guessed."""
    lines = needs_of(REAL, Path("suites"))
    assert lines[0].endswith("not here; a run downloads it (16 GB, judged by its name)")
    assert next(line for line in lines if line.startswith("draft eagle3")).endswith("(size unknown)")
    assert any(
        line.startswith("workload mt_bench: downloaded once from lm-sys/FastChat@0e6d3e4beaab") for line in lines
    )


def test_every_draft_that_is_here_is_read_before_a_run(tmp_path):
    """By the run's own check: one that fits, one for fewer positions, one for another target."""
    for name, changes in (("good", {}), ("short", {"max_position_embeddings": 128}), ("other", {"vocab_size": 99})):
        shutil.copytree(EMBEDDED / "tiny" / "hass", tmp_path / name)
        config = {**read_config(tmp_path / name), **changes}
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    arm = next(arm for arm in TINY.arms if arm.architecture == "eagle")
    arms = [arm.model_copy(update={"name": n, "checkpoint": f"./{n}"}) for n in ("good", "short", "other")]
    suite = TINY.model_copy(update={"arms": (*arms, TINY.arms[0]), "workloads": TINY.workloads[:1]})
    assert draft_needs(suite, tmp_path)[:2] == [
        "draft good: fits",
        "draft short: fits; made for 128 tokens, beyond which expect worse acceptance",
    ]
    refused = draft_needs(suite, tmp_path)[2]
    assert refused.startswith("draft other: DOES NOT FIT: arm other: ")
    assert "vocab_size is 99, but the target's is 2048" in refused
    assert [finding.ok for finding in diagnose_suite(suite, tmp_path) if "draft other: " in finding.text] == [False]
    shutil.rmtree(tmp_path / "good")
    assert not [line for line in draft_needs(suite, tmp_path) if line.startswith("draft good")]


@pytest.mark.parametrize("name", ["prism_paper-tiny", "zoo", "quickstart"])
def test_the_drafts_of_the_projects_own_suites_fit(name):
    """Those that come with the project."""
    lines = draft_needs(load_suite(Path(f"suites/{name}.yaml")), Path("suites"))
    assert lines
    assert [line for line in lines if not line.endswith(": fits")] == []


def gpu(gigabytes: int) -> Memory:
    return Memory("GPU X", gigabytes * 10**9, gigabytes * 10**9, on_gpu=True)


def test_memory_is_judged_by_what_is_known():
    """Weights of the target and of the largest draft; a tenth of the memory is left to activations."""
    models = (ModelNeed("target", "t", None, 16 * 10**9), ModelNeed("draft a", "a", None, 2 * 10**9))
    assert "memory: fits" in memory_need(REAL, models, gpu(24))
    assert "DOES NOT FIT" in memory_need(REAL, models, gpu(19))
    unknown = (*models, ModelNeed("draft b", "b", None, None))
    assert "fits as far as sizes are known" in memory_need(REAL, unknown, gpu(24))
    assert "the target's size is unknown" in memory_need(REAL, (ModelNeed("target", "t", None, None),), gpu(1))


def test_plan_and_run_have_one_rule_for_memory(tmp_path):
    """How many engines `plan` says fit side by side is how many a run starts."""
    arms = find_fleet(TINY, discover(), Path("suites"), tmp_path, has_gpu=False)
    line = next(line for line in needs_of(TINY, Path("suites")) if line.startswith("memory: "))
    models = model_needs(TINY, Path("suites"))
    assert "memory: fits: an engine with the target" in line
    for gigabytes, together in ((1000, len(TINY.arms)), (6, 2), (2.5, 0)):
        here = Memory("this host", 10**12, int(gigabytes * 1e9), on_gpu=False)
        assert here.fitting(arms._engine_bytes()) >= together
        said = memory_need(TINY, models, here)
        assert ("DOES NOT FIT" in said) == (not together)
        assert not together or f"; {together} of {len(TINY.arms)} engines fit side by side" in said


def test_the_kv_pool_counts_keys_and_values_of_every_layer():
    """2 × 3 layers × 2 heads × 8 wide × 4 bytes × 8192 slots; None without the usual names."""
    config = {"num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 32}
    assert kv_bytes(config, TINY) == 2 * 3 * 2 * 8 * 4 * 8192
    assert kv_bytes({}, TINY) is None


def test_a_hub_id_with_its_commit_is_found_in_the_cache(tmp_path):
    """owner/name@commit names that snapshot and no other."""
    snapshot = tmp_path / "models--o--n" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    assert local_folder("o/n@" + "a" * 40, Path("suites")) == snapshot
    assert local_folder("o/n@" + "b" * 40, Path("suites")) is None


def test_a_folder_of_a_hub_id_is_a_model(tmp_path):
    """owner/name:folder, as authors publish several drafts in one repository."""
    snapshot = tmp_path / "models--o--n" / "snapshots" / ("a" * 40)
    (snapshot / "drafts" / "prism").mkdir(parents=True)
    (snapshot / "drafts" / "prism" / "config.json").write_text("{}")
    assert local_folder("o/n:drafts/prism@" + "a" * 40, Path("suites")) == snapshot / "drafts" / "prism"
    assert local_folder("o/n:drafts/hass@" + "a" * 40, Path("suites")) is None


def test_prompts_that_are_here_are_counted_and_the_longest_is_held_against_the_context(tmp_path):
    """The run's own check, before any engine: files and what is made here, not what would be downloaded."""
    lines = [line for line in needs_of(TINY, Path("suites")) if line.startswith("prompts of")]
    assert len(lines) == len(TINY.workloads)
    assert all(" 4; the longest request takes at most " in line for line in lines)
    workload = TINY.workloads[0].model_copy(update={"path": str(tmp_path / "w.jsonl"), "max_tokens": 5000})
    shutil.copyfile(TINY.workloads[0].path, workload.path)
    refused = needs_of(TINY.model_copy(update={"workloads": (workload,)}), Path("suites"))
    begin = f"prompts of {workload.name}: REFUSED: workload {workload.name}"
    assert [line for line in refused if line.startswith(begin)]
    broken = workload.model_copy(update={"path": str(tmp_path / "broken.jsonl")})
    Path(broken.path).write_text("not JSON\n")
    assert "REFUSED" in required.prompt_needs(TINY.model_copy(update={"workloads": (broken,)}), None)[0]
    assert required.prompt_needs(REAL, None) == []


def test_a_relative_name_that_is_no_folder_is_told_as_one_too(tmp_path, monkeypatch):
    """`drafts/x` looks like a hub id: in a rerun from elsewhere the message says which folder it would be."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=rf"Nor is there a folder {tmp_path}/drafts/x: .* in a rerun in --folder"):
        model_folder("drafts/x", tmp_path)
