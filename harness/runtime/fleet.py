"""From a suite's arm to its running, checked engine."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

from draftbench.drafts.api import DraftError, DraftSpec, Loadable, Tree
from draftbench.harness.engine import Receipt
from draftbench.harness.errors import CheckpointError, EngineError
from draftbench.harness.host.gpu import gpu_problems, installed_torch, read_gpu_host
from draftbench.harness.host.provenance import folder_sha256
from draftbench.harness.load.endpoint import Endpoint, open_endpoint
from draftbench.harness.models.checkpoints import check_target, lay_out, load_arms_draft, load_draft
from draftbench.harness.models.fairness import read_ledger
from draftbench.harness.models.find import model_folder, num_parameters, read_config, read_target
from draftbench.harness.models.memory import DTYPE_BYTES, engine_bytes, memory, weight_bytes
from draftbench.harness.models.served import check_arm, check_shared
from draftbench.harness.run.pool import EnginePool
from draftbench.harness.run.rendered import context_left
from draftbench.harness.runtime.arguments import (
    Argument,
    ModelPaths,
    otherwise_shared,
    server_arguments,
    simulation_of,
    unequal_arguments,
)
from draftbench.harness.runtime.launch import SglangEngine, engine_environment, start_engine
from draftbench.harness.runtime.preload import Preloaded, preloaded
from draftbench.harness.runtime.starting import StartingArm
from draftbench.harness.runtime.tensors import TensorFacts, read_tensors
from draftbench.harness.suite import Arm, Suite
from draftbench.harness.suite.device_arguments import gpus_in_use, shared_arguments

STARTS_PER_CORE = 3
"""Engines that start at a time: a forked start takes some seconds of one core, and waits in between."""
NODES = Path("/sys/devices/system/node")
"""Where Linux lists the host's NUMA nodes."""
REFERENCE = Arm.model_validate({"name": "reference", "architecture": "vanilla"})
"""Stands in for the reference pass where a suite has no vanilla arm."""


@dataclass(frozen=True)
class SglangFleet:
    """Every arm of a suite with its models found and checked, ready to be started."""

    suite: Suite
    specs: Mapping[str, DraftSpec]
    paths: Mapping[str, ModelPaths]
    loadables: Mapping[str, Loadable]
    """What each arm with a checkpoint loads from it."""
    tensors: Mapping[Path, Mapping[str, TensorFacts]]
    """Of each draft's folder."""
    by_name: Mapping[str, Arm]
    has_gpu: bool
    engines_folder: Path
    target: Path
    """The target's folder."""
    endpoints: Mapping[str, Endpoint]
    """Arms that are servers which run already."""
    preloaded: Preloaded | None = None
    """What engines are forked from; None starts each as a user's shell would."""

    @property
    def context_tokens(self) -> int:
        """The target's context, shortened by what a round may draft beyond the last token."""
        return context_left(self.suite, read_target(self.target, needs_weights=False))

    @property
    def trained_tokens(self) -> dict[str, int]:
        """Of arms whose drafts were made for fewer positions than the target has: how many."""
        return {
            name: loadable.trained_tokens
            for name, loadable in self.loadables.items()
            if loadable.trained_tokens is not None
        }

    @property
    def updated(self) -> dict[str, Path]:
        """Checkpoints of the arms whose drafts are updated between blocks."""
        return {name: paths.draft for name, paths in self.paths.items() if paths.draft and self.specs[name].updater}

    @property
    def reference(self) -> str | None:
        """Name of the arm that makes the reference pass; None where there are endpoints alone."""
        if not self.by_name:
            return None
        return next((arm.name for arm in self.suite.arms if arm.architecture == "vanilla"), REFERENCE.name)

    @property
    def starts(self) -> str:
        """How engines are started, as the manifest says it."""
        return "cold" if self.preloaded is None else "forked from a preloaded process"

    def hashes(self) -> dict[str, str]:
        """SHA-256 of every model folder, by what it is."""
        found = {"target": folder_sha256(self.target)}
        drafts = {name: paths.draft for name, paths in self.paths.items() if paths.draft is not None}
        return found | {f"draft {name}": folder_sha256(folder) for name, folder in drafts.items()}

    def ledgers(self) -> dict[str, dict[str, Any] | None]:
        """What each draft with weights says of its training; None where it says nothing.

        Raises:
            CheckpointError: a ledger is no JSON object.
        """
        return {name: read_ledger(paths.draft) for name, paths in self.paths.items() if paths.draft is not None}

    def accepts(self, name: str, tree: Tree) -> bool:
        """Whether an arm's architecture, options and checkpoint go with another tree than the suite's."""
        spec, draft = self.specs[name], self.paths[name].draft
        options = spec.options.model_validate(self.by_name[name].options)
        too_large = tree.num_draft_tokens > spec.largest_tree(tree.num_steps, tree.topk)
        if too_large or options.fixes_tree or options.problem(tree) is not None:
            return tree == self.by_name[name].tree
        if draft is not None:
            configs = read_config(draft), read_target(self.target)
            try:
                load_draft(spec, draft, *configs, self.tensors[draft], options, tree)
            except CheckpointError:
                return False
        return True

    def preload(self) -> Preloaded:
        """The process that these arms' engines can be forked from; it is not waited for here."""
        return preloaded(engine_environment(self.suite, self.has_gpu))

    def forking(self, note: Callable[[str], None]) -> SglangFleet:
        """These arms, their engines forked from a preloaded process where it can be had; else it is said why not."""
        try:
            if self.has_gpu and len(list(NODES.glob("node[0-9]*"))) > 1:
                raise EngineError(
                    "this host has several NUMA nodes, and SGLang binds an engine to its GPU's as it starts it."
                )
            process = self.preload()
            process.wait_ready()
        except EngineError as error:
            note(f"engines are started cold, one import of SGLang after the other: {error}")
            return self
        return replace(self, preloaded=process)

    def arguments(self, name: str) -> dict[str, Argument]:
        """An arm's server arguments; its draft is laid out where they say."""
        paths, loadable = self.paths[name], self.loadables.get(name)
        if self.specs[name].proposer_factory is not None:
            paths = ModelPaths(paths.target, None)  # SGLang's NGRAM loads nothing
        elif loadable is not None and paths.draft is not None:
            draft = lay_out(loadable, paths.draft, self.engines_folder / name / "draft").resolve()
            paths = ModelPaths(paths.target, draft)
        asked = server_arguments(self.suite, self.by_name[name], self.specs[name], paths, self.has_gpu, loadable)
        return {key: self._in_file(name, key, value) for key, value in asked.items()}

    def _in_file(self, name: str, key: str, value: Argument | Mapping[str, Any]) -> Argument:
        """A server argument as a command line has it: the path of a file that holds what SGLang reads from one."""
        if not isinstance(value, Mapping):
            return value
        path = self.engines_folder / name / f"{key}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(dict(value)) + "\n")
        return str(path.resolve())

    def start(self, name: str) -> SglangEngine:
        """Start an arm's engine and wait until it is ready and what it should be.

        Raises:
            EngineError: it did not start, or runs something else than the suite says.
        """
        return self.begin(name).ready()

    def begin(self, name: str) -> StartingArm:
        """Start an arm's engine without waiting for it.

        Raises:
            EngineError: the preloaded process is gone.
        """
        arm, spec, arguments = self.by_name[name], self.specs[name], self.arguments(name)
        tree, folder = None if arm.tree is None else astuple(arm.tree), self.paths[name].draft
        draft = {
            "architecture": spec.name,
            "options": arm.options,
            "tree": tree,
            "checkpoint": str(folder) if folder is not None and spec.proposer_factory is not None else None,
            "dtype": self.suite.target.dtype,
            "simulation": simulation_of(arm, self.suite),
        }
        environment = engine_environment(self.suite, self.has_gpu)
        origin = None if self.preloaded is None else preloaded(environment)  # a new one where it was killed
        # A GPU's host has cores enough for idle servers; ranks that wait for each other give up after a time.
        rests = not self.has_gpu and self.suite.target.tensor_parallel == 1
        engine = start_engine(arguments, self.engines_folder / name, draft, environment, origin, rests)
        return StartingArm(arm, spec, self.loadables.get(name), engine)

    def pool(self, announce: Callable[[str], None]) -> EnginePool:
        """A pool for one launch: all arms stay resident if memory allows, else they take turns."""

        def begin(name: str) -> StartingArm:
            announce(name)
            return self.begin(name)

        return EnginePool(begin, self.room, self._check_equal, self.endpoints)

    def fit_together(self) -> bool:
        """Whether all engines of a launch should fit side by side."""
        num_engines = len(self.suite.arms) - len(self.endpoints)
        here = memory(gpus_in_use(self.suite))
        return (self.has_gpu and num_engines < 2) or here.fitting(self._engine_bytes()) >= num_engines

    def room(self, num_running: int) -> int:
        """How many more engines may start now, side by side. KV pools are as large as the suite says, on a GPU too."""
        fitting = memory(gpus_in_use(self.suite)).fitting(self._engine_bytes())
        if self.has_gpu and not num_running:
            fitting = max(fitting, 1)
        return min(fitting, STARTS_PER_CORE * len(os.sched_getaffinity(0)))

    def _engine_bytes(self) -> float:
        config = read_target(self.target, needs_weights=False)
        # Random weights have no file.
        target = weight_bytes(self.target) or DTYPE_BYTES[self.suite.target.dtype] * num_parameters(config)
        # A layer of the target's own folder is small beside it.
        own = [paths.draft for paths in self.paths.values() if paths.draft not in (None, paths.target)]
        drafts = [weight_bytes(folder) for folder in own if folder is not None]
        return engine_bytes(self.suite, config, target, max(drafts, default=0), self.has_gpu)

    def _check_equal(self, receipts: Mapping[str, Receipt]) -> None:
        resolved = {name: receipt.server_args for name, receipt in receipts.items()}
        declared = {name: frozenset(self.by_name[name].engine) for name in receipts}
        findings = unequal_arguments(resolved, declared)
        findings += otherwise_shared(resolved, self.suite.target.tensor_parallel)
        if findings:
            raise EngineError(
                "the arms would not run under equal conditions: " + "; ".join(findings) + ". "
                "Set these alike for all arms, or name them under engine: where the difference is meant."
            )


def find_fleet(
    suite: Suite,
    known: Mapping[str, DraftSpec],
    suite_folder: Path,
    run_folder: Path,
    has_gpu: bool,
    preload: bool = False,
) -> SglangFleet:
    """Find and check every model of a suite before an engine is started.

    Args:
        preload: begin what engines are forked from once all models are found, while drafts are read.

    Raises:
        EngineError: the host's GPU cannot run SGLang's CUDA build, or an endpoint does not answer.
        CheckpointError: a model is missing or a draft does not fit the target.
        SuiteError: an engine argument needs permission that nobody gave.
    """
    suite.check_allowed()
    if has_gpu and (problems := gpu_problems(read_gpu_host(), installed_torch(), gpus_in_use(suite))):
        raise EngineError("this host's GPU cannot be used: " + " ".join(problems))
    arms = {arm.name: arm for arm in suite.arms if not arm.is_endpoint}
    endpoints = {arm.name: open_endpoint(arm, suite.rendering.arguments) for arm in suite.arms if arm.is_endpoint}
    needs_weights = bool(arms) and not suite.target.random_weights
    target = model_folder(suite.target.model, suite_folder, suite.target.revision, needs_weights)
    target_config = read_target(target, needs_weights)
    if arms:
        check_shared(target_config, suite.target, "the target")
    specs: dict[str, DraftSpec] = {}
    paths: dict[str, ModelPaths] = {}
    if arms and all(arm.architecture != "vanilla" for arm in arms.values()):
        arms[REFERENCE.name] = REFERENCE.model_copy(update={"engine": shared_arguments(suite)})
    for arm in arms.values():
        if arm.architecture not in known:
            raise DraftError(f"arm {arm.name}: architecture {arm.architecture} is not installed; see bench.py list.")
        spec = specs[arm.name] = known[arm.architecture]
        check_arm(arm, spec, target_config, has_gpu)
        draft = None if arm.checkpoint is None else model_folder(arm.checkpoint, suite_folder)
        paths[arm.name] = ModelPaths(target, draft)
    if preload and arms:
        preloaded(engine_environment(suite, has_gpu))
    drafts = dict.fromkeys(path.draft for path in paths.values() if path.draft is not None)
    tensors = read_tensors([*dict.fromkeys((*drafts, *([target] if needs_weights else [])))])
    if needs_weights:
        check_target(target, target_config, tensors[target])
    loadables = {
        name: load_arms_draft(arms[name], specs[name], found.draft, target, tensors[found.draft])
        for name, found in paths.items()
        if found.draft is not None and arms[name].tree is not None
    }
    for name, loadable in loadables.items():
        check_shared(loadable.config, suite.target, f"the draft of arm {name}")
    return SglangFleet(
        suite, specs, paths, loadables, tensors, arms, has_gpu, run_folder / "engines", target, endpoints
    )
