"""Inside the scheduler process: which passes were captured as CUDA graphs, and which of a run's passes ran in one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from draftbench.harness.runtime.events import RoundLog

DRAFT_RUNNERS = {"draft": "cuda_graph_runner", "extend": "cuda_graph_runner_for_draft_extend"}
"""Where SGLang 0.5.17 keeps the draft's graphs (speculative/eagle_worker_v2.py)."""


def graph_runners(scheduler: Any) -> dict[str, Any]:
    """The runners that hold captured graphs, of target, draft and extend; a phase that has none is left out."""
    draft_worker = getattr(scheduler.draft_worker, "draft_worker", None)
    found = {"target": getattr(scheduler.tp_worker.model_runner, "decode_cuda_graph_runner", None)}
    found |= {phase: getattr(draft_worker, name, None) for phase, name in DRAFT_RUNNERS.items()}
    # The eager runner stands in where graphs are off; it has no captured sizes.
    return {phase: runner for phase, runner in found.items() if getattr(runner, "capture_bs", None)}


def captured_sizes(scheduler: Any) -> dict[str, list[int]]:
    """Batch sizes of each phase's captured graphs, for the receipt."""
    return {phase: [int(size) for size in runner.capture_bs] for phase, runner in graph_runners(scheduler).items()}


def record_graphs(log: RoundLog, scheduler: Any) -> None:
    """Write for every decode pass or round which of its phases ran in a graph; nothing where none were captured.

    The target's answer is SGLang's own (`can_run_cuda_graph` of the result); the draft's graphs are seen replaying.
    """
    runners = graph_runners(scheduler)
    if not runners:
        return
    replayed: set[str] = set()

    def noted(phase: str, execute: Callable[..., Any]) -> Callable[..., Any]:
        def replay(*args: Any, **kwargs: Any) -> Any:
            replayed.add(phase)
            return execute(*args, **kwargs)

        return replay

    for phase in DRAFT_RUNNERS:
        if phase in runners:
            runners[phase].execute = noted(phase, runners[phase].execute)
    worker = scheduler.model_worker
    forward = worker.forward_batch_generation

    def counted(batch: Any, *args: Any, **kwargs: Any) -> Any:
        prefills = batch.forward_mode.is_extend() or batch.is_extend_in_batch
        replayed.clear()
        result = forward(batch, *args, **kwargs)
        if not prefills:
            ran = replayed | ({"target"} if result.can_run_cuda_graph else set())
            log.graphs(*((phase in ran) if phase in runners else None for phase in ("target", *DRAFT_RUNNERS)))
        return result

    worker.forward_batch_generation = counted
