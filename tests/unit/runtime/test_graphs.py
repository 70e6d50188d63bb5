"""CUDA graphs as an engine would tell of them: fakes in the places where SGLang 0.5.17 keeps its runners."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from draftbench.harness.records import GraphUse
from draftbench.harness.runtime.events import RoundLog
from draftbench.harness.runtime.graphs import captured_sizes, record_graphs
from draftbench.harness.runtime.launch import SglangEngine
from draftbench.harness.runtime.plugin import ROUNDS


class Runner:
    """Captured graphs; `execute` replays one."""

    def __init__(self, *sizes: int) -> None:
        self.capture_bs = list(sizes)

    def execute(self, batch: Any) -> None:
        pass


class Worker:
    """A round that drafts in a graph where the batch is small enough."""

    def __init__(self, drafts: Any = None) -> None:
        self.draft_worker = drafts

    def forward_batch_generation(self, batch: Any) -> Any:
        runner = getattr(self.draft_worker, "cuda_graph_runner", None)
        if runner is not None and batch.size <= max(runner.capture_bs):
            runner.execute(batch)
        return SimpleNamespace(can_run_cuda_graph=batch.size <= 4)


def batch(size: int, prefill: bool = False) -> Any:
    return SimpleNamespace(size=size, is_extend_in_batch=False, forward_mode=SimpleNamespace(is_extend=lambda: prefill))


def scheduler(target: Any, drafts: Any = None) -> Any:
    worker = Worker(drafts)
    return SimpleNamespace(
        draft_worker=None if drafts is None else worker,
        tp_worker=SimpleNamespace(model_runner=SimpleNamespace(decode_cuda_graph_runner=target)),
        model_worker=worker,
    )


def use_of(tmp_path: Path, found: Any, batches: list[Any]) -> GraphUse | None:
    """What the harness reads after these batches."""
    record_graphs(RoundLog(tmp_path / ROUNDS), found)
    for each in batches:
        found.model_worker.forward_batch_generation(each)
    return SglangEngine(None, 1, tmp_path).take_events().graphs  # type: ignore[arg-type]  # the process is not asked


def test_rounds_in_graphs_are_counted_by_phase_and_prefills_are_not(tmp_path):
    """Three rounds, one of them too large for the draft's graphs, one for all; the extension has none."""
    drafts = SimpleNamespace(cuda_graph_runner=Runner(1, 2), cuda_graph_runner_for_draft_extend=None)
    found = scheduler(Runner(1, 2, 4), drafts)
    assert captured_sizes(found) == {"target": [1, 2, 4], "draft": [1, 2]}
    use = use_of(tmp_path, found, [batch(9, prefill=True), batch(1), batch(3), batch(8)])
    assert use == GraphUse(num_passes=3, target=2, draft=1, extend=None)


def test_vanilla_has_the_targets_graphs_alone(tmp_path):
    """Two passes of three in a graph."""
    found = scheduler(Runner(1, 4))
    use = use_of(tmp_path, found, [batch(1), batch(4), batch(5)])
    assert use == GraphUse(num_passes=3, target=2, draft=None, extend=None)


def test_an_engine_without_graphs_records_nothing(tmp_path):
    """The eager runner that stands in for graphs has no captured sizes."""
    found = scheduler(SimpleNamespace())
    assert captured_sizes(found) == {}
    assert use_of(tmp_path, found, [batch(1)]) is None
