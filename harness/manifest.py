"""What a run depended on: its suite as it was resolved, the host, and what engines and checkpoints said of themselves.

It is written when the run begins and again whenever more is known.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError

from draftbench.harness.corpora.contamination import Contamination
from draftbench.harness.engine import Receipt
from draftbench.harness.errors import RecordError
from draftbench.harness.facts import EndpointFacts, HostFacts, WorkloadFacts
from draftbench.harness.host.devices import Device
from draftbench.harness.models.fairness import Ledger
from draftbench.harness.records import SCHEMA_VERSION
from draftbench.harness.suite import Suite
from draftbench.harness.workloads.regular import JSON_BYTES, read_json

MANIFEST = "manifest.json"
HIDDEN_ADDRESS = "URL"
"""What redacting makes of an endpoint's address; no suite could be run with it."""
BEFORE_IT_WAS_SAID = {"turns": "cells"}
"""Settings that older suites do not have, and what was done then; later defaults may be others."""


class Manifest(BaseModel):
    """Facts of a run as far as they are known; `suite` is the only one that every manifest has."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: int = SCHEMA_VERSION
    suite: Suite
    suite_text: str = ""
    suite_sha256: str = "unknown"
    command: str = ""
    started_at: str = "unknown"
    git_commit: str = "unknown"
    host: HostFacts = HostFacts()
    packages: dict[str, str] = {}
    draft_packages: dict[str, dict[str, str]] = {}
    """Of architectures and SGLang plugins that others wrote: package, version, entry point, hash of their code."""
    finished: bool = False
    num_resumed: int = 0
    engine_starts: str | None = None
    """How engines were started."""
    engines: dict[str, Receipt] = {}
    """By arm; none of an arm whose launch has not ended."""
    devices: dict[int, Device] = {}
    """By launch, where launches were spread over devices."""
    endpoints: dict[str, EndpointFacts] = {}
    """By arm."""
    trained_tokens: dict[str, int] = {}
    """Positions that an arm's draft was made for, where the target has more."""
    models: dict[str, str] = {}
    """Hashes of the target's and the drafts' weights and configurations."""
    training: dict[str, Ledger | None] = {}
    """The ledger of each arm with weights; None where its checkpoint has none."""
    workloads: dict[str, WorkloadFacts] = {}
    contamination: Contamination | None = None

    _recorded: dict[str, Any] = PrivateAttr(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """The manifest of the run in a folder, whichever draftbench wrote it.

        Raises:
            RecordError: it is missing, no manifest, or of another version.
        """
        path = folder / MANIFEST
        if not os.path.exists(path):
            raise RecordError(f"{folder} holds no run (no {MANIFEST}); give the folder that a run wrote.")
        content = read_json(path, JSON_BYTES, RecordError)
        return cls.of(content, str(path))

    @classmethod
    def of(cls, content: Any, name: str = MANIFEST) -> Manifest:
        """From what manifest.json holds.

        Args:
            name: what errors call it.

        Raises:
            RecordError: as `read`.
        """
        if not isinstance(content, dict) or not isinstance(content.get("suite"), dict):
            raise RecordError(f"{name}: no manifest of a run; it has to hold the run's suite.")
        advice = "Report the run with the draftbench that made it (git_commit in its manifest)."
        version = content.get("version", SCHEMA_VERSION)
        if version != SCHEMA_VERSION:
            raise RecordError(f"{name}: version is {version}; this draftbench reads version {SCHEMA_VERSION}. {advice}")
        suite, addresses = _without_hidden({**BEFORE_IT_WAS_SAID, **content["suite"]})
        try:
            found = cls.model_validate_json(json.dumps({**content, "suite": suite}))
        except ValidationError as error:
            first = error.errors()[0]
            at = ".".join(map(str, first["loc"]))
            raise RecordError(f"{name}: {at}: {first['msg']}; this draftbench cannot read it. {advice}") from error
        arms = tuple(
            arm.model_copy(update={"endpoint": addresses[arm.name]}) if arm.name in addresses else arm
            for arm in found.suite.arms
        )
        found = found.model_copy(update={"suite": found.suite.model_copy(update={"arms": arms})})
        found._recorded = content
        return found

    @property
    def recorded(self) -> Mapping[str, Any]:
        """The object that manifest.json holds: what an older draftbench wrote stays as it was."""
        return self._recorded or self._object(self.model_fields_set)

    @property
    def sha256(self) -> str:
        """Hash of everything that manifest.json says, the suite's text and the engines' receipts too."""
        return hashlib.sha256(json.dumps(self.recorded, sort_keys=True, default=str).encode()).hexdigest()

    def _object(self, names: Iterable[str]) -> dict[str, Any]:
        """Fields as manifest.json has them."""
        found = self.model_dump(include=set(names))
        return found | ({"suite": self.suite.model_dump(mode="json")} if "suite" in found else {})

    def noting(self, **facts: Any) -> Manifest:
        """The manifest with further facts, or with others in their place.

        Args:
            facts: by field.
        """
        assert not facts.keys() - type(self).model_fields.keys(), facts.keys()
        known = {name: getattr(self, name) for name in self.model_fields_set}
        found = type(self).model_validate({**known, **facts})
        found._recorded = {**self.recorded, **found._object(facts)}
        return found


def _without_hidden(suite: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """A recorded suite without addresses that were redacted, and these by arm."""
    arms = suite.get("arms") or ()
    hidden = {arm["name"]: HIDDEN_ADDRESS for arm in arms if arm.get("endpoint") == HIDDEN_ADDRESS}
    shown = [{**arm, "endpoint": None} if arm.get("name") in hidden else arm for arm in arms]
    return {**suite, "arms": shown}, hidden
