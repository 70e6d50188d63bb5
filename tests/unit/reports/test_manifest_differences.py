"""What differs between two manifests, folded to what can matter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from draftbench.reports.compare import manifest_differences
from draftbench.reports.manifest_differences import LONGEST, folded

PUBLISHED = Path("reports/published")


def manifest(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((PUBLISHED / name / "manifest.json").read_text())
    return found


def test_what_is_alike_for_several_arms_is_one_line():
    """Engines' arguments that moved in all of them, or in some."""
    lines = [f"engines.{arm}.server_args.page_size: 1 → 16" for arm in ("eagle", "hass")]
    lines += ["engines.hass.torch: 2.11 → 2.13"]
    assert folded(lines) == [
        "engines.(eagle, hass).server_args.page_size: 1 → 16",
        "engines.hass.torch: 2.11 → 2.13",
    ]


def test_settings_come_before_hosts_and_ledgers_are_counted():
    """What a user chose first; how drafts were trained in a line each."""
    lines = [
        "host.cores: 2 → 16",
        "suite.arms[hass].num_steps: 3 → 5",
        *(f"training.hass.learning_rates[{n}].loss: {n} → 2" for n in range(1500)),
        "training.prism.seed: 0 → 1",
    ]
    assert folded(lines) == [
        "suite.arms[hass].num_steps: 3 → 5",
        "host.cores: 2 → 16",
        "training.hass: 1500 facts differ",
        "training.prism: 1 fact differs",
    ]


def test_an_arm_of_one_run_is_one_line():
    """Its engine's two hundred arguments and its training are not asked for then; nor are a workload's hashes."""
    lines = [
        "engines.prism.server_args.page_size: – → 1",
        "engines.prism.torch: – → 2.13",
        "models.draft prism: – → abc",
        "suite.arms[prism].architecture: – → prism",
        "suite.arms[prism].topk: – → 4",
        "training.prism.seed: – → 0",
        "workloads.code.num_prompts: 6 → –",
        "workloads.code.source: synthetic → –",
        "workloads.sums.num_prompts: 6 → 8",
    ]
    assert folded(lines) == [
        "suite.arms[prism]: only in run B",
        "workloads.code: only in run A",
        "workloads.sums.num_prompts: 6 → 8",
    ]


def test_two_hosts_runs_differ_in_a_page_and_not_in_thousands_of_lines():
    """Runs of a laptop and of a GPU host, of other suites: still to be read."""
    lines = manifest_differences(manifest("quickstart-cpu"), manifest("lossless-h200"))
    told = folded(lines)
    assert len(lines) > 300
    assert len(told) < 60
    assert any(line.startswith("host.gpu") for line in told)
    assert any(line.startswith("packages.torch") for line in told)
    assert max(map(len, told)) <= LONGEST
    assert folded([]) == []
