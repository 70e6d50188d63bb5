"""A suite's run as part of a longer script: gone on with where it was stopped, and reported wherever it stops."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

STOPPED = 130
"""bench.py's exit code when it was interrupted; what it measured is kept."""


def run_suite(suite: Path, out: Path, *words: str) -> int:
    """Run `bench.py` on a suite into a folder, or go on with the run that is there; its exit code.

    An interruption reaches bench.py too, which ends its engines; then the report is written from what there is.
    """
    resume = ["--resume"] if (out / "manifest.json").exists() else []
    process = subprocess.Popen([sys.executable, "bench.py", str(suite), "--out", str(out), *resume, *words])
    try:
        code = process.wait()
    except KeyboardInterrupt:
        code = process.wait()
    if code == STOPPED and (out / "cells.jsonl").exists():
        subprocess.run([sys.executable, "bench.py", "report", str(out)], check=False)
    return code
