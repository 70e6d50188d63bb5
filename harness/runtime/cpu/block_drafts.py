"""Drafts that make a block in one pass (SGLang's DFLASH) on the CPU, for which SGLang 0.5.17 has them not.

SGLang refuses the device by name (arg_groups/speculative_hook.py), and takes the draft's attention backend from a list
of GPU ones (speculative/draft_worker_common.py); the rest of its worker has plain torch beside its kernels, but for the
sampling of temperatures above zero, which it leaves out without an error, and for streams. Whatever the target's
precision is, its runner rounds the embeddings that a draft is given to bfloat16 (model_executor/model_runner.py).
"""

from __future__ import annotations

from typing import Any

BACKEND = "torch_native"
"""The name under which ours stands (`attention.py`)."""


def allow() -> None:
    """Let server arguments with such a draft be resolved, in the server's process and in the scheduler's."""
    from sglang.srt.arg_groups import speculative_hook

    resolve = speculative_hook._handle_dflash

    def resolve_without_a_gpu(server_args: Any) -> None:
        device, server_args.device = server_args.device, "cuda"
        try:
            resolve(server_args)
        finally:
            server_args.device = device
        server_args.speculative_draft_attention_backend = BACKEND

    speculative_hook._handle_dflash = resolve_without_a_gpu


def install() -> None:
    """Let the worker run, in the scheduler's process."""
    import sgl_kernel
    import torch
    from sglang.srt.distributed.parallel_state import GroupCoordinator
    from sglang.srt.models.dflash import DFlashDraftModel
    from sglang.srt.speculative import dflash_utils, dflash_worker_v2, draft_worker_common

    draft_worker_common._SUPPORTED_DRAFT_BACKENDS = (*draft_worker_common._SUPPORTED_DRAFT_BACKENDS, BACKEND)
    for name in ("top_k_renorm_prob", "top_p_renorm_prob", "tree_speculative_sampling_target_only"):
        setattr(dflash_utils, name, getattr(sgl_kernel, name))
    dflash_utils._DFLASH_SAMPLING_VERIFY_AVAILABLE = True
    assert dflash_worker_v2.is_dflash_sampling_verify_available()
    forward = DFlashDraftModel.forward

    def forward_unrounded(model: Any, input_ids: Any, positions: Any, forward_batch: Any, **kwargs: Any) -> Any:
        return forward(
            model, input_ids, positions, forward_batch, **kwargs | {"input_embeds": forward_batch.input_embeds}
        )

    DFlashDraftModel.forward = forward_unrounded
    # The operator by which ranks share their likeliest tokens is registered for GPUs alone.
    GroupCoordinator.all_gather_into_tensor = GroupCoordinator._all_gather_into_tensor
    # A tensor of the CPU belongs to no stream, and torch says so with an error.
    setattr(torch.Tensor, "record_stream", lambda tensor, stream: None)  # noqa: B010  # mypy knows its types
