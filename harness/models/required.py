"""What a suite needs that may not be here yet: models and sets to download, and memory for them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from draftbench.drafts.api import DraftError, discover
from draftbench.harness.errors import CheckpointError, HarnessError
from draftbench.harness.host.provenance import file_sha256
from draftbench.harness.models.checkpoints import check_target, load_arms_draft
from draftbench.harness.models.fairness import read_ledger, unfair
from draftbench.harness.models.find import WEIGHTS, hub_bytes, local_folder, read_target
from draftbench.harness.models.memory import DTYPE_BYTES, Memory, engine_bytes, memory
from draftbench.harness.models.served import unserved, unshared
from draftbench.harness.run.rendered import check_fit, context_left, first_prompts
from draftbench.harness.runtime.tensors import read_tensors
from draftbench.harness.suite import Arm, Suite, Workload, with_tokenizer
from draftbench.harness.suite.device_arguments import gpus_in_use
from draftbench.harness.workloads.conversations import home_of, load_workload
from draftbench.harness.workloads.render import ChatRenderer
from draftbench.harness.workloads.sources import COUNTED, SOURCES

LONGEST_READ = 8
"""Of a workload's prompts those with the most characters, whose tokens are counted."""
OBSTACLES = ("DOES NOT FIT", "REFUSED")


@dataclass(frozen=True)
class ModelNeed:
    """One model of a suite: where it is, or how much would be downloaded."""

    role: str
    name: str
    folder: Path | None
    num_bytes: int | None
    by_name: bool = False
    """The size is a guess from the count of parameters in the model's name."""

    def __str__(self) -> str:
        size = "size unknown" if self.num_bytes is None else f"{self.num_bytes / 1e9:.2g} GB"
        if self.folder is not None:
            return f"{self.role} {self.name}: here, {size}"
        guess = ", judged by its name" if self.by_name else ""
        return f"{self.role} {self.name}: not here; a run downloads it ({size}{guess})"


def needs_of(suite: Suite, suite_folder: Path) -> tuple[str, ...]:
    """A line for each model and workload, and one on memory; nothing is downloaded or started."""
    endpoints = [f"endpoint {arm.name}: {arm.endpoint}, {arm.api}" for arm in suite.arms if arm.is_endpoint]
    workloads = [workload_need(workload) for workload in suite.workloads]
    if len(endpoints) == len(suite.arms):
        target = f"target {suite.target.model}: its tokenizer alone; no engine is started"
        return (target, *endpoints, *workloads)
    models = model_needs(suite, suite_folder)
    return (
        *map(str, models),
        *endpoints,
        *target_needs(suite, models[0].folder),
        *draft_needs(suite, suite_folder),
        *workloads,
        *prompt_needs(suite, models[0].folder),
        *fairness_needs(suite, suite_folder),
        memory_need(suite, models, memory(gpus_in_use(suite))),
    )


def is_obstacle(line: str) -> bool:
    """Whether a line of `needs_of` says that a run would be refused or could not hold its models."""
    return any(word in line for word in OBSTACLES)


def model_needs(suite: Suite, suite_folder: Path) -> tuple[ModelNeed, ...]:
    """The target and every draft with weights."""
    revision = suite.target.revision
    name = suite.target.model if revision is None else f"{suite.target.model}@{revision}"
    target = _model("target", name, suite_folder)
    if target.num_bytes is None and (found := re.search(r"(\d+(?:\.\d+)?)b\b", suite.target.model, re.IGNORECASE)):
        num_bytes = int(float(found[1]) * 1e9) * DTYPE_BYTES[suite.target.dtype]
        target = ModelNeed(target.role, target.name, target.folder, num_bytes, by_name=True)
    drafts = [
        _model(f"draft {arm.name}", arm.checkpoint, suite_folder) for arm in suite.arms if arm.checkpoint is not None
    ]
    return (target, *drafts)


def draft_needs(suite: Suite, suite_folder: Path) -> list[str]:
    """For each draft with weights that is on this machine whether a run would take it, by the run's own check."""
    name, revision = suite.target.model, suite.target.revision
    target = local_folder(name if revision is None else f"{name}@{revision}", suite_folder)
    folders = {arm.name: local_folder(arm.checkpoint, suite_folder) for arm in suite.arms if arm.checkpoint is not None}
    here = {name: folder for name, folder in folders.items() if folder is not None}
    if target is None:
        return [f"draft {name}: not known whether it fits before the target's download" for name in here]
    return [
        f"draft {arm.name}: {_judged(suite, arm, here[arm.name], target)}"
        for arm in suite.arms
        if arm.name in here and arm.tree is not None
    ]


def target_needs(suite: Suite, target: Path | None) -> list[str]:
    """What is wrong with a target that is on this machine, and arms that SGLang cannot run for it; none if all is well.

    Its numbers are looked at when a run starts: that reads the files from end to end.
    """
    if target is None:
        return []
    try:
        config = read_target(target, not suite.target.random_weights)
        if not suite.target.random_weights:
            check_target(target, config, read_tensors([target], values=False)[target])
    except HarnessError as error:
        return [f"target {suite.target.model}: DOES NOT FIT: {error}"]
    specs = {arm.name: discover()[arm.architecture] for arm in suite.arms if arm.architecture in discover()}
    if specs and (reason := unshared(config, suite.target.tensor_parallel)) is not None:
        return [f"target {suite.target.model}: DOES NOT FIT: {reason}"]
    reasons = {name: unserved(config, spec) for name, spec in specs.items()}
    return [f"arm {name}: DOES NOT FIT: {reason}" for name, reason in reasons.items() if reason is not None]


def prompt_needs(suite: Suite, target: Path | None) -> list[str]:
    """Of workloads whose prompts are on this machine how many there are, and whether the longest one fits."""
    lines = []
    for workload in suite.workloads:
        if workload.path is None and not SOURCES[workload.source].synthetic:
            continue
        try:
            lines.append(f"prompts of {workload.name}: {_prompts(suite, workload, target)}")
        except HarnessError as error:
            lines.append(f"prompts of {workload.name}: REFUSED: {error}")
    return lines


def _prompts(suite: Suite, workload: Workload, target: Path | None) -> str:
    if target is not None:
        suite = with_tokenizer(suite, target)
        workload = next(own for own in suite.workloads if own.name == workload.name)
    elif workload.source in COUNTED:
        return "made with the target's tokenizer, which is not here"
    found = load_workload(workload, suite.sampling.seed)
    if target is None:
        return f"{len(found)}"
    room = context_left(suite, read_target(target, needs_weights=False))
    prompts = first_prompts(suite, workload, ChatRenderer(target, suite.rendering), LONGEST_READ)
    check_fit(prompts, room, suite)
    taken, limit = max(len(each.prompt_ids) + each.max_tokens for each in prompts), min(room, suite.max_total_tokens)
    return f"{len(found)}; the longest request takes at most {taken} of {limit} tokens"


def _judged(suite: Suite, arm: Arm, draft: Path, target: Path) -> str:
    try:
        if arm.architecture not in discover():
            raise DraftError(f"architecture {arm.architecture} is not installed; see bench.py list.")
        found = load_arms_draft(
            arm, discover()[arm.architecture], draft, target, read_tensors([draft], values=False)[draft]
        )
    except HarnessError as error:
        return f"DOES NOT FIT: {error}"
    if (reason := unshared(found.config, suite.target.tensor_parallel)) is not None:
        return f"DOES NOT FIT: {reason}"
    if found.trained_tokens is None:
        return "fits"
    return f"fits; made for {found.trained_tokens} tokens, beyond which expect worse acceptance"


def _model(role: str, name: str, suite_folder: Path) -> ModelNeed:
    folder = local_folder(name, suite_folder)
    if folder is None:
        return ModelNeed(role, name, None, hub_bytes(name))
    # A repository may hold the same weights in several formats; the first of these is what is loaded.
    sizes = (sum(file.stat().st_size for file in folder.glob(pattern)) for pattern in WEIGHTS)
    return ModelNeed(role, name, folder, next((size for size in sizes if size), None))


def workload_need(workload: Workload) -> str:
    """Where a workload's prompts come from, under which terms."""
    source = SOURCES[workload.source]
    if source.synthetic:
        return f"workload {workload.name}: synthetic, made here"
    if workload.path is not None:
        path = Path(workload.path)
        if not path.is_file():
            return f"workload {workload.name}: {path}"
        digest = file_sha256(path)
        authors = f", the authors' file; {source.licence}" if digest == source.sha256 else ""
        return f"workload {workload.name}: {path}, SHA-256 {digest[:12]}{authors}"
    return f"workload {workload.name}: downloaded once from {home_of(workload)}; {source.licence}"


def fairness_needs(suite: Suite, suite_folder: Path) -> list[str]:
    """Whether what the suite requires to be alike is so, for the drafts that are here; none if it requires nothing."""
    if not suite.fairness.require:
        return []
    here, absent = ledgers_here(suite, suite_folder)
    seen = suite.model_copy(update={"arms": tuple(arm for arm in suite.arms if arm.name not in absent)})
    lines = [f"fairness: REFUSED: {problem}" for problem in unfair(seen, here)]
    if not lines:
        drafts_seen = ", ".join(arm.name for arm in seen.arms if arm.tree is not None)
        lines = [f"fairness: {', '.join(suite.fairness.require)}: alike for {drafts_seen or 'no draft yet'}"]
    return lines + [f"fairness: not known before its download: {name}" for name in absent]


def ledgers_here(suite: Suite, suite_folder: Path) -> tuple[dict[str, dict[str, Any] | None], list[str]]:
    """The ledgers of the drafts that are on this machine, by arm, and the arms whose drafts are not."""
    drafts = {arm.name: arm.checkpoint for arm in suite.arms if arm.checkpoint is not None}
    folders = {name: local_folder(checkpoint, suite_folder) for name, checkpoint in drafts.items()}
    here = {name: read_ledger(folder) for name, folder in folders.items() if folder is not None}
    return here, [name for name in drafts if name not in here]


def memory_need(suite: Suite, models: tuple[ModelNeed, ...], here: Memory) -> str:
    """Whether an engine fits, as far as sizes are known, and how many do side by side. One at a time is enough."""
    target, drafts = models[0], models[1:]
    if target.num_bytes is None:
        return f"memory: the target's size is unknown; {here.where} has {here.free_bytes / 1e9:.0f} GB free"
    largest = max((draft.num_bytes or 0 for draft in drafts), default=0)
    config = {} if target.folder is None else _config(target.folder)
    needed = engine_bytes(suite, config, target.num_bytes, largest, here.on_gpu)
    unknown = not config or any(draft.num_bytes is None for draft in drafts)
    verdict = "fits as far as sizes are known" if unknown else "fits"
    verdict = verdict if here.fitting(needed) else "DOES NOT FIT"
    num_engines = sum(not arm.is_endpoint for arm in suite.arms)
    together = min(here.fitting(needed), num_engines)
    beside = f"; {together} of {num_engines} engines fit side by side" if together else ""
    return (
        f"memory: {verdict}: an engine with the target, the largest draft and the KV pool takes at most "
        f"{needed / 1e9:.2g} GB, {here.where} has {here.free_bytes / 1e9:.0f} GB free{beside}"
    )


def _config(folder: Path) -> dict[str, Any]:
    try:
        return read_target(folder, needs_weights=False)
    except CheckpointError:
        return {}
