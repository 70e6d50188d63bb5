"""SGLang's adaptive number of draft steps: what it is in an engine, and that a cell begins as every other.

SGLang follows an average of accepted drafts and changes between chains of given lengths
(speculative/adaptive_spec_params.py, 0.5.17). What it has seen stays after its caches are flushed.
"""

from __future__ import annotations

from typing import Any


def adaptive_steps(worker: Any) -> list[int] | None:
    """Numbers of steps that a speculative worker changes between; None where they stay, or there is no draft."""
    controller = getattr(worker, "adaptive_controller", None)
    return None if controller is None else list(controller.candidate_steps)


def forget_steps_on_flush(worker: Any) -> None:
    """Let a flush, which comes before every cell, also take back what the changes of steps were drawn from."""
    controller = getattr(worker, "adaptive_controller", None)
    if controller is None:
        return
    from sglang.srt.speculative.adaptive_spec_params import AdaptiveSpeculativeParams

    first, config = worker.speculative_num_steps, worker.server_args.speculative_adaptive_config
    sizes, clear = controller.params._cuda_graph_bs, worker.clear_cache_pool

    def flush() -> None:
        clear()
        controller.params = AdaptiveSpeculativeParams(initial_steps=first, cfg_path=config)
        controller.params.set_cuda_graph_bs(sizes)
        worker.activate_step_by_batch(1)

    worker.clear_cache_pool = flush
