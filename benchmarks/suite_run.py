"""A suite's run as part of a longer script: gone on with where it was stopped, and reported wherever it stops."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

STOPPED = 130
"""bench.py's exit code when it was interrupted; what it measured is kept."""


def run_suite(suite: Path, out: Path) -> int:
    """Run `bench.py` on a suite into a folder, or go on with the run that is there; its exit code.

    An interruption reaches bench.py too, which ends its engines; then the report is written from what there is.
    """
    resume = ["--resume"] if (out / "manifest.json").exists() else []
    process = subprocess.Popen([sys.executable, "bench.py", str(suite), "--out", str(out), *resume])
    try:
        code = process.wait()
    except KeyboardInterrupt:
        code = process.wait()
    if code == STOPPED and (out / "cells.jsonl").exists():
        subprocess.run([sys.executable, "bench.py", "report", str(out)], check=False)
    return code


def invalid_rows(out: Path) -> list[str]:
    """The invalid rows of a run's report, with the reason."""
    rows = json.loads((out / "results.json").read_text())
    return [
        f"{row['arm']}, {row['workload']}, {row['concurrency']}: {row['reason']}" for row in rows if not row["valid"]
    ]


def main(suite: Path, out: Path) -> int:
    """Run a suite of which every row has to be valid; exit code 1 if one is not."""
    code = run_suite(suite, out)
    found = invalid_rows(out) if code == 0 else []
    for row in found:
        print(f"invalid: {row}")
    return 1 if found else code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
