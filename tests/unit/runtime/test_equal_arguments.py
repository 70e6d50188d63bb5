"""Every architecture runs under equal conditions on a GPU, as SGLang's own code resolves its arguments there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from draftbench.drafts.api import discover
from draftbench.harness.models.find import EMBEDDED
from draftbench.harness.runtime.arguments import PER_PROCESS_ARGUMENTS, command_line, unequal_arguments
from draftbench.harness.runtime.cpu.environment import SHIM_FOLDER
from draftbench.harness.runtime.fleet import find_fleet
from draftbench.harness.suite import Suite
from tests.fakes import published

ROOT = Path(__file__).parents[3]
RECORDED = json.loads((Path(__file__).parent / "recorded_h200.json").read_text())["resolved"]
"""What receipts of an H200 said of three arms of this suite, before the sizes of graphs were set."""
CHECKPOINTS = {"eagle": "hass", "online": "standalone"} | {
    name: name for name in ("standalone", "s2d", "fspad", "eagle3", "medusa", "prism")
}
SUITE = {
    "version": 1,
    "name": "equal",
    "target": {"model": "tiny", "dtype": "bfloat16"},
    "arms": [{"name": "vanilla", "architecture": "vanilla"}],
    "workloads": [{"name": "arithmetic", "source": "synthetic", "family": "arithmetic", "num_prompts": 1}],
    "sampling": {"temperature": 0, "max_tokens": 128, "seed": 0},
    "load": [{"concurrency": 1}, {"concurrency": 8}],
    "blocks": 1,
    "max_total_tokens": 16384,
}


def arm(architecture: str, folder: Path) -> dict[str, Any]:
    """The architecture's arm, named after it, with its embedded draft if it has one, or one made in the folder."""
    found: dict[str, Any] = {"name": architecture, "architecture": architecture}
    if architecture in ("dflash", "dspark"):
        target = json.loads((EMBEDDED / "tiny" / "target" / "config.json").read_text())
        config = (published.dflash_config if architecture == "dflash" else published.dspark_config)(target)
        shapes = (published.block_shapes if architecture == "dflash" else published.dspark_shapes)(config)
        checkpoint = published.publish(folder / architecture, config, shapes)
        return found | {"checkpoint": str(checkpoint), "num_steps": 7, "topk": 1, "num_draft_tokens": 8}
    if architecture in CHECKPOINTS:
        found["checkpoint"] = f"tiny/{CHECKPOINTS[architecture]}"
    if architecture in ("standalone", "prompt_lookup"):
        return found | {"num_steps": 3, "topk": 1, "num_draft_tokens": 4}
    steps = 4 if architecture == "medusa" else 5
    return found if architecture == "vanilla" else found | {"num_steps": steps, "topk": 4, "num_draft_tokens": 16}


@pytest.fixture(scope="module")
def resolved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Every architecture's resolved arguments, and those of the recorded ones in the old way: `old vanilla`."""
    folder = tmp_path_factory.mktemp("drafts")
    suite = Suite.model_validate(SUITE | {"arms": [arm(name, folder) for name in discover() if name != "nextn"]})
    arms = find_fleet(suite, discover(), ROOT, tmp_path_factory.mktemp("run"), has_gpu=True)
    asked = {name: arms.arguments(name) for name in arms.by_name}
    shared = suite.model_copy(update={"target": suite.target.model_copy(update={"tensor_parallel": 2})})
    asked |= {f"two {name}": replace(arms, suite=shared).arguments(name) for name in arms.by_name}
    for family, config in published.NEXTN_CONFIGS.items():
        target = str(published.publish(folder / family, config, published.nextn_shapes(family)))
        tree = {"num_steps": 3, "topk": 1, "num_draft_tokens": 4, "checkpoint": target}
        own = [
            {"name": f"{family}-alone", "architecture": "vanilla"},
            {"name": family, "architecture": "nextn", **tree},
        ]
        suite = Suite.model_validate(SUITE | {"target": {"model": target, "dtype": "bfloat16"}, "arms": own})
        arms = find_fleet(suite, discover(), ROOT, tmp_path_factory.mktemp(family), has_gpu=True)
        asked |= {name: arms.arguments(name) for name in arms.by_name}
    for name in RECORDED:
        asked[f"old {name}"] = {key: value for key, value in asked[name].items() if key != "cuda_graph_bs_decode"}
    commands = {name: command_line(arguments) for name, arguments in asked.items()}
    # The shim, because torchvision's operators do not load here; what other tests told SGLang stays with them.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SGLANG_")}
    environment = kept | {"PYTHONPATH": os.pathsep.join((str(SHIM_FOLDER), str(ROOT)))}
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "fakes" / "feigned_gpu.py"],
        input=json.dumps(commands),
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def unequal(resolved: dict[str, dict[str, Any]], *names: str) -> list[str]:
    return unequal_arguments({name: resolved[name] for name in names}, {name: frozenset() for name in names})


def test_all_architectures_are_equal_and_on_a_gpu(resolved: dict[str, dict[str, Any]]) -> None:
    """Nothing differs but what concerns the draft."""
    names = [name for name in resolved if name in discover()]
    assert len(names) == len(discover()) - 1 >= 10  # nextn has targets of its own
    assert {resolved[name]["device"] for name in names} == {"cuda"}
    assert {resolved[name]["speculative_algorithm"] for name in names} >= {None, "EAGLE", "EAGLE3", "NGRAM"}
    assert unequal(resolved, *names) == []


def test_blocks_are_resolved_as_asked(resolved: dict[str, dict[str, Any]]) -> None:
    """SGLang takes a block for one step; both of its algorithms keep the tokens that the suite's tree has."""
    for name in ("dflash", "dspark"):
        found = resolved[name]
        assert (found["speculative_num_steps"], found["speculative_num_draft_tokens"]) == (1, 8)
        assert found["speculative_algorithm"] == name.upper()


@pytest.mark.parametrize("family", published.NEXTN_CONFIGS)
def test_a_targets_own_layer_is_resolved_beside_the_target(resolved: dict[str, dict[str, Any]], family: str) -> None:
    """NEXTN is EAGLE to SGLang, with the chain that was asked for; nothing else differs from the target alone."""
    found = resolved[family]
    assert (found["speculative_algorithm"], found["speculative_num_steps"]) == ("EAGLE", 3)
    assert unequal(resolved, family, f"{family}-alone") == []


def test_they_are_equal_over_two_gpus(resolved: dict[str, dict[str, Any]]) -> None:
    """And as on one but for the number of GPUs; nothing of the draft."""
    names = [name for name in resolved if name.startswith("two ")]
    assert len(names) == len(discover()) - 1
    assert {resolved[name]["tp_size"] for name in names} == {2}
    assert unequal(resolved, *names) == []
    for name in names:
        one = resolved[name.removeprefix("two ")]
        changed = {key for key, value in resolved[name].items() if value != one.get(key)}
        assert changed - PER_PROCESS_ARGUMENTS == {"tp_size"}, name


def test_an_arm_resolved_in_the_old_way_is_found(resolved: dict[str, dict[str, Any]]) -> None:
    """Left to SGLang, vanilla would capture graphs for other batch sizes than the arms of the suite."""
    assert unequal(resolved, "eagle", "medusa", "old vanilla") == [
        "cuda_graph_bs_decode differs: [1, 2, 3, 4, 6, 8] (eagle, medusa), None (old vanilla)",
        "cuda_graph_config.decode.max_bs differs: 8 (eagle, medusa), 256 (old vanilla)",
        "cuda_graph_config.decode.bs differs: [1, 2, 3, 4, 6, 8] (eagle, medusa), "
        "[1, 2, 4, 8, 12, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96,… (old vanilla)",
    ]


def test_left_to_sglang_the_sizes_of_graphs_alone_differ(resolved: dict[str, dict[str, Any]]) -> None:
    """So it was on an H200: vanilla against any draft, and no draft against another."""
    [found] = unequal(resolved, *(f"old {name}" for name in RECORDED))
    assert found.startswith("cuda_graph_config.decode.bs differs: [1, 2, 4, 8, 12, 16, 24,")
    assert "(old eagle, old ngram)" in found


def test_what_is_feigned_resolves_as_the_gpu_did(resolved: dict[str, dict[str, Any]]) -> None:
    """Every recorded value, character for character."""
    for name, recorded in RECORDED.items():
        assert {key: resolved[f"old {name}"][key] for key in recorded} == recorded
