"""What this host can run, what is missing, and the command that mends it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from draftbench.harness.errors import HarnessError
from draftbench.harness.host.gpu import gpu_problems, installed_torch, read_gpu_host, shared_with
from draftbench.harness.load.endpoint import open_endpoint
from draftbench.harness.models.find import embedded_names
from draftbench.harness.models.memory import CPU_ENGINE_BYTES, SHARE
from draftbench.harness.models.required import is_obstacle, needs_of
from draftbench.harness.places import setup_command
from draftbench.harness.runtime.cuda_probe import IMPORTED, CudaFacts, probe_cuda
from draftbench.harness.runtime.tested import TESTED_SGLANG
from draftbench.harness.suite import Arm, Suite
from draftbench.harness.telemetry.sampler import open_sensors
from draftbench.harness.telemetry.sensor import energy_problem
from draftbench.harness.workloads.sandbox import check_isolation

NEEDED_DISK_GB = 2


@dataclass(frozen=True)
class HostCheck:
    """One thing that was looked at."""

    ok: bool
    text: str


def diagnose() -> tuple[HostCheck, ...]:
    """Look at everything that a run needs; starts nothing."""
    return (_python(), *_packages(), *_gpu(), *_sensors(), _memory(), _disk(), _compiler(), _architectures(), _models())


def diagnose_suite(suite: Suite, folder: Path) -> tuple[HostCheck, ...]:
    """What a suite needs beside the host; models that would be downloaded are told, not missed."""
    needs = (HostCheck(not is_obstacle(line), line) for line in needs_of(suite, folder))
    programs = (_programs(),) if any(workload.run_programs for workload in suite.workloads) else ()
    return (*needs, *programs, *(_endpoint(arm) for arm in suite.arms if arm.is_endpoint))


def _programs() -> HostCheck:
    try:
        check_isolation()
    except HarnessError as error:
        return HostCheck(False, str(error))
    return HostCheck(True, "bubblewrap: programs of models can be run")


def _endpoint(arm: Arm) -> HostCheck:
    try:
        told = open_endpoint(arm).told
    except HarnessError as error:
        return HostCheck(False, str(error))
    facts = ", ".join(f"{name} {value}" for name, value in told.said().items()) or "it tells nothing of itself"
    return HostCheck(True, f"endpoint {arm.name} answers: {facts}")


def _python() -> HostCheck:
    version = ".".join(map(str, sys.version_info[:3]))
    fits = (3, 11) <= sys.version_info[:2] < (3, 13)
    return HostCheck(fits, f"Python {version}" + ("" if fits else ": use 3.11 or 3.12 (make setup PYTHON=python3.11)"))


def _packages() -> tuple[HostCheck, ...]:
    findings = []
    for name in ("torch", "transformers", "sglang"):
        if importlib.util.find_spec(name) is None:
            findings.append(HostCheck(False, f"{name} is not installed: {setup_command()}"))
            continue
        version = metadata.version(name)
        fits = name != "sglang" or version == TESTED_SGLANG
        findings.append(
            HostCheck(fits, f"{name} {version}" + ("" if fits else f": {TESTED_SGLANG} is needed, {setup_command()}"))
        )
    return tuple(findings)


def _gpu() -> tuple[HostCheck, ...]:
    host = read_gpu_host()
    if not host.gpus and host.problem is None:
        return (HostCheck(True, "no NVIDIA GPU: SGLang runs on the CPU"),)
    names = ", ".join(
        f"{gpu.name}, {gpu.free_bytes / 1e9:.0f} of {gpu.total_bytes / 1e9:.0f} GB free" for gpu in host.gpus
    )
    problems = [*gpu_problems(host, installed_torch()), *filter(None, [shared_with(host)])]
    found = [HostCheck(True, f"GPU: {names}; driver {host.driver}")] if host.gpus else []
    found += [HostCheck(False, problem) for problem in problems]
    return (*found, *(cuda_findings(probe_cuda()) if host.gpus else ()))


def cuda_findings(facts: CudaFacts) -> tuple[HostCheck, ...]:
    """What the CUDA build's packages say when they are imported."""
    found = [HostCheck(facts.error is None, facts.error or f"torch sees the GPU, built for CUDA {facts.torch_cuda}")]
    for name, answer in facts.imports.items():
        text = f"{name} {answer.removeprefix(IMPORTED)}"
        ok = answer.startswith(IMPORTED)
        mend = setup_command("cuda")
        found.append(HostCheck(ok, text if ok else f"{name} cannot be imported ({answer}): {mend}"))
    for name, path in facts.tools.items():
        missing = f"{name} is not on the path: kernels that are compiled at first use need it"
        found.append(HostCheck(path is not None, f"{name}: {path}" if path else missing))
    return tuple(found)


def _sensors() -> tuple[HostCheck, ...]:
    """No sensor is needed to run: what is missing leaves joules out of the report."""
    with open_sensors() as sensors:
        if not sensors:
            return (HostCheck(True, "energy: no GPU and no RAPL zone in /sys/class/powercap; joules are left out"),)
        problems = [(sensor, energy_problem(sensor)) for sensor in sensors]
    return tuple(
        HostCheck(True, f"energy of {sensor.name}: " + (str(sensor.source) if problem is None else _unread(problem)))
        for sensor, problem in problems
    )


def _unread(problem: str) -> str:
    advice = "; let your user read it: sudo chmod a+r" if "Permission denied" in problem else ""
    return f"not readable ({problem}){advice}"


def _memory() -> HostCheck:
    import psutil

    free = psutil.virtual_memory().available / 1e9
    fits = SHARE * free >= CPU_ENGINE_BYTES / 1e9
    advice = "" if fits else f": an engine needs about {CPU_ENGINE_BYTES / SHARE / 1e9:.1f} GB, free some"
    return HostCheck(fits, f"{free:.0f} GB of memory free" + advice)


def _disk() -> HostCheck:
    free = shutil.disk_usage(".").free / 1e9
    fits = free >= NEEDED_DISK_GB
    return HostCheck(
        fits, f"{free:.0f} GB of disk free" + ("" if fits else f": runs need {NEEDED_DISK_GB} GB, free some")
    )


def _compiler() -> HostCheck:
    name = os.environ.get("CXX", "c++").split()[0]
    if shutil.which(name):
        return HostCheck(True, f"C++ compiler {name}: SGLang's n-gram trie can be compiled")
    return HostCheck(True, f"no C++ compiler ({name}): every architecture runs but ngram; install g++ for that one")


def _architectures() -> HostCheck:
    from draftbench.drafts.api import broken, discover

    try:
        found = f"architectures: {', '.join(discover())}"
    except HarnessError as error:
        return HostCheck(False, str(error))
    left_out = "".join(f"; left out: {name}: {why}" for name, why in broken().items())
    return HostCheck(not left_out, found + left_out)


def _models() -> HostCheck:
    names = embedded_names()
    if "tiny" in names:
        return HostCheck(True, f"embedded models: {', '.join(names)}")
    return HostCheck(
        False, "the embedded models are missing (drafts/checkpoints/tiny): check the project out, or install it, anew"
    )
