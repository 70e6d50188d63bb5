"""Two runs side by side: which cells moved, by how much, and what differs in their manifests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from draftbench.harness.errors import RecordError
from draftbench.harness.manifest import Manifest
from draftbench.harness.metrics.moves import Interval, move
from draftbench.harness.metrics.ratios import MIN_LAUNCHES
from draftbench.harness.metrics.row import Row
from draftbench.harness.records import ReferenceRecord
from draftbench.harness.store import REFERENCES, read_records
from draftbench.harness.units import MISSING, fixed
from draftbench.reports.files import Run
from draftbench.reports.table import interval_text

Change = Literal["faster", "slower", "no difference shown", "baseline", "not comparable"]
NOTE = (
    "speedup: over each run's own vanilla, since times of two runs are not compared; intervals of fewer than "
    f"{MIN_LAUNCHES} launches do not hold what starting the engines anew changes"
)
GREEDY_TOLERANCE = 0.02
"""Greedy runs of the same weights on the same prompts differ by rounding only, which turns few tokens."""
WIDE = 2.0
"""An interval whose ends are further apart than this factor holds 1 too easily to show anything."""
HEADERS = ("arm", "workload", "load", "τ", "speedup", "B / A [95%]", "verdict")
_WITHOUT_MEANING = {"started_at", "suite_text", "suite_sha256", "command", "finished", "version"}
_OF_THE_LAUNCH = {"port", "nccl_port", "random_seed", "model_path", "tokenizer_path", "speculative_draft_model_path"}


@dataclass(frozen=True)
class Moved:
    """One cell of the table in both runs."""

    name: tuple[str, str, str]
    """Arm, workload, load."""
    acceptance: tuple[float | None, float | None]
    speedups: tuple[float | None, float | None]
    ratio: Interval | None
    """Speedup over each run's own vanilla, B over A."""
    change: Change
    greedy: bool
    why: str
    """Why the cell is not comparable, or what its interval does not cover."""
    broken: bool = False
    """The first run has a valid row and the second has none."""

    def regressed(self, share: float) -> bool:
        """Whether the row broke, or its speedup or tokens per verify step fell by more than the share.

        A speedup counts only where its interval, if there is one, shows a fall at all.
        """
        if self.broken:
            return True
        before, after = self.acceptance
        if self.ratio is None:
            return False
        if before is not None and after is not None and after < before * (1 - share):
            return True
        if self.ratio.value >= 1 - share:
            return False
        return self.ratio.high is None or self.ratio.high < 1

    def reproduction(self) -> str:
        """Whether the second run reproduces the first: the interval of the ratio holds 1, and greedy τ is the same."""
        before, after = self.acceptance
        if self.broken:
            return f"not reproduced: {self.why}"
        if self.ratio is None:
            return self.verdict()
        if self.greedy and before and after and abs(after / before - 1) > GREEDY_TOLERANCE:
            return "not reproduced: τ differs"
        if self.ratio.low is None or self.ratio.high is None:
            return "cannot be said: no interval"
        if not self.ratio.low <= 1 <= self.ratio.high:
            return "not reproduced"
        wide = self.ratio.high / self.ratio.low > WIDE
        return "cannot be said: the interval is too wide" if wide else "reproduced"

    def verdict(self) -> str:
        """The change, and in brackets what to know about it."""
        return self.change + (f" ({self.why})" if self.why else "")

    def cells(self, verdict: str) -> list[str]:
        """One line of the table, with a verdict of either kind."""
        arm, workload, load = self.name
        ratio = self.ratio
        moved = MISSING if ratio is None else fixed(ratio.value, 3)
        if ratio is not None:
            moved += interval_text(ratio.low, ratio.high, digits=3)
        pairs = [" → ".join(fixed(value, 2) for value in pair) for pair in (self.acceptance, self.speedups)]
        return [arm, workload, load, *pairs, moved, verdict]


def compare(before: Run, after: Run) -> list[Moved]:
    """Every cell that is in either run, in the first run's order.

    Raises:
        RecordError: the runs differ in the target, its precision or how tokens are sampled.
    """
    reasons = list(_unlike(before.manifest, after.manifest))
    if reasons:
        raise RecordError(f"{before.folder} and {after.folder} cannot be compared: {'; '.join(reasons)}.")
    left, right = _by_name(before), _by_name(after)
    prompts = _prompts(before), _prompts(after)
    moved = []
    for name in dict.fromkeys([*left, *right]):
        same = prompts[0].get(name[1]) == prompts[1].get(name[1])
        moved.append(_moved(name, left.get(name), right.get(name), same))
    return moved


def manifest_differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What differs between two manifests, one setting a line, but what differs in every launch."""
    left, right = dict(_settings(before)), dict(_settings(after))
    return [
        f"{key}: {left.get(key, MISSING)} → {right.get(key, MISSING)}"
        for key in sorted(left.keys() | right.keys())
        if left.get(key) != right.get(key)
    ]


def _unlike(before: Manifest, after: Manifest) -> Iterator[str]:
    left, right = before.suite, after.suite
    if left.target.dtype != right.target.dtype:
        yield f"target.dtype is {left.target.dtype} and {right.target.dtype}"
    if left.target.revision != right.target.revision:
        yield f"target.revision is {left.target.revision} and {right.target.revision}"
    hashes = [manifest.models.get("target") for manifest in (before, after)]
    if None in hashes and left.target.model != right.target.model:
        yield f"target.model is {left.target.model} and {right.target.model}"
    elif None not in hashes and hashes[0] != hashes[1]:
        yield "the target's weights or configuration differ (models.target in the manifests)"
    sampling = left.sampling.model_dump(), right.sampling.model_dump()
    for key in sorted(sampling[0]):
        if sampling[0][key] != sampling[1][key]:
            yield f"sampling.{key} is {sampling[0][key]} and {sampling[1][key]}"


def _moved(name: tuple[str, str, str], left: Row | None, right: Row | None, same_prompts: bool) -> Moved:
    acceptance = (left.acceptance_length if left else None, right.acceptance_length if right else None)
    speedups = (left.speedup if left else None, right.speedup if right else None)
    greedy = all(row is None or row.temperature == 0 for row in (left, right))

    def refused(why: str) -> Moved:
        broken = left is not None and left.valid and (right is None or not right.valid)
        return Moved(name, acceptance, speedups, None, "not comparable", greedy, why, broken)

    if left is None or right is None:
        return refused(f"only in run {'B' if left is None else 'A'}")
    for run, row in (("A", left), ("B", right)):
        if not row.valid:
            return refused(f"invalid in run {run}")
    if not same_prompts:
        return refused("the prompts differ")
    if left.architecture != right.architecture:
        return refused(f"architecture is {left.architecture} and {right.architecture}")
    if left.architecture == "vanilla":
        return Moved(name, acceptance, speedups, None, "baseline", greedy, "")
    if left.concurrency is None:
        return refused("open loop: latencies of two runs are not compared")
    if left.speedup is None or right.speedup is None:
        return refused(f"no baseline in run {'A' if left.speedup is None else 'B'}")
    ratio = move(
        Interval(left.speedup, left.speedup_low, left.speedup_high),
        Interval(right.speedup, right.speedup_low, right.speedup_high),
    )
    launches = min(left.num_launches, right.num_launches)
    why = "" if launches >= MIN_LAUNCHES else f"{launches} launch{'es' if launches > 1 else ''}"
    return Moved(name, acceptance, speedups, ratio, _change(ratio), greedy, why)


def _change(ratio: Interval) -> Change:
    if ratio.low is not None and ratio.low > 1:
        return "faster"
    if ratio.high is not None and ratio.high < 1:
        return "slower"
    return "no difference shown"


def _by_name(run: Run) -> dict[tuple[str, str, str], Row]:
    return {(row.arm, row.workload, row.load + (f" on {row.device}" if row.device else "")): row for row in run.rows}


def _prompts(run: Run) -> dict[str, frozenset[tuple[str, int, str]]]:
    """Per workload, every prompt that the run sent, by id, turn and hash."""
    found: dict[str, set[tuple[str, int, str]]] = {}
    for record in read_records(run.folder / REFERENCES, ReferenceRecord, lambda text: None):
        found.setdefault(record.workload, set()).add((record.prompt_id, record.turn, record.prompt_sha256))
    return {workload: frozenset(prompts) for workload, prompts in found.items()}


def _settings(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        skipped = _WITHOUT_MEANING if not path else _OF_THE_LAUNCH if path.endswith(".server_args") else ()
        for key, item in value.items():
            if key not in skipped:
                yield from _settings(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            name = item["name"] if isinstance(item, Mapping) and "name" in item else index
            yield from _settings(item, f"{path}[{name}]")
    else:
        yield path, value
