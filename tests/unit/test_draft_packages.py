"""Packages of others that drafts come from: in the manifest, compared, and the same when a run goes on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from draftbench.drafts import api
from draftbench.drafts.api import discover
from draftbench.harness.errors import RecordError
from draftbench.harness.host.draft_packages import draft_packages
from draftbench.harness.manifest import Manifest
from draftbench.harness.run.folder import open_store
from draftbench.harness.suite import Suite
from draftbench.reports.compare import manifest_differences
from draftbench.reports.manifest_differences import folded
from draftbench.reports.markdown import conditions
from tests.fakes.known import suite_object

SPEC = """
from dataclasses import replace
from draftbench.drafts.ngram.spec import SPEC as NGRAM
SPEC = replace(NGRAM, name="theirs")
"""
SUITE = suite_object(
    [
        {"name": "vanilla", "architecture": "vanilla"},
        {"name": "own", "architecture": "ngram", "num_steps": 3, "topk": 1, "num_draft_tokens": 4},
        {"name": "a", "architecture": "theirs", "num_steps": 3, "topk": 1, "num_draft_tokens": 4},
    ]
)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed package, as pip leaves it, with an architecture and a plugin for SGLang."""
    site = tmp_path / "site"
    (site / "their_draft").mkdir(parents=True)
    (site / "their_draft" / "__init__.py").write_text(SPEC)
    (site / "their_draft" / "engine.py").write_text("ALPHA = 1\n")
    info = site / "their_draft-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-draft\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(
        "[draftbench.drafts]\ntheirs = their_draft:SPEC\n[sglang.srt.plugins]\nspy = their_draft.engine:ALPHA\n"
    )
    monkeypatch.syspath_prepend(str(site))
    api.installed.cache_clear()
    yield site / "their_draft"
    api.installed.cache_clear()
    for name in [name for name in sys.modules if name.startswith("their_draft")]:
        del sys.modules[name]


def suite() -> Suite:
    return Manifest.of({"version": 1, "suite": SUITE, "suite_sha256": "0"}).suite


def test_packages_of_others_are_named_with_version_and_hash(package: Path) -> None:
    """Of the architectures that a suite has, and of every plugin that engines load; our own are the commit's."""
    found = draft_packages(["vanilla", "ngram", "theirs"], discover())
    assert list(found) == ["SGLang plugin spy", "theirs"]
    facts = found["theirs"]
    assert {**facts, "sha256": ""} == {
        "package": "their-draft", "version": "1.2", "entry_point": "their_draft:SPEC", "sha256": "",
    }  # fmt: skip
    assert list(draft_packages(["vanilla", "ngram"], discover())) == ["SGLang plugin spy"]
    (package / "__pycache__").mkdir(exist_ok=True)
    (package / "__pycache__" / "engine.cpython-311.pyc").write_bytes(b"compiled")
    assert draft_packages(["theirs"], discover())["theirs"] == facts
    (package / "engine.py").write_text("ALPHA = 2\n")
    assert draft_packages(["theirs"], discover())["theirs"]["sha256"] != facts["sha256"]


def test_without_packages_of_others_there_is_nothing_to_say() -> None:
    """All of draftbench's architectures."""
    assert draft_packages(discover(), discover()) == {}


def test_a_run_goes_on_with_the_same_code_only(package: Path, tmp_path: Path) -> None:
    """Silent where nothing changed; else the package, what it was and what it is."""
    open_store(suite(), tmp_path / "run", "test", "", resume=False)
    before = Manifest.read(tmp_path / "run")
    assert before.draft_packages["theirs"]["version"] == "1.2"
    told = dict(map(tuple, conditions(before, "0")))
    assert told["draft package of theirs"].startswith("their-draft 1.2 (SHA-256 ")
    open_store(suite(), tmp_path / "run", "test", "", resume=True)
    (package / "engine.py").write_text("ALPHA = 2\n")
    with pytest.raises(RecordError, match=r"SGLang plugin spy: the run was measured with their-draft 1\.2 \(SHA-256"):
        open_store(suite(), tmp_path / "run", "test", "", resume=True)


def test_an_older_run_that_does_not_say_goes_on(package: Path, tmp_path: Path) -> None:
    """Its manifest has no such field."""
    store = open_store(suite(), tmp_path / "run", "test", "", resume=False)
    known = {key: value for key, value in Manifest.read(tmp_path / "run").recorded.items() if key != "draft_packages"}
    store.write_manifest(Manifest.of(known))
    assert open_store(suite(), tmp_path / "run", "test", "", resume=True).session == 1


def test_two_runs_are_compared_by_their_packages(package: Path, tmp_path: Path) -> None:
    """A line of what can matter."""
    manifests = []
    for name, text in (("a", "ALPHA = 1\n"), ("b", "ALPHA = 2\n")):
        (package / "engine.py").write_text(text)
        open_store(suite(), tmp_path / name, "test", "", resume=False)
        manifests.append(Manifest.read(tmp_path / name).recorded)
    lines = folded(manifest_differences(*manifests))
    assert any(line.startswith("draft_packages.theirs.sha256: ") for line in lines)
    assert folded(manifest_differences(manifests[0], manifests[0])) == []
