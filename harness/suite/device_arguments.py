"""Devices that engines take: how many share a target, and which of the visible ones they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from draftbench.harness.suite.yaml_lines import Path_

if TYPE_CHECKING:
    from draftbench.harness.suite.arms import Arm
    from draftbench.harness.suite.schema import Suite

TENSOR_PARALLEL = "tp_size"
SHARED = (
    "dp_size", "pp_size", "ep_size", "dcp_size", "attn_cp_size", "moe_dp_size", "enable_dp_attention",
    "enable_dp_lm_head", "base_gpu_id", "gpu_id_step",
)  # fmt: skip
"""Engine arguments that place work on devices: an arm with more of them than another is no fair rival."""


def engines_of(suite: Suite) -> list[Arm]:
    """Arms that are engines of ours; an endpoint's devices are its own."""
    return [arm for arm in suite.arms if not arm.is_endpoint]


def shared_arguments(suite: Suite) -> Mapping[str, Any]:
    """The engine arguments that place work on devices, as all arms have them."""
    given = next((arm.engine for arm in engines_of(suite)), {})
    return {name: given[name] for name in SHARED if name in given}


def gpus_in_use(suite: Suite) -> tuple[int, ...]:
    """Numbers, among the visible GPUs, of those that an engine of this suite runs on; alike for every arm.

    Source: SGLang 0.5.17, entrypoints/engine.py and managers/data_parallel_controller.py: replicas beside each other,
    in each the pipeline's stages, in each stage the ranks that share layers. Attention's replicas are ranks of these.
    """
    given = shared_arguments(suite)
    ranks, stages = suite.target.tensor_parallel, int(given.get("pp_size", 1))
    replicas = 1 if given.get("enable_dp_attention") else int(given.get("dp_size", 1))
    first, step = int(given.get("base_gpu_id", 0)), int(given.get("gpu_id_step", 1))
    return tuple(
        first + replica * ranks * stages * step + stage * ranks + rank * step
        for replica in range(replicas)
        for stage in range(stages)
        for rank in range(ranks)
    )


def device_problems(suite: Suite) -> list[tuple[Path_, str]]:
    """Engine arguments by which arms would run on other devices than each other: where they stand, and what to do."""
    problems: list[tuple[Path_, str]] = []
    first = next(iter(engines_of(suite)), None)
    for index, arm in enumerate(suite.arms):
        if arm.is_endpoint or first is None:
            continue
        if TENSOR_PARALLEL in arm.engine:
            value = arm.engine[TENSOR_PARALLEL]
            text = f"is {value}, but all arms share the target's devices; give target.tensor_parallel: {value}."
            problems.append((("arms", index, "engine"), f"arms[{index}].engine.{TENSOR_PARALLEL} {text}"))
        for name in SHARED:
            ours, theirs = arm.engine.get(name), first.engine.get(name)
            if ours != theirs:
                text = f"is {_said(ours)}, and {_said(theirs)} for arm {first.name}; give all arms the same devices."
                problems.append((("arms", index, "engine"), f"arms[{index}].engine.{name} {text}"))
    return problems


def _said(value: Any) -> str:
    return "not given" if value is None else str(value)
