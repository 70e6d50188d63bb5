"""Finds each draft's best tree by measuring: two runs of ordinary suites on prompts that are not the test's.

Every draft gets the same number of trees and of cells. In the first run all of them have one block; the last takes each
draft's own tree and its best others, and its speedups decide: what looked good by luck is measured again.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from draftbench.drafts.api import Tree, discover
from draftbench.harness.errors import EngineError, SuiteError
from draftbench.harness.host.provenance import has_gpu
from draftbench.harness.metrics.row import Row
from draftbench.harness.models.find import embedded_names
from draftbench.harness.run.plan import estimate
from draftbench.harness.runtime.fleet import SglangFleet, find_fleet
from draftbench.harness.suite import Fairness, LoadPoint, Suite, Tuning, load_suite, with_tokenizer
from draftbench.harness.suite.read import point_text
from draftbench.harness.tune.trees import spread_trees
from draftbench.harness.units import MISSING, tree_text
from draftbench.harness.workloads.conversations import load_set

FINALISTS = 3
"""One in so many trees of a draft is measured in the last stage, and two at least."""
FIRST, LAST = "first", "last"

Measure = Callable[[Suite, str], Sequence[Row]]
"""Runs a stage's suite into the folder of that name, or goes on with it, and returns its rows."""


@dataclass(frozen=True)
class Tried:
    """One tree of one draft.

    Attributes:
        arm: the draft's name in the user's suite; `name` is the tree's in the runs.
        first: speedup over vanilla in the first stage, geometric mean over workloads and load points; None where it
            took no part or one of its rows is missing or invalid; `last`: the same of the last stage.
    """

    arm: str
    name: str
    tree: Tree
    is_own: bool
    first: float | None = None
    last: float | None = None

    def speedup(self, rows: Sequence[Row], num_points: int) -> float | None:
        """What a stage's rows say of it."""
        own = [row for row in rows if row.arm == self.name and row.valid and row.speedup is not None]
        logs = [math.log(row.speedup or 1) for row in own]
        return math.exp(fmean(logs)) if len(logs) == num_points else None


def tune_suite(
    suite: Suite, source: Path, out: Path, run: str, measure: Measure, note: Callable[[str], None]
) -> tuple[list[str], list[list[str]]]:
    """Tune a suite's drafts and write the tuned suite.

    Args:
        source: where the suite was read from; `out` is where the tuned one is written.
        run: name of the folder that the stages are run into.

    Returns:
        Headers and lines of a table of all that was tried.

    Raises:
        SuiteError: the suite cannot be tuned, or there is a file at `out` already.
        WorkloadError: a source has too few prompts beside the test's.
    """
    if out.exists():
        raise SuiteError(f"{out} is there already; give another --out.")
    check_tunable(suite)
    arms = find_fleet(suite, discover(), source.parent, out.parent, has_gpu())
    suite = with_tokenizer(suite, arms.target)
    tried = candidates(suite, arms)
    tuning = Tuning(configurations=suite.tune.configurations, prompts_sha256=prompts_sha256(suite), run=run)
    stage, num_blocks = (FIRST, 1) if has_first_stage(suite) else (LAST, suite.tune.blocks)
    note(f"{stage} stage, {len(tried)} trees: {estimate(stage_suite(suite, tried, stage, num_blocks))}")
    if has_first_stage(suite):
        note(f"{LAST} stage, {num_finalists(suite)} trees of each draft: {suite.tune.blocks} blocks")
    trees, tried = tune(suite, tried, measure)
    out.write_text(tuned_suite(point_text(source), trees, tuning, source, out))
    load_suite(out, suite.allowed)
    lines = [
        [each.arm, tree_text(each.tree), _speedup_text(each.first), _speedup_text(each.last), chosen]
        for each in tried
        for chosen in ["yes" if trees.get(each.arm) == each.tree else ""]
    ]
    return ["arm", "depth × width, nodes", "first stage", "last stage", "chosen"], lines


def check_tunable(suite: Suite) -> None:
    """What can be said before any model is looked at.

    Raises:
        SuiteError: there is nothing to tune or to measure against, or the suite is tuned already.
    """
    names = {arm.name for arm in suite.arms}
    if all(arm.tree is None for arm in suite.arms):
        problem = "it has no arm with a draft; add one."
    elif all(arm.architecture != "vanilla" for arm in suite.arms):
        problem = "trees are compared by their speedup over vanilla; add an arm with architecture vanilla."
    elif not closed_loops(suite):
        problem = "in an open loop the arrivals set the throughput; add a load point with concurrency."
    elif tuned := [arm.name for arm in suite.arms if arm.tuning is not None]:
        problem = f"{', '.join(tuned)} is tuned already; tune the suite that this one was made from."
    elif taken := [f"{name}-tuned" for name in names if f"{name}-tuned" in names]:
        problem = f"it has an arm {', '.join(taken)}, as a tuned one will be named; rename it."
    else:
        return
    raise SuiteError(f"{suite.name} cannot be tuned: {problem}")


def closed_loops(suite: Suite) -> tuple[LoadPoint, ...]:
    """The load points whose throughput is the engine's; in an open loop it is the arrivals'."""
    return tuple(point for point in suite.load if not point.is_open)


def candidates(suite: Suite, arms: SglangFleet) -> tuple[Tried, ...]:
    """Every tree that is tried, arm by arm, each arm's own first.

    Raises:
        SuiteError: a draft allows too few trees.
    """
    found = []
    for arm in suite.arms:
        if arm.tree is None:
            continue
        try:
            accepts, largest = partial(arms.accepts, arm.name), arms.specs[arm.name].largest_tree
            trees = spread_trees(arm.tree, suite.tune.configurations, accepts, largest)
        except SuiteError as error:
            raise SuiteError(f"arm {arm.name}: {error}") from error
        for tree in trees:
            name = f"{arm.name}.{tree.num_steps}x{tree.topk}x{tree.num_draft_tokens}"
            found.append(Tried(arm.name, name, tree, tree == arm.tree))
    return tuple(found)


def num_finalists(suite: Suite) -> int:
    """Trees of each draft in the last stage."""
    return max(2, math.ceil(suite.tune.configurations / FINALISTS))


def has_first_stage(suite: Suite) -> bool:
    """Whether some trees are left out of the last stage."""
    return num_finalists(suite) < suite.tune.configurations


def stage_suite(suite: Suite, tried: Sequence[Tried], stage: str, num_blocks: int) -> Suite:
    """The suite of one stage: vanilla and these trees, on other prompts, in one launch, without open loops."""
    by_name = {arm.name: arm for arm in suite.arms}
    trees = [by_name[each.arm].model_copy(update={"name": each.name, **asdict(each.tree)}) for each in tried]
    vanilla = next(arm for arm in suite.arms if arm.architecture == "vanilla")
    others = {"tune_prompts": suite.tune.prompts}
    return suite.model_copy(
        update={
            "name": f"{suite.name[:50]}-tune-{stage}",
            "arms": (vanilla, *trees),
            "workloads": tuple(workload.model_copy(update=others) for workload in suite.workloads),
            "blocks": num_blocks,
            "load": closed_loops(suite),
            "launches": 1,
            "auto": None,
            "fairness": Fairness(),
        }
    )


def finalists(tried: Sequence[Tried], count: int) -> tuple[Tried, ...]:
    """Each draft's own tree and the fastest of its others, `count` of each draft."""
    kept: list[Tried] = []
    for arm in dict.fromkeys(each.arm for each in tried):
        own = [each for each in tried if each.arm == arm and each.is_own]
        others = [each for each in tried if each.arm == arm and not each.is_own and each.first is not None]
        kept += own + sorted(others, key=lambda each: -(each.first or 0))[: count - 1]
    return tuple(kept)


def tune(suite: Suite, tried: Sequence[Tried], measure: Measure) -> tuple[dict[str, Tree], tuple[Tried, ...]]:
    """Run both stages, or the last alone where it takes all trees.

    Returns:
        The fastest tree of each draft with a valid one; a draft's own where no other is faster. And every tree that
        was tried, with its speedups.

    Raises:
        EngineError: a stage has no valid speedup at all.
    """
    num_points = len(suite.workloads) * len(closed_loops(suite))
    last = tuple(tried)
    if has_first_stage(suite):
        rows = measure(stage_suite(suite, tried, FIRST, 1), FIRST)
        tried = [replace(each, first=each.speedup(rows, num_points)) for each in tried]
        _check_any(FIRST, [each.first for each in tried])
        last = finalists(tried, num_finalists(suite))
    rows = measure(stage_suite(suite, last, LAST, suite.tune.blocks), LAST)
    measured = {each.name: replace(each, last=each.speedup(rows, num_points)) for each in last}
    _check_any(LAST, [each.last for each in measured.values()])
    best: dict[str, Tried] = {}
    for each in measured.values():
        held = best.get(each.arm)
        if (each.last or 0) > (0 if held is None else held.last or 0):
            best[each.arm] = each
    return {arm: each.tree for arm, each in best.items()}, tuple(measured.get(each.name, each) for each in tried)


def _check_any(stage: str, speedups: Sequence[float | None]) -> None:
    if all(speedup is None for speedup in speedups):
        raise EngineError(
            f"no tree has a valid speedup in the {stage} stage; its report in the folder {stage} says why. Mend it and "
            "go on with --resume, or begin anew."
        )


def prompts_sha256(suite: Suite) -> str:
    """Hash of the prompts that trees are tried on.

    Raises:
        WorkloadError: a source has too few prompts beside the test's.
        SuiteError: a prompt is one of the test's, of another workload.
    """
    seed, digest = suite.sampling.seed, hashlib.sha256()
    tested = {c.turns: w.name for w in suite.workloads for c in load_set(w, seed).conversations}
    for workload in suite.workloads:
        found = load_set(workload.model_copy(update={"tune_prompts": suite.tune.prompts}), seed)
        digest.update(found.sha256.encode())
        for conversation in found.conversations:
            if conversation.turns in tested:
                raise SuiteError(
                    f"workload {workload.name}: {conversation.prompt_id}, a prompt to tune on, is one that workload "
                    f"{tested[conversation.turns]} tests; give workloads of one source the same num_prompts."
                )
    return digest.hexdigest()


def tuned_suite(text: str, trees: Mapping[str, Tree], tuning: Tuning, source: Path, out: Path) -> str:
    """The user's suite with a tuned arm behind each arm; one whose own tree was the fastest is only marked.

    Args:
        text: of the user's suite, at `source`; `out` is where the tuned one will be.
    """
    values = yaml.safe_load(text)
    if source.parent.resolve() != out.parent.resolve():
        _rebase(values, source.parent, out.parent)
    mark = tuning.model_dump()
    arms = []
    for arm in values["arms"]:
        tree = None if arm["name"] not in trees else asdict(trees[arm["name"]])
        if tree is None or tree.items() <= arm.items():
            arms.append(arm if tree is None else {**arm, "tuning": mark})
        else:
            arms += [arm, {**arm, "name": f"{arm['name']}-tuned", **tree, "tuning": mark}]
    values |= {"name": f"{values['name'][:54]}-tuned", "arms": arms}
    head = f"# {source.name} with the trees that `bench.py tune` found; see docs/fairness.md.\n"
    # Through JSON, so that every tuned arm shows its mark: YAML would refer to the first one.
    return head + str(yaml.safe_dump(json.loads(json.dumps(values)), sort_keys=False, allow_unicode=True, width=110))


def _rebase(values: dict[str, Any], before: Path, after: Path) -> None:
    """Let relative paths in a suite's values point to the same files from another folder."""
    sections = [(values["target"], "model"), (values.get("rendering") or {}, "template")]
    sections += [(values.get("fairness") or {}, "corpus")]
    sections += [(arm, "checkpoint") for arm in values["arms"]]
    sections += [(point, "trace") for point in values["load"]]
    sections += [(workload, field) for workload in values["workloads"] for field in ("path", "tokenizer")]
    for section, field in sections:
        name = section.get(field)
        if name and name not in embedded_names() and (before / name).exists():
            section[field] = os.path.relpath((before / name).resolve(), after.resolve())


def _speedup_text(speedup: float | None) -> str:
    return MISSING if speedup is None else f"{speedup:.2f}x"
