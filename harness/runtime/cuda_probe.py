"""Whether the packages of SGLang's CUDA build can be imported here, asked in a process of its own.

    python -m draftbench.harness.runtime.cuda_probe        prints JSON

The harness process itself imports none of them.
"""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata

PACKAGES = {"sgl_kernel": "sglang-kernel", "flashinfer": "flashinfer-python", "triton": "triton"}
"""Modules that serving imports on CUDA, with the package each comes from."""
TOOLS = ("nvcc", "ninja")
"""SGLang 0.5.17 and flashinfer compile some kernels at their first use."""
IMPORTED = "imported, version "
TIMEOUT_S = 180


@dataclass(frozen=True)
class CudaFacts:
    """What the packages said.

    Attributes:
        torch_cuda: the CUDA version that torch is built for.
        error: why torch does not see the GPU; None if it does.
        imports: for each module its version after `IMPORTED`, or the error that its import raised.
        tools: where each program lies; None where it is not on the path.
    """

    torch_cuda: str | None
    error: str | None
    imports: Mapping[str, str]
    tools: Mapping[str, str | None]


def probe_cuda() -> CudaFacts:
    """Import everything in another process; one that dies or hangs is an error of torch's."""
    command = [sys.executable, "-m", "draftbench.harness.runtime.cuda_probe"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
        return CudaFacts(**json.loads(done.stdout.splitlines()[-1]))
    except subprocess.TimeoutExpired:
        return CudaFacts(None, f"torch did not see the GPU within {TIMEOUT_S} s", {}, {})
    except (IndexError, ValueError):
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        return CudaFacts(None, f"the CUDA build cannot be asked: {last[0]}", {}, {})


def look() -> CudaFacts:
    """Import everything in this process."""
    torch_cuda, error = None, None
    try:
        import torch

        torch_cuda = torch.version.cuda
        if torch.cuda.is_available():
            torch.ones(8, device="cuda").sum().item()
        else:
            error = "torch is a CPU build" if torch_cuda is None else "torch sees no GPU"
    except Exception as found:  # whatever a driver or a build that does not fit makes it raise
        error = f"torch cannot use the GPU: {_first_line(found)}"
    imports = {module: _imported(module, package) for module, package in PACKAGES.items()}
    return CudaFacts(torch_cuda, error, imports, {name: shutil.which(name) for name in TOOLS})


def _imported(module: str, package: str) -> str:
    try:
        importlib.import_module(module)
    except Exception as found:  # a missing symbol, a missing library, another chip
        return _first_line(found)
    try:
        return IMPORTED + metadata.version(package)
    except metadata.PackageNotFoundError:
        return IMPORTED + "unknown"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__


if __name__ == "__main__":
    print(json.dumps(asdict(look())))
