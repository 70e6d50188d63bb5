"""What reads all of a run's records and draws, in processes of its own: their memory ends with them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from draftbench.harness.errors import RecordError
from draftbench.harness.runtime.forks import die_with_parent


def report(folder: Path) -> int:
    """`bench.py report` of a run, on this process's output; its exit code.

    Raises:
        RecordError: something ended it.
    """
    sys.stdout.flush()
    return _call(folder, "draftbench", "report")[0]


def wanted_launches(folder: Path, half_width: float, first_stage: int) -> int:
    """`metrics.results.wanted_launches` of a run's rows.

    Raises:
        RecordError: something ended it.
    """
    return int(_call(folder, "draftbench.reports.wanted_launches", str(half_width), str(first_stage), piped=True)[1])


def _call(folder: Path, module: str, *words: str, piped: bool = False) -> tuple[int, str]:
    """Call a module with words and the folder: its exit code and, where it is piped, its output.

    Ctrl-C reaches this process alone, which then ends the other one.
    """
    process = None
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *words, "--", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if piped else None,
            text=True,
            process_group=0,
            preexec_fn=die_with_parent,
        )
        output, _ = process.communicate()
    except BaseException:
        if process is not None:
            process.kill()
            process.wait()
        raise
    code = process.returncode
    if code < 0 or (piped and code):
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        raise RecordError(
            f"the process that reads the records of {folder} was ended ({how}). What was measured is kept; write the "
            f"report with bench.py report {folder}."
        )
    return code, output
