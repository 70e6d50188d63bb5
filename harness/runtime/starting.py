"""An arm's engine between its start and its first request, waited for and checked against the suite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from draftbench.drafts.api import DraftSpec, Loadable
from draftbench.harness.engine import Receipt
from draftbench.harness.errors import EngineError
from draftbench.harness.runtime.launch import SglangEngine
from draftbench.harness.suite import Arm

TREE_ARGUMENTS = ("speculative_num_steps", "speculative_eagle_topk", "speculative_num_draft_tokens")
"""They are the suite's tree, which `engine:` must not change."""


@dataclass(frozen=True)
class StartingArm:
    """An arm's engine that was started and is not ready yet."""

    arm: Arm
    spec: DraftSpec
    loadable: Loadable | None
    engine: SglangEngine

    def ready(self) -> SglangEngine:
        """Wait until it is ready and what it should be.

        Raises:
            EngineError: it did not start, or runs something else than the suite says; it has ended.
        """
        try:
            self.engine.wait_ready()
            check_receipt(self.arm, self.spec, self.loadable, self.engine.receipt)
        except BaseException as error:
            self.engine.stop()
            if isinstance(error, EngineError):
                raise EngineError(f"arm {self.arm.name}: {error}") from error
            raise
        return self.engine

    def stop(self) -> None:
        """End it and everything it started."""
        self.engine.stop()


def check_receipt(arm: Arm, spec: DraftSpec, loadable: Loadable | None, receipt: Receipt) -> None:
    algorithm, draft_class = spec.algorithm_of(loadable), spec.class_of(loadable)
    if receipt.algorithm != algorithm:
        raise EngineError(f"the engine runs algorithm {receipt.algorithm}, not {algorithm}.")
    if draft_class is not None and receipt.draft_class != draft_class:
        raise EngineError(
            f"the engine loaded the draft as {receipt.draft_class}, not {draft_class}; "
            'check "architectures" in its config.json.'
        )
    if loadable is not None and receipt.draft_facts != dict(loadable.facts):
        raise EngineError(f"the engine's draft says {receipt.draft_facts}, its checkpoint {dict(loadable.facts)}.")
    alphas = arm.simulated_acceptance
    by_workload = {name: list(shares) for name, shares in alphas.items()} if isinstance(alphas, dict) else None
    if receipt.simulated_acceptance != (by_workload or (list(alphas) if alphas else None)):
        raise EngineError(f"the engine simulates acceptance {receipt.simulated_acceptance}, not as the suite says.")
    if arm.tree is None or not spec.drafts:
        return
    options = spec.options.model_validate(arm.options)
    for name, wanted in spec.engine_arguments(arm.tree, options).items():
        found = receipt.server_args.get(name)
        meant = name in arm.engine and name not in TREE_ARGUMENTS
        if found != wanted and not meant and not isinstance(wanted, Mapping):
            raise EngineError(f"the engine resolved {name} to {found}, the suite says {wanted}.")
    rule = getattr(options, "acceptance_rule", None)
    if receipt.acceptance_rule != rule:
        raise EngineError(f"the engine accepts by the rule {receipt.acceptance_rule}, the suite says {rule}.")
    steps = getattr(options, "adaptive_steps", None)
    if receipt.adaptive_steps != steps:
        raise EngineError(f"the engine changes between {receipt.adaptive_steps} draft steps, the suite says {steps}.")
