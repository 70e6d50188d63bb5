"""An arm's server arguments: a pure function of the suite, the arm and the host.

Everything that is not about the draft is set explicitly and alike for every arm, because SGLang otherwise changes
limits of arms with a draft by itself: it sets max_running_requests to 48, turns mixed chunking off, and on a GPU lists
other batch sizes for CUDA graphs (arg_groups/speculative_hook.py and server_args.py, 0.5.17).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from draftbench.harness.records import point_slug
from draftbench.harness.runtime import cuda
from draftbench.harness.runtime.cpu import environment as cpu
from draftbench.harness.runtime.differences import differences
from draftbench.harness.suite.device_arguments import TENSOR_PARALLEL

if TYPE_CHECKING:
    from draftbench.drafts.api import DraftSpec, Loadable
    from draftbench.harness.suite import Arm, Suite

Argument = str | int | float | bool | tuple[int, ...]

DRAFT_ARGUMENTS = frozenset({"max_speculative_num_draft_tokens"})
"""Resolved arguments, besides speculative_*, that may differ between arms: SGLang derives them from those (0.5.17)."""

PER_PROCESS_ARGUMENTS = frozenset({"port", "nccl_port", "served_model_name", "random_seed", "device_uuid"})
"""Resolved arguments that belong to the process and not to the configuration."""


@dataclass(frozen=True)
class ModelPaths:
    """Where an arm's weights lie on this machine."""

    target: Path
    draft: Path | None


def server_arguments(
    suite: Suite, arm: Arm, spec: DraftSpec, paths: ModelPaths, has_gpu: bool, loadable: Loadable | None = None
) -> dict[str, Argument | Mapping[str, Any]]:
    """Server arguments by their field names, without host and port; a mapping is to be read from a file.

    Args:
        loadable: what the draft's checkpoint is, which may need another algorithm than its architecture.
    """
    arguments: dict[str, Argument | Mapping[str, Any]] = {
        "model_path": str(paths.target),
        "dtype": suite.target.dtype,
        "skip_tokenizer_init": True,
        "incremental_streaming_output": True,
        "stream_interval": 1,
        "skip_server_warmup": True,
        "sleep_on_idle": True,
        "page_size": 1,
        # Left out, SGLang derives it from the memory that is free at that moment, which the arm before has changed.
        "mem_fraction_static": 0.85,
        "sampling_backend": "pytorch",
        "attention_backend": "triton",
        "max_total_tokens": suite.max_total_tokens,
        "max_running_requests": suite.running_requests,
        "disable_radix_cache": not suite.prefix_cache,
        "random_seed": suite.sampling.seed,
        "log_level": "info",
        "log_level_http": "warning",
    }
    if suite.target.tensor_parallel > 1:
        arguments[TENSOR_PARALLEL] = suite.target.tensor_parallel
    if suite.chunked_prefill_size is not None:
        arguments["chunked_prefill_size"] = suite.chunked_prefill_size
    arguments.update(cuda.server_arguments(suite) if has_gpu else cpu.server_arguments())
    if suite.target.random_weights:
        arguments["load_format"] = "dummy"
    algorithm = spec.algorithm_of(loadable)
    if algorithm is not None:
        assert arm.tree is not None, "load_suite checks that"
        arguments["speculative_algorithm"] = algorithm
        if paths.draft is not None:
            arguments["speculative_draft_model_path"] = str(paths.draft)
        arguments.update(spec.engine_arguments(arm.tree, spec.options.model_validate(arm.options)))
    arguments.update(arm.engine)
    return arguments


def command_line(arguments: Mapping[str, Argument]) -> list[str]:
    """The same arguments as SGLang's command line spells them: lists word by word, False flags not at all."""
    words: list[str] = []
    for name, value in arguments.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            words.append(flag)
        elif isinstance(value, tuple):
            words.extend((flag, *map(str, value)))
        elif value is not False:
            words.extend((flag, str(value)))
    return words


def unequal_arguments(
    resolved: Mapping[str, Mapping[str, object]], declared: Mapping[str, frozenset[str]]
) -> list[str]:
    """What of the resolved arguments differs between arms though it does not concern the draft, a phrase each.

    Args:
        resolved: per arm, what its engine's receipt says.
        declared: per arm, the names that its suite entry sets under `engine:` and that may therefore differ.
    """
    allowed = DRAFT_ARGUMENTS | PER_PROCESS_ARGUMENTS | frozenset().union(*declared.values())
    names = {name for arguments in resolved.values() for name in arguments}
    findings: list[str] = []
    for name in sorted(names):
        if not name.startswith("speculative_") and name not in allowed:
            findings += differences(name, {arm: arguments.get(name) for arm, arguments in resolved.items()})
    return findings


def otherwise_shared(resolved: Mapping[str, Mapping[str, object]], ranks: int) -> list[str]:
    """Arms whose receipt says another number of devices than the suite, a phrase each."""
    found = {name: arguments.get(TENSOR_PARALLEL, ranks) for name, arguments in resolved.items()}
    return [f"{name} runs with {TENSOR_PARALLEL} {own}, not {ranks}" for name, own in found.items() if own != ranks]


def simulation_of(arm: Arm, suite: Suite) -> dict[str, Any] | None:
    """What an engine needs to draw an arm's acceptance; requests tell by their ids which cell they are of."""
    if arm.simulated_acceptance is None:
        return None
    points = {
        point_slug(arm.name, workload.name, point.name): workload.name
        for workload in suite.workloads
        for point in suite.load
    }
    return {"alphas": arm.simulated_acceptance, "seed": suite.sampling.seed, "points": points}
