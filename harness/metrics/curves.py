"""Acceptance by step of each arm and workload, over all of a run's measured rounds: what a profile holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from draftbench.harness.metrics.acceptance import conditional_acceptance
from draftbench.harness.records import RequestRecord, Round


def acceptance_curves(
    requests: Iterable[RequestRecord], num_steps: Mapping[str, int]
) -> dict[str, dict[str, list[float]]]:
    """α_k by arm and workload, load points and blocks pooled; 0 where no round came so far, and so none would go on.

    Args:
        num_steps: draft steps of each arm that is wanted; of others nothing is counted.
    """
    rounds: dict[tuple[str, str], list[Round]] = defaultdict(list)
    for request in requests:
        if request.cell.arm in num_steps and request.error is None:
            rounds[request.cell.arm, request.cell.workload].extend(request.rounds or ())
    found: dict[str, dict[str, list[float]]] = {}
    for (arm, workload), seen in rounds.items():
        shares = conditional_acceptance(seen, num_steps[arm])
        if seen:
            found.setdefault(arm, {})[workload] = [share or 0.0 for share in shares]
    return found
