"""What every engine process finds before its packages on a host without a GPU, whatever build of torch is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from draftbench.harness.runtime.cpu.environment import SHIM_FOLDER, engine_environment

SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
TORCHVISION = {
    "__init__": "from . import extension\nfrom torchvision import _meta_registrations",
    "extension": f"""
import os, torch
library = torch.library.Library("torchvision", "FRAGMENT")
for name in os.environ["COMPILED"].split():
    library.define(name + "{SCHEMA}")
""",
    "_meta_registrations": """
import torch
for name in ("nms", "qnms"):
    torch.library.register_fake("torchvision::" + name)(lambda *boxes: None)
print("registered")
""",
}
"""What of torchvision matters: its compiled part defines operators, if it loads, and fakes of them are registered."""


def ended(program: str, environment: dict[str, str]) -> str:
    """What a Python process says that runs as the engines do."""
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("compiled", ["", "nms", "nms qnms"])
def test_torchvisions_operators_are_defined_once(
    compiled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its compiled part where that loads, which it does beside a CUDA build of torch; else by us, for what lacks."""
    package = tmp_path / "torchvision"
    package.mkdir()
    for name, text in TORCHVISION.items():
        (package / f"{name}.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert ended("import torchvision", engine_environment() | {"COMPILED": compiled}) == "registered"


def test_the_stand_in_for_kernels_hides_an_installed_cuda_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real package does not load without a driver, and must not be asked to."""
    (tmp_path / "sgl_kernel.py").write_text("raise ImportError('libcuda.so.1')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = ended("import sgl_kernel; print(sgl_kernel.__file__)", engine_environment())
    assert Path(found).parents[1] == SHIM_FOLDER
