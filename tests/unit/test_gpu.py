"""What is said of GPU hosts: by the driver, by versions, by what packages answer. All answers are fakes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pynvml
import pytest

from draftbench.harness.errors import EngineError
from draftbench.harness.host import doctor
from draftbench.harness.host.doctor import cuda_findings
from draftbench.harness.host.gpu import Gpu, GpuHost, gpu_problems, read_gpu_host, shared_with
from draftbench.harness.host.provenance import gpu_names, host
from draftbench.harness.models.memory import Memory, memory
from draftbench.harness.runtime import fleet
from draftbench.harness.runtime.cuda_probe import CudaFacts
from draftbench.harness.suite import load_suite

H200 = Gpu("NVIDIA H200", 150 * 10**9, 149 * 10**9, (9, 0))
GOOD = GpuHost("580.159.03", (H200,))


@pytest.fixture
def driver(monkeypatch):
    """NVML with one H200, whose answers a test can change."""
    answers = {
        "nvmlInit": None, "nvmlShutdown": None, "nvmlSystemGetDriverVersion": "580.159.03", "nvmlDeviceGetCount": 1,
        "nvmlDeviceGetHandleByIndex": "gpu", "nvmlDeviceGetName": "NVIDIA H200",
        "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=150 * 10**9, free=149 * 10**9),
        "nvmlDeviceGetCudaComputeCapability": (9, 0),
    }  # fmt: skip

    def answer(name: str):
        if isinstance(answers[name], int) and name != "nvmlDeviceGetCount":
            raise pynvml.NVMLError(answers[name])
        return answers[name]

    for name in answers:
        monkeypatch.setattr(pynvml, name, lambda *_, name=name: answer(name))
    return answers


def test_the_driver_tells_version_memory_and_capability(driver):
    """And the manifest holds name and driver."""
    assert read_gpu_host() == GOOD
    assert host().gpu_driver == "580.159.03"
    assert memory() == Memory("GPU NVIDIA H200", 150 * 10**9, 149 * 10**9, on_gpu=True)


def test_a_driver_without_a_gpu_is_a_host_without_a_gpu(driver):
    """Models are then judged by the host's memory; nothing raises."""
    driver["nvmlDeviceGetCount"] = 0
    assert gpu_names() == ()
    assert memory().where == "this host, without a GPU,"


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("nvmlInit", pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH),
        ("nvmlDeviceGetHandleByIndex", pynvml.NVML_ERROR_GPU_IS_LOST),
        ("nvmlShutdown", pynvml.NVML_ERROR_GPU_IS_LOST),
    ],
)
def test_a_driver_or_gpu_that_does_not_answer_is_told_and_raises_nothing(driver, call, code):
    """The memory of the host is taken for plans, and doctor says what is wrong; a lost goodbye is no matter."""
    driver[call] = code
    problems = gpu_problems(read_gpu_host(), "2.11.0")
    if call == "nvmlShutdown":
        assert problems == ()
    else:
        assert memory().where.startswith("this host (NVIDIA's driver ")
        assert "mend the driver" in problems[0]
        assert any(not found.ok and "mend the driver" in found.text for found in doctor._gpu())


def test_a_host_that_fits_has_no_problem():
    """Local versions of the same torch, and newer drivers, fit too."""
    for torch in ("2.11.0", "2.11.0+cu130"):
        assert gpu_problems(GOOD, torch) == ()
    assert gpu_problems(GpuHost("595.10", (H200,)), "2.11.0") == ()
    assert shared_with(GOOD) is None
    assert gpu_problems(GpuHost(None, ()), None) == ()


@pytest.mark.parametrize(
    ("found", "torch", "said"),
    [
        (GOOD, "2.13.0+cpu", "torch is 2.13.0+cpu, SGLang's CUDA kernels are built for 2.11.0"),
        (GOOD, "2.11.0+cpu", "cannot use a GPU"),
        (GOOD, None, "torch is not installed"),
        (GpuHost("575.51.03", (H200,)), "2.11.0", "the driver is 575.51.03, CUDA 13.0 needs 580.65"),
        (GpuHost("550", (H200,)), "2.11.0", "the driver is 550"),
        (GpuHost("580.95", (Gpu("Tesla T4", 10, 10, (7, 5)),)), "2.11.0", "Tesla T4 has compute capability 7.5"),
    ],
)
def test_what_does_not_fit_is_said_with_both_versions(found, torch, said):
    """One sentence each."""
    (problem,) = gpu_problems(found, torch)
    assert said in problem


def test_a_gpu_that_another_program_uses_is_said():
    """A tenth may be taken by drivers and displays."""
    assert shared_with(GpuHost("580.95", (Gpu("X", 100, 91, (9, 0)),))) is None
    assert "40% of the memory of X is taken" in (shared_with(GpuHost("580.95", (Gpu("X", 100, 60, (9, 0)),))) or "")


def test_a_run_is_refused_before_anything_starts(monkeypatch, tmp_path):
    """An engine would load for minutes and then fail."""
    monkeypatch.setattr(fleet, "read_gpu_host", lambda: GpuHost("470.1", (H200,)))
    monkeypatch.setattr(fleet, "installed_torch", lambda: "2.11.0")
    with pytest.raises(EngineError, match=r"the driver is 470\.1"):
        fleet.find_fleet(load_suite(Path("suites/quickstart.yaml")), {}, Path("suites"), tmp_path, has_gpu=True)


def test_the_doctor_says_which_package_cannot_be_imported_and_which_tool_is_missing():
    """With the command that mends it."""
    facts = CudaFacts(
        "13.0",
        None,
        {"sgl_kernel": "imported, version 0.4.5", "flashinfer": "no module"},
        {"nvcc": None, "ninja": "/n"},
    )
    findings = {found.text: found.ok for found in cuda_findings(facts)}
    assert findings == {
        "torch sees the GPU, built for CUDA 13.0": True,
        "sgl_kernel 0.4.5": True,
        "flashinfer cannot be imported (no module): make setup PROFILE=cuda": False,
        "nvcc is not on the path: kernels that are compiled at first use need it": False,
        "ninja: /n": True,
    }
