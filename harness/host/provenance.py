"""What a reader needs to know to trust a run or to repeat it: commit, packages, host, hashes."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from draftbench.harness.facts import HostFacts
from draftbench.harness.host.gpu import read_gpu_host
from draftbench.harness.places import ROOT

PACKAGES = (
    "sglang",
    "sglang-kernel",
    "flashinfer-python",
    "torch",
    "transformers",
    "tokenizers",
    "numpy",
    "aiohttp",
    "pydantic",
)


def package_versions() -> dict[str, str]:
    """Versions of the packages that numbers depend on; those not installed are left out."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def has_gpu() -> bool:
    """Whether NVIDIA's driver answers and names at least one GPU."""
    return bool(gpu_names())


def gpu_names() -> tuple[str, ...]:
    """Names of the host's NVIDIA GPUs; none where there is no driver."""
    return tuple(gpu.name for gpu in read_gpu_host().gpus)


def host() -> HostFacts:
    """This machine."""
    import psutil

    gpus = read_gpu_host()
    facts = HostFacts(
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        cpu=_cpu_name(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        gpu=", ".join(gpu.name for gpu in gpus.gpus) or "none",
    )
    return facts if gpus.driver is None else facts.model_copy(update={"gpu_driver": gpus.driver})


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def git_commit() -> str:
    """The project's commit, with a mark if its files were changed; "unknown" outside a checkout."""
    if not (ROOT / ".git").exists():  # installed, perhaps below another project's folder
        return "unknown"
    try:
        commit = _git(ROOT, "rev-parse", "HEAD")
        return commit + ("-dirty" if _git(ROOT, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(root: Path, *words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=root, check=True, capture_output=True, text=True, timeout=20
    ).stdout.strip()


def suite_sha256(resolved: dict[str, Any]) -> str:
    """SHA-256 of a suite as the manifest holds it, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(resolved, sort_keys=True).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_sha256(folder: Path) -> str:
    """One hash over the names and contents of a model folder's configuration, tokenizer and weights."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".json", ".safetensors", ".bin", ".pt", ".jinja", ".model"):
            digest.update(f"{path.name} {file_sha256(path)}\n".encode())
    return digest.hexdigest()
