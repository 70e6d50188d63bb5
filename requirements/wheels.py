"""The folder of wheels that `make setup PROFILE=cuda WHEELS=folder` needs on a host without a network.

    make wheels OUT=wheels              for Python 3.12 beside a PyTorch for CUDA 13 and what usually comes with it
    make wheels OUT=wheels FOR=3.11     for Python 3.11
    make wheels OUT=wheels BARE=1       beside an environment that has nothing but PyTorch and torchvision
    make wheels OUT=wheels FULL=1       nothing taken out of the wheels, so also for other chips than Hopper's

Names and versions are cuda.lock's. What no engine of this project opens is taken out of the large wheels, and their
RECORD says so. Imports the standard library alone; downloads with the pip of the Python that runs it.
"""

from __future__ import annotations

import argparse
import csv
import io
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

LOCK = Path(__file__).parent / "cuda.lock"
PYTHONS = ("3.11", "3.12")
GLIBCS = (5, 12, 17, 24, 27, 28, 31, 34)
"""Minor versions of the manylinux tags that pip is told of, for it matches them one by one."""
OLD_PLATFORMS = ("manylinux1_x86_64", "manylinux2010_x86_64", "manylinux2014_x86_64")
DROPPED: dict[str, tuple[str, ...]] = {
    # Generation of images, tests, and the extensions in Rust, which the server does without.
    "sglang": ("sglang/multimodal_gen/*", "sglang/test/*", "*.so"),
    # Attention that the Triton backend does not call, and the kernels of other chips than Hopper's.
    "sglang-kernel": (
        "sgl_kernel/flash_ops*",
        "sgl_kernel/flashmla_ops*",
        "sgl_kernel/infllm_ops*",
        "sgl_kernel/sm100/*",
    ),
    # Sources that none of the kernels compiled here includes.
    "flashinfer-python": (
        "flashinfer/data/cutlass/examples/*",
        "flashinfer/data/cutlass/python/*",
        "flashinfer/data/cutlass/test/*",
        "flashinfer/data/cccl/python/*",
    ),
    "pycountry": ("pycountry/locales/*",),
    "jedi": ("jedi/third_party/*",),
}
"""Files that an engine on Hopper with the Triton backend was seen to run without, by package."""


class WheelsError(Exception):
    """What went wrong, and what to do."""


def main(words: Sequence[str] | None = None) -> int:
    """Read the arguments and make the folder; an exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to make; it must hold no wheels yet")
    parser.add_argument("--python", choices=PYTHONS, default=PYTHONS[-1], help="the host's")
    parser.add_argument("--bare", action="store_true", help="also what most environments with PyTorch have")
    parser.add_argument("--full", action="store_true", help="leave the large wheels as they are published")
    args = parser.parse_args(words)
    sections = ("wheels", "usual") if args.bare else ("wheels",)
    try:
        make_folder(args.out, read_pins(LOCK.read_text(), sections), args.python, args.full)
    except WheelsError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def make_folder(out: Path, pins: dict[str, str], python: str, full: bool) -> None:
    """Download the pinned wheels, make them smaller, and put them into the folder only when all are there."""
    if any(out.glob("*.whl")):
        raise WheelsError(f"{out} holds wheels already, and two of one package cannot be installed: empty it first")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as temporary:
        folder = Path(temporary)
        words = [sys.executable, "-m", "pip", "download", *pip_words(pins, python), "--dest", str(folder)]
        if subprocess.run(words).returncode:
            raise WheelsError("pip could not download every wheel; its reason is above")
        wheels = sorted(folder.glob("*.whl"))
        missing = sorted(pins.keys() - {package_of(wheel) for wheel in wheels})
        if missing:
            raise WheelsError(f"pip brought no wheel of {', '.join(missing)}")
        for wheel in wheels:
            if not full:
                slim(wheel, DROPPED.get(package_of(wheel), ()))
            wheel.replace(out / wheel.name)
    size = sum(wheel.stat().st_size for wheel in out.glob("*.whl"))
    print(f"{len(wheels)} wheels for Python {python} in {out}, {size / 2**20:.0f} MiB")


def read_pins(lock: str, sections: Iterable[str]) -> dict[str, str]:
    """Package and version of a lock's sections, each of which begins with a comment: `# [name] …`."""
    wanted, section, pins, known = set(sections), "", {}, set()
    for line in lock.splitlines():
        if found := re.match(r"# \[(\w+)\]", line):
            section = found[1]
            known.add(section)
        elif section in wanted and (pin := line.partition("#")[0].strip()):
            name, _, version = pin.partition("==")
            pins[canonical(name)] = version
    if wanted - known:
        raise WheelsError(f"the lock has no section {', '.join(sorted(wanted - known))}; it has {', '.join(known)}")
    return pins


def pip_words(pins: dict[str, str], python: str) -> list[str]:
    """What pip downloads wheels with for another machine's Python, whatever it runs on itself."""
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in reversed(GLIBCS)] + [*OLD_PLATFORMS, "linux_x86_64"]
    target = ["--python-version", python, "--implementation", "cp"]
    target += [word for platform in platforms for word in ("--platform", platform)]
    return ["--quiet", "--no-deps", "--only-binary=:all:", *target, *(f"{name}=={pins[name]}" for name in pins)]


def slim(wheel: Path, patterns: Sequence[str]) -> None:
    """Take files out of a wheel and of its RECORD; refused if a pattern fits none, since the package has changed."""
    if not patterns:
        return
    smaller = wheel.with_suffix(".slim")
    with (
        zipfile.ZipFile(wheel) as source,
        zipfile.ZipFile(smaller, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as target,
    ):
        idle = [pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name in source.namelist())]
        if idle:
            raise WheelsError(f"{wheel.name} has no {', '.join(idle)}: correct DROPPED in {__file__}")
        for item in source.infolist():
            if dropped(item.filename, patterns):
                continue
            data = source.read(item)
            if item.filename.endswith(".dist-info/RECORD"):
                data = shorten_record(data.decode(), patterns).encode()
            item.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(item, data)
    smaller.replace(wheel)


def dropped(name: str, patterns: Sequence[str]) -> bool:
    """Whether a file of a wheel is left out; what describes the wheel never is."""
    return ".dist-info/" not in name and any(fnmatchcase(name, pattern) for pattern in patterns)


def shorten_record(record: str, patterns: Sequence[str]) -> str:
    """A RECORD without the lines of files that are left out."""
    lines = io.StringIO()
    kept = (row for row in csv.reader(io.StringIO(record)) if row and not dropped(row[0], patterns))
    csv.writer(lines, lineterminator="\n").writerows(kept)
    return lines.getvalue()


def package_of(wheel: Path) -> str:
    """The canonical name of the package that a wheel's file name tells."""
    return canonical(wheel.name.partition("-")[0])


def canonical(name: str) -> str:
    """One spelling of a package's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main())
