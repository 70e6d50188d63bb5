"""The package as others install it: built, installed beside this environment's packages, used outside the checkout."""

from __future__ import annotations

import csv
import importlib.util
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUITE = """\
version: 1
name: small
target: {model: tiny, dtype: float32}
arms:
  - {name: vanilla, architecture: vanilla}
  - {name: hass, architecture: eagle, checkpoint: tiny/hass, num_steps: 3, topk: 2, num_draft_tokens: 6}
workloads:
  - {name: sums, source: synthetic, family: arithmetic, num_prompts: 2}
sampling: {temperature: 0, max_tokens: 24, seed: 0}
load: [{concurrency: 1}]
blocks: 1
"""
NOT_CLONED = (".git", ".venv", "runs", "build", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis", "wheels")
Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the checkout, which stays as it is."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "clone", symlinks=True, ignore=shutil.ignore_patterns(*NOT_CLONED))
    # The build's own requirements come from here where they are here, so that it needs no network.
    here = ["--no-build-isolation"] if importlib.util.find_spec("setuptools") else []
    words = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", *here, "--wheel-dir", str(folder), "."]
    done = subprocess.run(words, cwd=folder / "clone", capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def call(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Call:
    """Calls a program of an environment that has the wheel, from a folder that holds nothing of the project."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True, timeout=900)
    python = folder / "venv" / "bin" / "python"
    (site,) = (folder / "venv" / "lib").glob("*/site-packages")
    (site / "base.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")) + "\n")
    pip = [sys.executable, "-m", "pip", "--quiet", "--python", str(python), "install", "--no-index", "--no-deps"]
    subprocess.run([*pip, str(wheel)], check=True, timeout=900)
    (folder / "home").mkdir()
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

    def program(name: str, *words: str) -> subprocess.CompletedProcess[str]:
        path = folder / "venv" / "bin" / name
        return subprocess.run(
            [path, *words], cwd=folder / "home", env=environment, capture_output=True, text=True, timeout=900
        )

    return program


def home(call: Call) -> Path:
    return Path(call("python", "-c", "import os; print(os.getcwd())").stdout.strip())


def test_the_wheel_holds_one_package_and_all_that_it_reads(wheel):
    """Nothing beside draftbench at the top, neither results nor tests inside; small enough to send around."""
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"draftbench"}
    for wanted in (
        "py.typed", "bench.py", "harness/commands/run.py", "suites/quickstart.yaml", "suites/selftest.yaml",
        "suites/examples/mt_bench.jsonl", "drafts/checkpoints/tiny/target/tokenizer.json",
        "drafts/checkpoints/tiny/prism/model.safetensors", "drafts/training/tiny_zoo.yaml", "reports/page.css",
        "reports/page.js", "reports/page.html.j2", "harness/runtime/cpu/shim/sitecustomize.py",
        "harness/runtime/cpu/shim/sgl_kernel/__init__.py",
    ):  # fmt: skip
        assert f"draftbench/{wanted}" in names
    assert not [name for name in names if "reports/published" in name or "/tests/" in name]
    assert wheel.stat().st_size < 30 * 2**20


def test_the_installed_package_is_found_and_complete(call):
    """Third parties import the drafts' interface; the command lists architectures, models and suites."""
    where = call("python", "-c", "import draftbench.drafts.api as api; print(api.__file__)")
    assert "/venv/lib/" in where.stdout, where.stderr
    assert call("python", "-c", "import harness").returncode == 1
    listed = call("draftbench", "list")
    assert listed.returncode == 0, listed.stderr
    for said in ("adaptive_trigram", "EAGLE-2", "tiny/prism", "suites/quickstart.yaml"):
        assert said in listed.stdout
    assert "usage: draftbench COMMAND" in call("draftbench", "--help").stdout
    assert "usage: draftbench compare" in call("draftbench", "compare", "--help").stdout
    assert call("python", "-m", "draftbench", "--version").stdout.startswith("draftbench 0.")


def test_suites_that_come_with_it_are_found_by_their_names(call):
    """Where the current folder has none of the name; that is said."""
    planned = call("draftbench", "plan", "suites/quickstart.yaml")
    assert planned.returncode == 0, planned.stderr
    said = " ".join(planned.stdout.split())
    assert "suites/quickstart.yaml is not here; taken is the suite that comes with draftbench: " in said
    assert "draft hass: fits" in planned.stdout
    assert call("draftbench", "plan", "suites/mt_bench-tiny.yaml").returncode == 0, "its prompts lie beside it"
    assert "there is no such file" in call("draftbench", "plan", "suites/gone.yaml").stderr
    assert "--cold-start" in call("draftbench", "quickstart", "--help").stdout


def test_it_runs_engines_and_publishes_below_the_current_folder(call):
    """A run on the real engine, its report and the published copy, without the checkout."""
    folder = home(call)
    (folder / "small.yaml").write_text(SUITE)
    done = call("draftbench", "small.yaml", "--out", "run")
    assert done.returncode == 0, done.stdout + done.stderr
    with (folder / "run" / "results.csv").open() as file:
        rows = {row["arm"]: row for row in csv.DictReader(file)}
    assert float(rows["hass"]["acceptance_length"]) > 1.2
    assert {row["lossless_share"] for row in rows.values()} == {"1.0"}
    assert json.loads((folder / "run" / "manifest.json").read_text())["git_commit"] == "unknown"
    assert call("draftbench", "verify", "run").returncode == 0
    published = call("draftbench", "publish", "run", "--name", "first", "--yes")
    assert published.returncode == 0, published.stdout + published.stderr
    assert (folder / "reports" / "published" / "first" / "report.md").is_file()
    assert (folder / "reports" / "published" / "README.md").is_file()
