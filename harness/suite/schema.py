"""Suites: what is run, as strict frozen models, read from YAML with errors that name file and line."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, model_validator

from draftbench.harness.errors import SuiteError
from draftbench.harness.suite.arms import NOT_TAKEN, Arm, Target
from draftbench.harness.suite.engine_arguments import risky
from draftbench.harness.suite.fields import Count, Finite, Name, PathText, Positive, Repeats, count_or_auto
from draftbench.harness.suite.points import OPEN_LOOP_REQUESTS, Auto, Limits, LoadPoint
from draftbench.harness.suite.strict_yaml import Section
from draftbench.harness.suite.workload import Rendering, Sampling, Workload

RISK = "may run code, open ports, or read and write elsewhere"
MOST_CELLS, MOST_REQUESTS = 10_000, 2_000_000
"""Of a whole run; what is more is a slip of the pen."""
CONTROL_CONCURRENCY = 4
"""Requests at once in the control pass, whose batches must have another shape than the reference pass's."""
FIRST_STAGE, AUTO_BLOCKS = 5, 2
"""Launches before `blocks: auto` looks at the spread, and blocks of each of its launches."""
Requirement = Literal["data", "tokens", "steps", "flops", "parameters", "tree", "tuning"]


class Fairness(Section):
    """What has to be alike for all drafts, and the corpus that evaluation prompts are looked for in."""

    require: Annotated[
        tuple[Requirement, ...],
        Field(strict=False, description="A run is refused unless these are known and equal for all drafts."),
    ] = ()
    corpus: Annotated[
        PathText | None,
        Field(description="The drafts' training corpus (JSONL), relative to the suite: prompts are looked for in it."),
    ] = None
    _place: str = PrivateAttr("the suite")

    @property
    def place(self) -> str:
        """File and line of the requirements, as far as they come from a file."""
        return self._place


class Tune(Section):
    """What `bench.py tune` spends, the same on every draft."""

    configurations: Annotated[
        int, Field(ge=2, le=1000, description="Trees that are tried for each draft, its own included.")
    ] = 9
    prompts: Annotated[
        int, Field(ge=1, le=100_000, description="Prompts of each workload, none of them the suite's.")
    ] = 8
    blocks: Annotated[int, Field(ge=1, le=1000, description="Blocks of the second stage; the first has one.")] = 3


class Suite(Section):
    """One comparison: every arm on every workload at every load point, in blocks and launches."""

    version: Literal[1]
    name: Name
    target: Target
    arms: Annotated[tuple[Arm, ...], Field(min_length=1, strict=False)]
    workloads: Annotated[tuple[Workload, ...], Field(min_length=1, strict=False)]
    sampling: Sampling
    rendering: Rendering = Rendering()
    fairness: Fairness = Fairness()
    tune: Tune = Tune()
    load: Annotated[tuple[LoadPoint, ...], Field(min_length=1, strict=False)]
    limits: Limits | None = Field(None, description="Limits on latency, for the goodput.")
    blocks: Annotated[int | Literal["auto"], BeforeValidator(count_or_auto)] = Field(
        description="Repetitions of all prompts in a launch, with the arms in another order; auto also adds launches."
    )
    launches: Repeats = Field(1, description="How often every engine is started anew; three or more for a verdict.")
    auto: Auto | None = Field(None, description="For blocks: auto, when it is enough.")
    devices: Literal["identical", "any"] = Field(
        "identical",
        description="Where launches are spread over devices (--on): all of one kind, or any, each kind with rows of "
        "its own.",
    )
    turns: Literal["prompts", "cells"] = Field(
        "prompts",
        description="At concurrency 1, where the engines of a launch run side by side: the arms take turns prompt by "
        "prompt, or cell by cell.",
    )
    block_prompts: Literal["same", "fresh"] = Field(
        "same",
        description="Whether every block of a launch sends all prompts, or a part of its own that no other block has.",
    )
    warmup_requests: Annotated[int, Field(ge=0, le=100_000)] = Field(
        2, description="Unmeasured requests before the first cell."
    )
    prefix_cache: bool = Field(False, description="SGLang's radix cache; off, or repeated prompts would be free.")
    max_total_tokens: Positive = Field(8192, description="Slots of the KV pool, the same for every arm.")
    chunked_prefill_size: Positive | None = Field(None, description="Longest piece of a prompt in one pass.")
    max_running_requests: Count | None = Field(
        None, description=f"Largest concurrency if left out, at least {OPEN_LOOP_REQUESTS} with an open loop."
    )
    telemetry_period_s: Finite | None = Field(
        0.1, description="Seconds between looks at power, clocks and memory; null for no telemetry."
    )

    _allowed: frozenset[str] = PrivateAttr(frozenset())

    @property
    def allowed(self) -> frozenset[str]:
        """Engine arguments that its user permitted when it was read; none of a suite from a manifest."""
        return self._allowed

    def allowing(self, names: Collection[str]) -> Suite:
        """The suite with permission for further engine arguments."""
        found = self.model_copy()
        found._allowed = self._allowed | set(names)
        return found

    def check_allowed(self) -> None:
        """Find out before anything is started whether every engine argument is harmless or was permitted.

        Raises:
            SuiteError: one is neither.
        """
        for arm in self.arms:
            for name in risky(arm.engine, self._allowed):
                raise SuiteError(f"arm {arm.name}: engine.{name} {RISK}, and {NOT_TAKEN} with --allow {name}.")

    @property
    def running_requests(self) -> int:
        """Requests that an engine may run at once."""
        largest = (point.concurrency or OPEN_LOOP_REQUESTS for point in self.load)
        return self.max_running_requests or max(CONTROL_CONCURRENCY, *largest)

    def prompts_at(self, load: str) -> int | None:
        """How many prompts of each workload the load point of this name sends; None for all."""
        return next(point.num_prompts for point in self.load if point.name == load)

    @property
    def first_stage(self) -> int | None:
        """Launches from which `auto` chooses how many there will be; None where the suite says it."""
        return FIRST_STAGE if self.auto is not None else None

    @property
    def blocks_per_launch(self) -> int:
        """Blocks of each launch."""
        return AUTO_BLOCKS if self.blocks == "auto" else self.blocks

    @model_validator(mode="after")
    def _auto_is_whole(self) -> Suite:
        if (self.blocks == "auto") != (self.auto is not None):
            raise ValueError(
                "blocks: auto and auto: {half_width: …, time_limit_s: …} need each other; give both or neither"
            )
        if self.auto is not None and self.launches != 1:
            raise ValueError(f"launches is {self.launches}, but blocks: auto chooses the launches; leave it out")
        if self.auto is not None and all(arm.architecture != "vanilla" for arm in self.arms):
            raise ValueError("blocks: auto needs a vanilla arm: the intervals that it narrows are of speedups over it")
        if self.auto is not None and self.devices == "any":
            raise ValueError(
                "devices: any and blocks: auto exclude each other: nobody knows how many launches each gets"
            )
        return self

    @model_validator(mode="after")
    def _is_no_slip(self) -> Suite:
        repeats = self.blocks_per_launch * (self.first_stage or self.launches) * len(self.arms)
        cells = repeats * len(self.workloads) * len(self.load)
        if cells > MOST_CELLS:
            raise ValueError(
                f"launches × blocks × arms × workloads × load are {cells:,} cells; allowed: {MOST_CELLS:,}, take fewer"
            )
        requests = repeats * sum(
            min(count, point.num_prompts or count)
            for workload in self.workloads
            for point in self.load
            if (count := workload.tune_prompts or workload.num_prompts) is not None
        )
        if requests > MOST_REQUESTS:
            raise ValueError(f"its cells send {requests:,} requests; allowed: {MOST_REQUESTS:,}, take fewer prompts")
        return self

    @property
    def simulates(self) -> bool:
        """Whether an arm's acceptance is simulated."""
        return any(arm.simulated_acceptance is not None for arm in self.arms)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Suite:
        for kind, names in (("arms", [a.name for a in self.arms]), ("workloads", [w.name for w in self.workloads])):
            for index, name in enumerate(names):
                if name in names[:index]:
                    raise ValueError(f"{kind}[{index}].name is {name}, as an earlier one; give each a name of its own")
        points = [point.name for point in self.load]
        for index, name in enumerate(points):
            if name in points[:index]:
                raise ValueError(f"load[{index}] is {name}, as an earlier one; leave one of them out")
        return self
