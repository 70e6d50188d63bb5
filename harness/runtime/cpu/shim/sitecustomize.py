"""Runs at the start of every engine process: prepares torch for torchvision's Python part as that is imported.

torchvision's compiled operators do not load beside a CPU build of torch, but its Python part, which SGLang and
transformers import, registers fake kernels for two of them: their schemas have to exist before. Beside a CUDA build
they do load, and define the schemas themselves: so this waits until torchvision has tried, which it does first. The
detokenizer and the server process import it too, so this cannot wait for SGLang's plugins.
"""

from __future__ import annotations

import importlib.abc
import sys

REGISTRATIONS = ("torchvision._autograd_registrations", "torchvision._meta_registrations")
"""What torchvision imports next after its compiled part."""


class _BeforeRegistrations(importlib.abc.MetaPathFinder):
    """Finds nothing; defines the schemas that are missing once, then steps aside."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        """Called for every import that is not yet loaded."""
        if fullname not in REGISTRATIONS:
            return
        sys.meta_path.remove(self)
        import torch

        self.library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            if not hasattr(torch.ops.torchvision, name):
                self.library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        sys.modules.setdefault("_draftbench_torchvision_schemas", self)  # type: ignore[arg-type]  # keeps it alive


sys.meta_path.insert(0, _BeforeRegistrations())
