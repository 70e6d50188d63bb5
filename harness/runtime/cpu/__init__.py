"""What lets SGLang run without a GPU: a stand-in for its kernels, an attention backend, exact sampling, lean layers."""

from __future__ import annotations


def install() -> None:
    """Put our parts in place of SGLang's, once per engine process, before its models are built."""
    from draftbench.harness.runtime.cpu import attention, block_drafts, lean_layers, sampling

    attention.install()
    block_drafts.allow()
    sampling.install()
    lean_layers.install()
