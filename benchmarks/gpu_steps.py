"""The steps of `make gpu`, most telling first, and what each costs by what was seen on an H200.

Standard library alone, since it is read before anything is set up.
"""

from __future__ import annotations

from dataclasses import dataclass

COMPILING_S = 70
"""The first engines on a host without compiled kernels: 60 s more with a small target, 70 at LLaMA-3-8B's shape."""
PRELOAD_S = 25
"""The preloaded process of each run, from which its engines are forked: 20 to 28 s."""
ONE_S, SEVERAL_S = PRELOAD_S + 5, PRELOAD_S + 20
"""An engine of a small target, ready 3 to 12 s later; all of a launch at once, after 15 s, and their ends."""
LARGE_S = PRELOAD_S + 20
"""Four engines at LLaMA-3-8B's shape, up 16 s later."""


@dataclass(frozen=True)
class Cost:
    """Seconds on a host whose kernels are compiled.

    Attributes:
        starts: of engines, before anything is measured; spent anew whenever the step is gone on with.
        measuring: the rest.
        first: of measuring, what gives a first useful result; 0 for a step that is of no use until it is done.
        unknown: nobody has seen it run: the numbers are a guess.
    """

    starts: float
    measuring: float
    first: float = 0
    unknown: bool = False

    @property
    def whole(self) -> float:
        """From nothing to done."""
        return self.starts + self.measuring

    def remaining(self, spent: float) -> float:
        """What a step still takes that was cut after so many seconds, its starts among them."""
        done = max(0.0, spent - self.starts) if self.first else 0.0
        return self.starts + max(self.first, self.measuring - done)

    def least(self, spent: float) -> float:
        """With less it is not begun."""
        return self.starts + self.first if self.first else self.remaining(spent)


COSTS = {
    "setup": Cost(0, 25),
    "checks": Cost(0, 10),
    "first-table": Cost(SEVERAL_S, 20, unknown=True),
    "lossless-bfloat16": Cost(SEVERAL_S, 90, 30),
    "graphs": Cost(0, 2),
    "lossless-float32": Cost(SEVERAL_S, 90, 30, unknown=True),
    "rounds": Cost(LARGE_S, 320, 60),
    "layers": Cost(LARGE_S, 60, 20, unknown=True),
    "paper": Cost(LARGE_S, 90, 30),
    "training": Cost(ONE_S, 170, unknown=True),
    "quickstart": Cost(SEVERAL_S, 60, 20, unknown=True),
    "study": Cost(0, 420, 120, unknown=True),
    "sweep": Cost(SEVERAL_S, 110, 40, unknown=True),
    "what-if": Cost(LARGE_S, 165, unknown=True),
    "energy": Cost(0, 2),
    "overhead": Cost(ONE_S, 50, unknown=True),
}
"""By step; engines' starts dominate, so this is what to change when they become faster."""


@dataclass(frozen=True)
class Step:
    """One step: commands with {python}, {host_python}, {out}, {data} and {wheels} to be filled in.

    Attributes:
        report: what it leaves, below the output folder.
        vital: nothing later can run without it; made every time, because the next visit may be to another machine.
        needs_data: skipped where no data are given.
        needs: an earlier step whose `leaves` it reads; without data it does without.
        leaves: a file that other steps need and that is not kept: gone on the next machine, so the step is made again.
        then: a later step that is to follow in the same visit: it is not begun without time for that one's least.
    """

    name: str
    command: str
    dry: str
    cost: Cost
    report: str = ""
    vital: bool = False
    needs_data: bool = False
    needs: str = ""
    leaves: str = ""
    then: str = ""


RUN = "{python} -m benchmarks.suite_run"
TRAINED = "{python} -m benchmarks.trained_target"
ROUND = "{python} -m benchmarks.prism_round --out {out}/rounds --shape"
LAYERS = "{python} -m benchmarks.prism_round --layers --out {out}/layers --shape"
PAPER = "{python} -m benchmarks.paper_worth --out {out}/paper --shape"


def step(name: str, command: str, dry: str, report: str = "", **more: bool | str) -> Step:
    """A step with its cost."""
    return Step(name, command, dry, COSTS[name], report, **more)  # type: ignore[arg-type]


STEPS = (
    step("setup", "make setup PROFILE=cuda PYTHON={host_python} WHEELS={wheels}",
         "make --dry-run setup PROFILE=cuda PYTHON={host_python} WHEELS=wheels", vital=True),
    step("checks", "{python} bench.py doctor", "{python} bench.py doctor", vital=True),
    step("first-table", RUN + " suites/gpu/first-table.yaml {out}/first-table",
         "{python} bench.py plan suites/gpu/first-table.yaml", "first-table/report.md"),
    step("lossless-bfloat16", RUN + " suites/gpu/lossless-bfloat16.yaml {out}/lossless-bfloat16",
         RUN + " suites/gpu/lossless-dry.yaml {out}/lossless-bfloat16", "lossless-bfloat16/report.md"),
    step("graphs", "{python} -m benchmarks.gpu_findings graphs {out}/lossless-bfloat16",
         "{python} -m benchmarks.gpu_findings graphs {out}/lossless-bfloat16", needs="lossless-bfloat16"),
    step("lossless-float32", RUN + " suites/gpu/lossless-float32.yaml {out}/lossless-float32",
         "{python} bench.py plan suites/gpu/lossless-float32.yaml", "lossless-float32/report.md"),
    step("rounds", ROUND + " llama3-8b --vanilla --batch 1 4 16 64 --blocks 8 --tokens 64",
         ROUND + " small --vanilla --batch 1 2 --blocks 2 --tokens 16 --modules 2", "rounds/rounds.md"),
    step("layers", LAYERS + " llama3-8b --batch 1 --modules 2 --blocks 16 --tokens 64",
         LAYERS + " small --batch 1 --modules 2 --blocks 2 --tokens 16", "layers/rounds.md"),
    step("paper", PAPER + " llama3-8b",
         PAPER + " small --sets mt_bench --blocks 2 --tokens 32", "paper/paper.md"),
    step("training", TRAINED + " train --data {data} --out {out}/trained --size 200m --seconds 75",
         TRAINED + " train --data {data} --out {out}/trained --size smoke", "trained/target/training.json",
         needs_data=True, leaves="trained/drafts/prism-s0/model.safetensors", then="quickstart"),
    step("quickstart", TRAINED + " report --out {out}/trained", TRAINED + " report --out {out}/trained --smoke",
         "trained/quickstart/report.md", needs_data=True, needs="training"),
    step("study", TRAINED + " study --out {out}/trained", TRAINED + " study --out {out}/trained --smoke",
         "trained/study/README.md", needs_data=True, needs="training"),
    step("sweep", TRAINED + " sweep --out {out}/trained", TRAINED + " sweep --out {out}/trained --smoke",
         "trained/sweep/report.md", needs="training"),
    step("what-if", "{python} -m benchmarks.what_if --out {out}/what-if --shape llama3-8b --least-s 31",
         "{python} -m benchmarks.what_if --out {out}/what-if --shape small --least-s 0.5 --arms eagle",
         "what-if/run/report.md"),
    step("energy", "{python} -m benchmarks.gpu_findings energy {out}/what-if/run",
         "{python} -m benchmarks.gpu_findings energy {out}/what-if/run", needs="what-if"),
    step("overhead", "{python} benchmarks/overhead.py 100",
         "{python} benchmarks/overhead.py 2"),
)  # fmt: skip
"""In the order of what is to be shown first: lossless and in graphs; PRISM's round and vanilla's step; what the paper's
acceptance is worth; a trained target; load, energy and what measuring costs. A first table comes before everything."""
