"""What only a GPU can show, unattended, visit by visit: sets up, checks, measures the next steps that fit the time.

    make gpu [MINUTES=6] [WHEELS=folder] [DATA=folder] [OUT=folder]       see docs/gpu.md
    python -m benchmarks.gpu --dry-run --out runs/dry                     the same steps with tiny shapes, on the CPU

Imports the standard library alone, so that it runs before anything is set up. Given the same folder again it goes on
where it stopped. Whenever it is ended, the folder holds what was measured, and kept.tgz what is worth bringing back.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.gpu_steps import COMPILING_S, STEPS, Step

MINUTES = 25.0
STOP_S = 25.0
"""A step that was told to stop ends its engines and writes its report within this; then it is killed."""
KEPT = ("done",)
"""States that a later visit does not touch again."""
PATIENCE = 2.0
"""A step may take so many times what it is expected to, and a minute; then it hangs, and others get the time."""
PACES = (0.3, 3.0)
"""A host may seem this much faster or slower than the one that the costs were seen on."""
WEIGHTS = (".safetensors", ".pt", ".bin")
NOT_KEPT = ("trained/target", "trained/drafts", "trained/study-drafts")
"""Folders of models, like every other one that holds weights: made anew where they are needed."""
COMPILED = (".cache/flashinfer", ".cache/tvm-ffi")
"""Below the home folder: kernels that engines compiled."""


@dataclass
class Outcome:
    """How a step went.

    Attributes:
        seconds: over all visits; of set-up and checks the last one's.
        compiled: whether its engines were a host's first, which compile kernels.
    """

    state: str
    seconds: float = 0.0
    reason: str = ""
    visits: int = 1
    compiled: bool = False


def main(words: Sequence[str] | None = None) -> int:
    """Read the arguments, make the steps, print the table; exit code 1 if a step failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder of all results; given again, unfinished steps go on")
    parser.add_argument("--wheels", default="", help="folder of wheels, where there is no network")
    parser.add_argument("--data", default="", help="folder with gsm8k_train.jsonl and gsm8k_test.jsonl, to train on")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="of this visit, all in all")
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
    cold = not any((Path.home() / folder).exists() for folder in COMPILED)
    script = Script(STEPS, out, names, args.minutes * 60, dry=args.dry_run, cold=cold)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        script.run()
    except KeyboardInterrupt:
        print("interrupted; what was measured is kept, and goes on with the same OUT")
    print(script.table())
    return 1 if any(outcome.state == "failed" for outcome in script.outcomes.values()) else 0


class Script:
    """The steps in their order within a visit's time; `outcomes` is kept in the folder after each.

    Args:
        seconds: of this visit; a dry run takes what it takes.
        cold: whether the first engines of this visit compile their kernels.
    """

    def __init__(
        self, steps: Sequence[Step], out: Path, names: dict[str, str], seconds: float, *, dry: bool = False,
        cold: bool = False,
    ) -> None:  # fmt: skip
        self._steps, self._out, self._names, self._dry, self._cold = steps, out, names, dry, cold
        self._deadline = time.monotonic() + seconds
        self._state = out / "state.json"
        self.outcomes: dict[str, Outcome] = {}
        if self._state.exists():
            saved = json.loads(self._state.read_text())
            self.outcomes = {name: Outcome(**fields) for name, fields in saved.items()}

    def run(self) -> None:
        """Make every step that is not done and fits; after a vital one that failed, none."""
        (self._out / "logs").mkdir(parents=True, exist_ok=True)
        broken = ""
        for step in self._order():
            if not self._wanted(step):
                continue
            outcome = self._left(step, f"{broken} failed") if broken else self._make(step)
            if step.vital and outcome.state != "done":
                broken = broken or step.name
            self._record(step, outcome)
            print(f"{step.name}: {outcome.state}, {outcome.seconds:.0f} s {outcome.reason}".rstrip(), flush=True)
            if outcome.state in ("done", "shortened"):
                print(shown(self._out / step.report), end="", flush=True)

    def _order(self) -> list[Step]:
        """As listed; what failed on an earlier visit comes after what has not been tried."""
        failed = {name for name, outcome in self.outcomes.items() if outcome.state == "failed"}
        return sorted(self._steps, key=lambda step: step.name in failed and not step.vital)

    def _wanted(self, step: Step) -> bool:
        """Whether it is still to be made: not done, or done on another machine and needed once more."""
        if step.vital or self._state_of(step.name) not in KEPT:
            return True
        readers = [each for each in self._steps if each.needs == step.name and self._state_of(each.name) not in KEPT]
        return bool(step.leaves and readers) and not (self._out / step.leaves).exists()

    def _state_of(self, name: str) -> str:
        return self.outcomes[name].state if name in self.outcomes else ""

    def _make(self, step: Step) -> Outcome:
        if step.needs_data and not self._names["data"]:
            return Outcome("skipped", reason="no data: give DATA=folder")
        if step.needs and self._lacks(step.needs):
            return self._left(step, f"{step.needs} comes first")
        left, needed = self._deadline - time.monotonic(), self.least_s(step)
        if not self._dry and left < needed:
            return self._left(step, f"{max(left, 0):.0f} s left, {needed:.0f} needed")
        before = Outcome("", visits=0) if step.vital else self._before(step)
        allowed_s = self._allowed_s(step, left)
        self._record(step, Outcome("begun", before.seconds, "not ended", before.visits + 1))
        command = (step.dry if self._dry else step.command).split()
        found = self._watch(step, [word.format(**self._names) for word in command], allowed_s)
        compiled = bool(self._compiling_s(step))
        self._cold = self._cold and not compiled
        return Outcome(found.state, before.seconds + found.seconds, found.reason, before.visits + 1, compiled)

    def _before(self, step: Step) -> Outcome:
        return self.outcomes.get(step.name, Outcome("", visits=0))

    def _left(self, step: Step, reason: str) -> Outcome:
        """For another visit; what was measured on earlier ones still counts."""
        before = self._before(step)
        return Outcome("left", before.seconds, reason, before.visits)

    def _lacks(self, needed: str) -> bool:
        """Whether a step that another reads has yet to leave something; what is skipped or failed is done without."""
        step = next(each for each in self._steps if each.name == needed)
        state = self._state_of(needed)
        if step.leaves and not self._dry:
            return state not in ("skipped", "failed") and not (self._out / step.leaves).exists()
        return state not in ("done", "shortened", "skipped", "failed")

    def least_s(self, step: Step) -> float:
        """What is needed to begin a step: its first useful result and its end, and that of the step that follows."""
        found = self._pace() * step.cost.least(self._spent(step)) + self._compiling_s(step)
        ahead = [each for each in self._steps if each.name == step.then and self._state_of(each.name) not in KEPT]
        found += sum(self._pace() * each.cost.least(0) for each in ahead)
        return found if step.vital else found + STOP_S

    def _allowed_s(self, step: Step, left: float) -> float:
        """What a step gets: the time that is left but for its end; if it hangs, less."""
        if self._dry:
            return max(left, 0)
        expected = self._pace() * step.cost.remaining(self._spent(step)) + self._compiling_s(step)
        return max(1.0, min(left - STOP_S, PATIENCE * expected + 60))

    def _compiling_s(self, step: Step) -> float:
        return COMPILING_S if self._cold and step.cost.starts else 0.0

    def _spent(self, step: Step) -> float:
        outcome = self.outcomes.get(step.name)
        return outcome.seconds if outcome is not None and outcome.state in ("shortened", "begun", "left") else 0.0

    def _pace(self) -> float:
        """How this folder's steps went against what they were expected to take: done ones that start engines."""
        expected, spent = 0.0, 0.0
        for step in self._steps:
            outcome = self.outcomes.get(step.name)
            if outcome is None or outcome.compiled or outcome.state != "done" or outcome.visits > 1:
                continue
            if step.cost.starts:
                expected, spent = expected + step.cost.whole, spent + outcome.seconds
        return min(max(spent / expected, PACES[0]), PACES[1]) if expected else 1.0

    def _record(self, step: Step, outcome: Outcome) -> None:
        """Keep the outcomes, the table, and the archive of everything that is to be brought back."""
        self.outcomes[step.name] = outcome
        text = json.dumps({name: asdict(each) for name, each in self.outcomes.items()}, indent=1)
        replace(self._state, text.encode())
        self.table()
        if outcome.state not in ("begun", "left", "skipped"):
            archive(self._out)

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
                before = self._before(step)
                spent = before.seconds + time.monotonic() - began
                self._record(step, Outcome("shortened", spent, "interrupted", before.visits))
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
        """Step, state, seconds, where the report or the log is, and what is left; also written beside the results."""
        rows = [("step", "state", "seconds", "where", "why")]
        for step in self._steps:
            outcome = self.outcomes.get(step.name, Outcome("not begun"))
            report = self._out / step.report
            place = report if step.report and report.exists() else self._out / "logs" / f"{step.name}.log"
            where = str(place) if place.exists() else "–"
            rows.append((step.name, outcome.state, f"{outcome.seconds:.0f}", where, outcome.reason or "–"))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        ahead = [step for step in self._steps if self._state_of(step.name) not in ("done", "skipped")]
        if ahead:
            seconds = sum(self._pace() * step.cost.remaining(self._spent(step)) for step in ahead)
            lines.append(f"left for another visit with the same OUT, about {seconds:.0f} s besides set-up and checks: "
                         + ", ".join(step.name for step in ahead if not step.vital))  # fmt: skip
        text = "\n".join(lines)
        with contextlib.suppress(FileNotFoundError):
            replace(self._out / "summary.txt", f"{text}\n".encode())
        return text


def archive(out: Path) -> None:
    """Write kept.tgz: everything but models and weights."""
    partial = out / "kept.tgz.partial"
    with tarfile.open(partial, "w:gz", compresslevel=6) as tar:
        for path in kept_files(out):
            tar.add(path, path.relative_to(out), recursive=False)
    partial.replace(out / "kept.tgz")


def kept_files(out: Path) -> Iterator[Path]:
    """Files worth bringing back or publishing, in order."""
    for folder, below, files in os.walk(out):
        here = Path(folder)
        is_model = any(name.endswith(WEIGHTS) for name in files)
        if is_model or here.relative_to(out).as_posix() in NOT_KEPT:
            below.clear()
            continue
        below.sort()
        yield from (here / name for name in sorted(files) if not name.startswith("kept.tgz"))


def shown(report: Path) -> str:
    """The first table of a report in Markdown; nothing where there is none."""
    if report.suffix != ".md" or not report.exists():
        return ""
    lines = report.read_text().splitlines()
    first = next((number for number, line in enumerate(lines) if line.startswith("|")), len(lines))
    last = next((number for number in range(first, len(lines)) if not lines[number].startswith("|")), len(lines))
    return "".join(f"{line}\n" for line in lines[first:last])


def replace(path: Path, content: bytes) -> None:
    """Write a file so that it is the old or the new one whenever the script is killed."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)


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
