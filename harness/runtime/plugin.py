"""SGLang's entry point into draftbench (group `sglang.srt.plugins`).

It is called at the top of the server process and of every scheduler process. SGLang logs and swallows what it raises,
so the scheduler process writes a receipt at the end: a launch without one is refused.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from draftbench.harness.safe_files import write_whole

ENGINE_FOLDER = "DRAFTBENCH_ENGINE_FOLDER"
"""Environment variable: the folder where an engine leaves its receipt and rounds. Unset: the plugin does nothing."""
DRAFT = "DRAFTBENCH_DRAFT"
"""Environment variable: the arm's architecture, options, tree, checkpoint of a proposer, dtype and simulated
acceptance, as JSON."""
RECEIPT, ROUNDS = "receipt.json", "rounds.log"


def activate() -> None:
    """Prepare this process for measuring; does nothing in an SGLang that draftbench did not start."""
    folder = os.environ.get(ENGINE_FOLDER)
    if folder is None:
        return
    import torch

    if not torch.cuda.is_available():
        from draftbench.harness.runtime.cpu import install

        install()
    _record_in_scheduler(Path(folder))


def _record_in_scheduler(folder: Path) -> None:
    """Hook the scheduler's construction: only then are the resolved arguments and the draft's class known."""
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    def build(original: Any, scheduler: Any, *args: Any, **kwargs: Any) -> Any:
        import torch

        from draftbench.harness.runtime.adaptive_steps import adaptive_steps, forget_steps_on_flush
        from draftbench.harness.runtime.events import RoundLog
        from draftbench.harness.runtime.graphs import record_graphs
        from draftbench.harness.runtime.rounds import clock_of, record_accepted_drafts, record_phases
        from draftbench.harness.runtime.stops import stop_before_the_limit

        stop_before_the_limit()
        log = RoundLog(folder / ROUNDS)
        arm = json.loads(os.environ[DRAFT])
        simulation, exact = arm.pop("simulation"), arm.pop("dtype") == "float32"
        if exact and torch.cuda.is_available():
            from draftbench.harness.runtime.cuda import install_float32

            install_float32()
        install_architecture(**arm, on_failure=log.failed)
        if simulation is not None:
            from draftbench.harness.runtime.simulated import simulate_acceptance

            simulate_acceptance(**simulation)
        result = original(scheduler, *args, **kwargs)
        worker = scheduler.draft_worker
        if worker is not None:
            forget_steps_on_flush(worker)  # on every rank, or they would draft other numbers of steps
        if tells_rounds(scheduler.ps):
            record_graphs(log, scheduler)
            if worker is not None:
                record_accepted_drafts(log, adaptive_steps(worker) is not None)
                record_phases(log, worker, clock_of(scheduler.server_args.device))
        if tells_receipt(scheduler.ps):
            write_receipt(folder / RECEIPT, scheduler, simulation)
        return result

    HookRegistry.register("sglang.srt.managers.scheduler.Scheduler.__init__", build, HookType.AROUND)


def tells_rounds(rank: Any) -> bool:
    """Whether a scheduler tells of its rounds: ranks that share attention have the same requests, so one of them does.

    Args:
        rank: SGLang's `ParallelState`.
    """
    return not (rank.attn_tp_rank or rank.attn_cp_rank or rank.pp_rank)


def tells_receipt(rank: Any) -> bool:
    """Whether a scheduler tells what the engine is: the first of all."""
    return not (rank.tp_rank or rank.pp_rank or rank.dp_rank)


def install_architecture(
    architecture: str,
    options: dict[str, Any],
    tree: list[int] | None,
    checkpoint: str | None,
    on_failure: Callable[[str], None],
) -> None:
    """Give SGLang what the architecture brings along: a proposer, or models and a draft worker in place of EAGLE's."""
    from draftbench.drafts.api import Tree, discover

    spec = discover()[architecture]
    if spec.proposer_factory is not None and tree is not None:
        from draftbench.harness.runtime.drafts import proposals

        validated = spec.options.model_validate(options)
        folder = None if checkpoint is None else Path(checkpoint)
        proposals.install(spec, validated, Tree(*tree), folder, lambda why: on_failure(f"{architecture}: {why}"))
    if spec.engine_module is not None:
        install_module(spec.engine_module)
    if (rule := options.get("acceptance_rule")) is not None:
        from draftbench.harness.runtime.drafts import sampled_paths

        sampled_paths.install(rule)


def install_module(name: str) -> None:
    """Give SGLang the models and the draft worker of an architecture's module."""
    from sglang.srt.models.registry import ModelRegistry
    from sglang.srt.speculative import eagle_worker_v2

    module = importlib.import_module(name)
    ModelRegistry.models.update({model.__name__: model for model in getattr(module, "MODELS", ())})
    if hasattr(module, "DRAFT_WORKER"):
        eagle_worker_v2.EagleDraftWorker = module.DRAFT_WORKER


def write_receipt(path: Path, scheduler: Any, simulation: dict[str, Any] | None) -> None:
    """Say what really runs: versions, algorithm, the draft model's class, graphs, the resolved server arguments."""
    import sglang
    import torch

    from draftbench.harness.runtime.adaptive_steps import adaptive_steps
    from draftbench.harness.runtime.graphs import captured_sizes

    worker = scheduler.draft_worker
    draft_worker = getattr(worker, "draft_worker", None)
    draft_runner = getattr(draft_worker, "draft_runner", None)
    facts = getattr(getattr(draft_runner, "model", worker), "draft_facts", dict)
    receipt = {
        "sglang": sglang.__version__,
        "torch": torch.__version__,
        "algorithm": scheduler.server_args.speculative_algorithm,
        "draft_class": None if draft_runner is None else type(draft_runner.model).__name__,
        "draft_worker": None if draft_worker is None else type(draft_worker).__name__,
        "draft_facts": facts(),
        "adaptive_steps": adaptive_steps(worker),
        "acceptance_rule": getattr(draft_worker, "acceptance_rule", None),
        "target_class": type(scheduler.tp_worker.model_runner.model).__name__,
        "max_total_num_tokens": scheduler.max_total_num_tokens,
        "cuda_graphs": captured_sizes(scheduler),
        "simulated_acceptance": None if simulation is None else simulation["alphas"],
        "server_args": resolved(scheduler.server_args),
    }
    write_whole(path, json.dumps(receipt, indent=1, sort_keys=True))


def resolved(server_args: Any) -> dict[str, str | int | float | bool | None]:
    """The arguments under which a server runs, without what belongs to the process alone."""
    return {
        name: plain(value)
        for name, value in vars(server_args).items()
        if not name.startswith("_") and " object at 0x" not in repr(value)
    }


def plain(value: Any) -> str | int | float | bool | None:
    """A resolved argument as JSON holds it, written the same in every process: sets print in an order of their own."""
    if isinstance(value, str | int | float | bool | None):
        return value
    return repr(sorted(value, key=repr)) if isinstance(value, set | frozenset) else repr(value)
