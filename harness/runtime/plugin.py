"""SGLang's entry point into draftbench: runs at the top of the server and of every scheduler process."""

from __future__ import annotations


def activate() -> None:
    """Install what the engine needs on this host."""
    import torch

    if not torch.cuda.is_available():
        from harness.runtime.cpu import install

        install()
