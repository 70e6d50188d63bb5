"""Manifests: typed facts, and readers for what older runs and redacted ones left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from draftbench.harness.errors import RecordError
from draftbench.harness.host.provenance import suite_sha256
from draftbench.harness.manifest import MANIFEST, Manifest
from draftbench.harness.places import PUBLISHED
from draftbench.harness.store import RunStore
from draftbench.harness.suite import load_suite
from draftbench.reports.redact import Redactor
from tests.fakes.known import receipt, rewritten, suite_object

ARMS = [{"name": "vanilla", "architecture": "vanilla"}, {"name": "far", "endpoint": "http://10.0.0.5:8000"}]


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob(f"*/{MANIFEST}")), ids=lambda path: path.parent.name)
def test_published_manifests_are_read_as_they_were_written(path: Path) -> None:
    """Their suites are suites of today's, their hashes those of what was recorded, and nothing of it is lost."""
    content = json.loads(path.read_text())
    found = Manifest.read(path.parent)
    assert found.recorded == content
    assert found.suite_sha256 == suite_sha256(content["suite"])
    assert [arm.name for arm in found.suite.arms] == [arm["name"] for arm in content["suite"]["arms"]]
    assert found.host.said() == content["host"]
    assert found.model_dump()["workloads"] == content.get("workloads", {})
    assert {name: told.server_args for name, told in found.engines.items()} == {
        name: told["server_args"] for name, told in content.get("engines", {}).items()
    }


def test_facts_are_added_and_the_others_stay(tmp_path: Path) -> None:
    """What another draftbench wrote too; a new run's manifest holds the suite with all its settings."""
    suite = load_suite(Path("suites/quickstart.yaml"))
    store = RunStore.create(tmp_path, Manifest(suite=suite, suite_sha256="s"))
    assert json.loads((tmp_path / MANIFEST).read_text()) == {
        "suite": json.loads(suite.model_dump_json()), "suite_sha256": "s",
    }  # fmt: skip
    with rewritten(tmp_path) as manifest:
        manifest["of_another"] = 1
    store.note_engines({"a": receipt("EAGLE", page_size=1)})
    store.note_engines({"b": receipt()})
    store.note(finished=True)
    content = json.loads((tmp_path / MANIFEST).read_text())
    assert (content["of_another"], content["finished"], list(content["engines"])) == (1, True, ["a", "b"])
    assert store.manifest().engines["a"] == receipt("EAGLE", page_size=1)
    assert store.manifest().suite == suite
    with pytest.raises(AssertionError):
        store.note(finnished=True)


def test_an_address_that_was_redacted_is_no_mistake_of_the_suite() -> None:
    """The report goes on showing the word that stands for it."""
    hidden = Redactor(()).value({"suite": suite_object(ARMS)})
    found = Manifest.of(hidden)
    assert hidden["suite"]["arms"][1]["endpoint"] == "URL"
    assert found.suite.arms[1].endpoint == "URL"
    assert found.suite.arms[1].is_endpoint


def test_settings_that_came_later_mean_what_was_done_before() -> None:
    """Arms took turns cell by cell before a suite could say it, whatever is the default now."""
    suite = suite_object(ARMS)
    assert "turns" not in suite
    assert Manifest.of({"suite": suite}).suite.turns == "cells"
    assert Manifest.of({"suite": {**suite, "turns": "prompts"}}).suite.turns == "prompts"


def test_facts_are_typed_whichever_draftbench_said_them() -> None:
    """An older one, which did not count skipped records, and a later one, which says more of a host."""
    content: dict[str, Any] = {
        "suite": suite_object(ARMS),
        "host": {"cpu": "a processor", "gpu": "none", "microcode": 7},
        "workloads": {"w": {"source": "synthetic", "num_prompts": 3}},
        "endpoints": {"far": {"tp_size": 2, "version": "0.6", "incremental_streaming_output": True}},
    }
    found = Manifest.of(content)
    assert (found.host.device, found.host.cores) == ("a processor", None)
    assert found.host.said() == {"cpu": "a processor", "gpu": "none"}
    assert found.recorded["host"] == content["host"]
    assert (found.workloads["w"].num_prompts, found.workloads["w"].num_skipped) == (3, None)
    assert found.endpoints["far"].said() == content["endpoints"]["far"]
    again = Manifest.of(json.loads(json.dumps(found.noting(finished=True).recorded, default=str)))
    assert (again.host, again.workloads, again.endpoints) == (found.host, found.workloads, found.endpoints)
    with pytest.raises(ValidationError, match="frozen"):
        found.host.cpu = "another"  # type: ignore[misc]


def test_what_cannot_be_read_is_told_with_its_place() -> None:
    """By file and key, with what to do."""
    with pytest.raises(RecordError, match=r"run/manifest\.json: suite\.blocks: .*Report the run with the draftbench"):
        Manifest.of({"suite": suite_object(ARMS, blocks="many")}, "run/manifest.json")
    with pytest.raises(RecordError, match=r"manifest\.json: host\.cores: Input should be a valid integer"):
        Manifest.of({"suite": suite_object(ARMS), "host": {"cores": "many"}})
    with pytest.raises(RecordError, match="no manifest of a run"):
        Manifest.of({"suite": "quickstart"})
