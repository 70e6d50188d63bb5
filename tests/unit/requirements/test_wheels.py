"""The folder of wheels for a host without a network: which packages, which files of them, and what RECORD then says."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from requirements import wheels
from requirements.wheels import DROPPED, LOCK, WheelsError, make_folder, package_of, pip_words, read_pins, slim

LINES = """# Profile
# [wheels] What is downloaded.
One_Pack.age==1.0  # a reason
two==2.0rc1

# [torch] The host's.
torch==2.11.0
"""


def made_wheel(folder: Path, name: str, files: dict[str, str]) -> Path:
    """A small wheel with a RECORD of its files."""
    path = folder / f"{name.replace('-', '_')}-1.0-py3-none-any.whl"
    info = f"{name.replace('-', '_')}-1.0.dist-info"
    files = {**files, f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"}
    files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = [f'"{file}",,' if "," in file else f"{file},," for file in [*files, f"{info}/RECORD"]]
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in {**files, f"{info}/RECORD": "\n".join(record) + "\n"}.items():
            archive.writestr(file, text)
    return path


def test_the_packages_of_a_folder_are_those_of_the_locks_sections():
    """Names in one spelling, versions exact, comments and other sections left out; an unknown section is refused."""
    assert read_pins(LINES, ["wheels"]) == {"one-pack-age": "1.0", "two": "2.0rc1"}
    with pytest.raises(WheelsError, match=r"no section usual; it has"):
        read_pins(LINES, ["wheels", "usual"])


def test_the_lock_pins_each_package_once_and_no_prerelease_but_one():
    """flash-attn-4 has no other releases; the folder has what SGLang asks for, and the tokenizers of transformers."""
    pins = [line for line in LOCK.read_text().splitlines() if line and not line.startswith("#")]
    names = [wheels.canonical(line.partition("==")[0]) for line in pins]
    assert len(names) == len(set(names))
    early = [line for line in pins if re.search(r"==[\d.]+(a|b|rc|\.?dev)\d", line)]
    assert [line.partition("==")[0] for line in early] == ["flash-attn-4"]
    assert all("==" in line for line in pins)
    folder = read_pins(LOCK.read_text(), ["wheels"])
    exact = {"sglang": "0.5.17", "sglang-kernel": "0.4.5", "sgl-deep-gemm": "0.1.5.post1", "transformers": "5.12.1"}
    assert exact.items() <= folder.items()
    assert folder["tokenizers"].startswith("0.22.")
    assert "torch" not in folder
    assert DROPPED.keys() <= folder.keys()


@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_pip_is_asked_for_wheels_of_the_hosts_python_whatever_runs_here(python: str):
    """Exact versions, wheels alone, no dependencies."""
    words = pip_words({"two": "2.0"}, python)
    assert words[-1] == "two==2.0"
    assert words[words.index("--python-version") + 1] == python
    assert {"--no-deps", "--only-binary=:all:", "manylinux_2_34_x86_64", "manylinux2014_x86_64"} <= set(words)


def test_files_leave_a_wheel_and_its_record_and_it_still_installs(tmp_path: Path):
    """Other lines, also one with a comma, and the wheel's description stay."""
    files = {"sgl/a.py": "A = 1\n", "sgl/test/b.py": "", "sgl/c,d.txt": "x", "sgl/ops.so": ""}
    wheel = made_wheel(tmp_path, "sgl", files)
    slim(wheel, ("sgl/test/*", "*.so", "*METADATA"))
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        record = archive.read("sgl-1.0.dist-info/RECORD").decode()
    assert [name for name in names if "dist-info" not in name] == ["sgl/a.py", "sgl/c,d.txt"]
    assert record.splitlines()[:2] == ["sgl/a.py,,", '"sgl/c,d.txt",,']
    assert "sgl-1.0.dist-info/METADATA" in names
    assert "test" not in record
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--target", str(tmp_path / "t")]
    subprocess.run([*command, "-q", str(wheel)], check=True, capture_output=True)
    assert (tmp_path / "t" / "sgl" / "a.py").exists()


def test_a_pattern_that_fits_nothing_is_refused(tmp_path: Path):
    """The package has changed, and what is large in it has another name now."""
    wheel = made_wheel(tmp_path, "sgl", {"sgl/a.py": ""})
    with pytest.raises(WheelsError, match=r"sgl-1\.0-py3-none-any\.whl has no sgl/sm100/\*"):
        slim(wheel, ("sgl/sm100/*",))


@pytest.mark.parametrize("full", [False, True])
def test_the_folder_holds_every_wheel_smaller_unless_asked_otherwise(tmp_path: Path, monkeypatch, full: bool):
    """pip's download is replaced by made wheels; jedi's third-party stubs go unless the folder is full."""

    def download(words: list[str]) -> SimpleNamespace:
        folder = Path(words[words.index("--dest") + 1])
        made_wheel(folder, "jedi", {"jedi/a.py": "", "jedi/third_party/b.pyi": ""})
        made_wheel(folder, "one-package", {"one/a.py": ""})
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", download)
    make_folder(tmp_path / "out", {"jedi": "1.0", "one-package": "1.0"}, "3.12", full)
    found = {package_of(path): path for path in (tmp_path / "out").iterdir()}
    assert found.keys() == {"jedi", "one-package"}
    assert ("jedi/third_party/b.pyi" in zipfile.ZipFile(found["jedi"]).namelist()) is full
    with pytest.raises(WheelsError, match="holds wheels already"):
        make_folder(tmp_path / "out", {"jedi": "1.0"}, "3.12", full)


@pytest.mark.parametrize(("code", "message"), [(1, "could not download"), (0, "no wheel of jedi")])
def test_a_download_that_lacks_something_leaves_no_wheel(tmp_path: Path, monkeypatch, code: int, message: str):
    """Neither where pip fails nor where it brings too little."""
    monkeypatch.setattr(subprocess, "run", lambda _: SimpleNamespace(returncode=code))
    with pytest.raises(WheelsError, match=message):
        make_folder(tmp_path / "out", {"jedi": "1.0"}, "3.12", full=False)
    assert not list((tmp_path / "out").iterdir())
