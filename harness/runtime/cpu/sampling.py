"""Exact sampling at temperatures above zero on the CPU."""

from __future__ import annotations

from typing import Any


def install() -> None:
    """Let batches that are not all greedy take SGLang's sampling path.

    `eagle_sample` is greedy for every batch on a CPU, without an error (speculative/eagle_utils.py, 0.5.17). The same
    function samples exactly once it does not see that it runs on a CPU; the operators it then calls are in the shim.
    Callers hold the function by name, so each of their modules gets the wrapped one.
    """
    from sglang.srt.speculative import eagle_utils, eagle_worker_common

    greedy_or_sampled = eagle_utils.eagle_sample

    def eagle_sample(verify_input: Any, batch: Any, *args: Any, **kwargs: Any) -> Any:
        if batch.forward_mode.is_idle() or batch.sampling_info.is_all_greedy:
            return greedy_or_sampled(verify_input, batch, *args, **kwargs)
        eagle_utils._is_cpu = False
        try:
            return greedy_or_sampled(verify_input, batch, *args, **kwargs)
        finally:
            eagle_utils._is_cpu = True

    for module in (eagle_utils, eagle_worker_common):
        module.eagle_sample = eagle_sample
