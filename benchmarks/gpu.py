"""Half an hour on a GPU, unattended: sets up, checks, measures step by step, and prints a short table last.

    make gpu [WHEELS=folder] [DATA=folder] [OUT=folder]       see docs/gpu.md
    python -m benchmarks.gpu --dry-run --out runs/dry         the same steps with tiny shapes, on the CPU

Imports the standard library alone, so that it runs before anything is set up. A step that outlasts its share of the
time is told to stop, keeps what it measured, and goes on when the script is run again with the same folder.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

MINUTES = 25.0
STOP_S = 60.0
"""A step that was told to stop ends its engines and writes its report within this; then it is killed."""
KEPT = ("done",)
"""States that a later run does not touch again."""


@dataclass(frozen=True)
class Step:
    """One step: commands with {python}, {host_python}, {out}, {data} and {wheels} to be filled in.

    Attributes:
        share: parts of the time that is left, against the shares of all later steps: unused time goes to them.
        least_s: with less it is not begun.
        report: what it leaves, below the output folder.
        vital: nothing later can run without it; made every time, because the next half hour may be another machine's.
        needs_data: skipped where no data are given.
    """

    name: str
    command: str
    dry: str
    share: int
    least_s: int = 30
    report: str = ""
    vital: bool = False
    needs_data: bool = False


RUN = "{python} -m benchmarks.suite_run"
TRAINED = "{python} -m benchmarks.trained_target"
ROUND = "{python} -m benchmarks.prism_round --out {out}/rounds --shape"
STEPS = (
    Step("setup", "make setup PROFILE=cuda PYTHON={host_python} WHEELS={wheels}",
         "make --dry-run setup PROFILE=cuda PYTHON={host_python} WHEELS=wheels", 12, 10,
         vital=True),
    Step("checks", "{python} bench.py doctor", "{python} bench.py doctor", 3, 10, vital=True),
    Step("lossless-float32", RUN + " suites/gpu/lossless-float32.yaml {out}/lossless-float32",
         RUN + " suites/gpu/lossless-dry.yaml {out}/lossless-float32", 20, 60, "lossless-float32/report.md"),
    Step("lossless-bfloat16", RUN + " suites/gpu/lossless-bfloat16.yaml {out}/lossless-bfloat16",
         "{python} bench.py plan suites/gpu/lossless-bfloat16.yaml", 20, 60, "lossless-bfloat16/report.md"),
    Step("graphs", "{python} -m benchmarks.gpu_findings graphs {out}/lossless-bfloat16",
         "{python} -m benchmarks.gpu_findings graphs {out}/lossless-float32", 1, 5),
    Step("rounds", ROUND + " llama3-8b --batch 1 4 16 64 --blocks 8 --tokens 64",
         ROUND + " small --batch 1 2 --blocks 2 --tokens 16 --modules 2", 30, 120, "rounds/rounds.md"),
    Step("what-if", "{python} -m benchmarks.what_if --out {out}/what-if --shape llama3-8b --least-s 31",
         "{python} -m benchmarks.what_if --out {out}/what-if --shape small --least-s 0.5 --arms eagle", 22, 120,
         "what-if/run/report.md"),
    Step("energy", "{python} -m benchmarks.gpu_findings energy {out}/what-if/run",
         "{python} -m benchmarks.gpu_findings energy {out}/what-if/run", 1, 5),
    Step("training", TRAINED + " train --data {data} --out {out}/trained --size 200m --seconds 150",
         TRAINED + " train --data {data} --out {out}/trained --size smoke", 30, 120,
         "trained/target/training.json", needs_data=True),
    Step("quickstart", TRAINED + " report --out {out}/trained",
         TRAINED + " report --out {out}/trained --smoke", 20, 60,
         "trained/quickstart/report.md", needs_data=True),
    Step("sweep", TRAINED + " sweep --out {out}/trained",
         TRAINED + " sweep --out {out}/trained --smoke", 15, 60, "trained/sweep/report.md"),
    Step("overhead", "{python} benchmarks/overhead.py 100",
         "{python} benchmarks/overhead.py 2", 10, 90),
)  # fmt: skip


@dataclass
class Outcome:
    """How a step went."""

    state: str
    seconds: float = 0.0
    reason: str = ""


def main(words: Sequence[str] | None = None) -> int:
    """Read the arguments, make the steps, print the table; exit code 1 if a step failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder of all results; given again, unfinished steps go on")
    parser.add_argument("--wheels", default="", help="folder of wheels, where there is no network")
    parser.add_argument("--data", default="", help="folder with gsm8k_train.jsonl and gsm8k_test.jsonl, to train on")
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes on the CPU")
    args = parser.parse_args(words)
    out = args.out or Path("runs") / f"gpu-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    names = {
        "python": sys.executable if args.dry_run else ".venv/bin/python",
        "host_python": sys.executable,
        "out": str(out),
        "data": args.data,
        "wheels": args.wheels,
    }
    script = Script(STEPS, out, names, args.minutes * 60, args.dry_run)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        script.run()
    except KeyboardInterrupt:
        print("interrupted; what was measured is kept, and goes on with the same OUT")
    print(script.table())
    return 1 if any(outcome.state == "failed" for outcome in script.outcomes.values()) else 0


class Script:
    """The steps in their order within a time; `outcomes` is kept in the folder after each."""

    def __init__(
        self, steps: Sequence[Step], out: Path, names: dict[str, str], seconds: float, dry: bool = False
    ) -> None:
        self._steps, self._out, self._names, self._dry = steps, out, names, dry
        self._deadline = time.monotonic() + seconds
        self._state = out / "state.json"
        self.outcomes: dict[str, Outcome] = {}
        if self._state.exists():
            saved = json.loads(self._state.read_text())
            self.outcomes = {name: Outcome(**fields) for name, fields in saved.items()}

    def run(self) -> None:
        """Make every step that is not done; after a vital one that failed, none."""
        (self._out / "logs").mkdir(parents=True, exist_ok=True)
        broken = ""
        for index, step in enumerate(self._steps):
            before = self.outcomes.get(step.name)
            if before is not None and before.state in KEPT and not step.vital:
                continue
            skipped = Outcome("skipped", reason=f"{broken} failed")
            outcome = skipped if broken else self._make(step, self._steps[index:])
            if step.vital and outcome.state != "done":
                broken = broken or step.name
            self.outcomes[step.name] = outcome
            self._state.write_text(json.dumps({name: asdict(each) for name, each in self.outcomes.items()}, indent=1))
            print(f"{step.name}: {outcome.state}, {outcome.seconds:.0f} s {outcome.reason}".rstrip(), flush=True)

    def _make(self, step: Step, ahead: Sequence[Step]) -> Outcome:
        left = self._deadline - time.monotonic()
        if step.needs_data and not self._names["data"]:
            return Outcome("skipped", reason="no data: give DATA=folder")
        if left < step.least_s:
            return Outcome("skipped", reason=f"{max(left, 0):.0f} s left, {step.least_s} needed")
        done = [each for each in ahead if self._is_done(each)]
        shares = sum(each.share for each in ahead if each not in done)
        allowed = min(left, max(step.least_s, left * step.share / shares))
        command = (step.dry if self._dry else step.command).split()
        return self._watch(step, [word.format(**self._names) for word in command], allowed)

    def _is_done(self, step: Step) -> bool:
        outcome = self.outcomes.get(step.name)
        return outcome is not None and outcome.state in KEPT and not step.vital

    def _watch(self, step: Step, command: list[str], allowed_s: float) -> Outcome:
        print(f"{step.name}: at most {allowed_s:.0f} s", flush=True)
        began = time.monotonic()
        stopped = False
        path = self._out / "logs" / f"{step.name}.log"
        with path.open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_heed_interrupts,
            )
            try:
                code = process.wait(allowed_s)
            except subprocess.TimeoutExpired:
                stopped, code = True, stop(process)
            except BaseException:
                stop(process)
                self.outcomes[step.name] = Outcome("shortened", time.monotonic() - began, "interrupted")
                raise
            finally:
                _signal(process, signal.SIGKILL)
        seconds = time.monotonic() - began
        if stopped:
            kept = bool(step.report) and (self._out / step.report).exists()
            return Outcome("shortened" if kept else "failed", seconds, "its time was up")
        if code:
            return Outcome("failed", seconds, f"exit code {code}: {_last_line(path)}")
        return Outcome("done", seconds)

    def table(self) -> str:
        """Step, state, seconds, and where the report or the log is; also written beside the results."""
        rows = [("step", "state", "seconds", "where", "why")]
        for step in self._steps:
            outcome = self.outcomes.get(step.name, Outcome("not begun"))
            report = self._out / step.report
            place = report if step.report and report.exists() else self._out / "logs" / f"{step.name}.log"
            where = str(place) if place.exists() else "–"
            rows.append((step.name, outcome.state, f"{outcome.seconds:.0f}", where, outcome.reason or "–"))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        text = "\n".join(lines)
        with contextlib.suppress(FileNotFoundError):
            (self._out / "summary.txt").write_text(text + "\n")
        return text


def stop(process: subprocess.Popen[bytes]) -> int:
    """Interrupt a step's processes, wait for them to finish tidily, kill what is left; its exit code."""
    _signal(process, signal.SIGINT)
    try:
        return process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        _signal(process, signal.SIGKILL)
        return process.wait()


def _heed_interrupts() -> None:
    """A script in a shell's background ignores SIGINT, and its children would too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _last_line(path: Path) -> str:
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    return (lines or ["no output"])[-1][:160]


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
