"""Reasons why a figure must not be trusted, each with its evidence. What is invalid enters no mean or verdict."""

from __future__ import annotations

from collections.abc import Mapping

from draftbench.harness.metrics.arm_point import ArmPoint
from draftbench.harness.metrics.gates import conditions, drafting, target_outputs, timing, updating
from draftbench.harness.metrics.gates.gate import Finding, Gate

GATES: Mapping[str, Gate] = {
    gate.name: gate
    for gate in (
        conditions.FAILED_CELL,
        conditions.FAILURES,
        drafting.SILENT_NON_SPECULATION,
        drafting.NOTHING_ACCEPTED,
        conditions.UNEQUAL_PROMPTS,
        conditions.UNEQUAL_CACHE,
        conditions.PROMPT_TOKENS,
        conditions.UNEQUAL_SAMPLING,
        drafting.ENGINE_COUNTERS,
        drafting.LEFTOVER_STATE,
        drafting.UNSTEADY_ACCEPTANCE,
        timing.IMPOSSIBLE_SPEEDUP,
        timing.UNSTABLE_STEP_TIME,
        target_outputs.LOOPING_OUTPUTS,
        drafting.BEYOND_TRAINING,
        updating.FAILED_UPDATE,
        updating.LEARNT_PROMPTS,
        timing.LATE_SENDS,
        timing.LATE_CLIENT,
        timing.UNSTEADY_LOAD,
        target_outputs.MISSING_RECORDS,
        target_outputs.NOT_LOSSLESS,
        target_outputs.UNEXPLAINED_DIFFERENCE,
        target_outputs.UNTESTED_DISTRIBUTION,
        target_outputs.OTHER_DISTRIBUTION,
        conditions.SPLIT_BLOCK,
        target_outputs.LOSSY_SETTING,
        conditions.OWN_SETTINGS,
        drafting.SIMULATED_ACCEPTANCE,
        drafting.RANDOM_WEIGHTS,
        conditions.NOT_CHECKED,
        conditions.WARM_ENDPOINT,
        timing.HELD_BACK,
        timing.UNEQUAL_CLOCKS,
        timing.SHORT_ENERGY_WINDOW,
        timing.UNEQUAL_ENERGY_SOURCES,
    )
}
"""By name, in the order in which a row's findings are told."""


def find(at: ArmPoint) -> tuple[Finding, ...]:
    """Everything that is wrong with an arm at a point."""
    return tuple(Finding(gate, evidence) for gate in GATES.values() for evidence in gate.check(at))
