"""Runs in which nothing is wrong, of every shape: what gates must leave alone, and what faults are put into."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import log
from typing import Any

from draftbench.harness.metrics.evidence import Design, Judged, KnownArm
from draftbench.harness.metrics.results import build_rows
from draftbench.harness.metrics.row import Row
from draftbench.harness.records import (
    ENDPOINT,
    CellKey,
    CellRecord,
    Chunk,
    ControlRecord,
    PhaseTimes,
    ReferenceRecord,
    RequestRecord,
    RescoreRecord,
    Round,
    SampleRecord,
    SampleScoreRecord,
)
from draftbench.harness.suite import Arm
from draftbench.harness.telemetry.window_records import DeviceReading, ProcessUsage, WindowRecord
from tests.fakes.held import Held
from tests.fakes.known import known, receipt

MS = 1_000_000
PREFILL_MS, STEP_MS, ROUND_MS = 20.0, 10.0, 18.0
DEPTH, NODES, SYSTEM_TOKENS, PROMPT_TOKENS = 4, 8, 30, 45
USAGE = ProcessUsage(client_cpu_s=0.1, engine_cpu_s=1.0, engine_peak_rss_bytes=1, host_cpu_share=0.5, reason=None)


@dataclass(frozen=True)
class Shape:
    """What a run looks like.

    Attributes:
        concurrency: None is an open loop.
        longest: outputs have one token up to so many.
        right: chance that a drafted token is the target's.
        vanilla, endpoint: whether the run has such arms.
        telemetry: none, windows whose devices tell no energy, or all of it.
        gives_ids: whether the endpoint gives token ids.
    """

    temperature: float = 0.0
    dtype: str = "float32"
    concurrency: int | None = 1
    launches: int = 1
    blocks: int = 2
    prompts: int = 6
    longest: int = 40
    right: float = 0.6
    vanilla: bool = True
    endpoint: bool = False
    gives_ids: bool = True
    telemetry: str = "energy"
    prefix_cache: bool = False

    @property
    def expected(self) -> frozenset[str]:
        """What is said of a draft's healthy row of this shape: that something is missing, or that it is a bad draft."""
        untested = self.temperature > 0 and not self.vanilla
        reasons = {"untested distribution": untested, "nothing accepted": self.right == 0}
        return frozenset(gate for gate, is_so in reasons.items() if is_so)


def any_shape(draw: random.Random) -> Shape:
    """Every combination has its chance."""
    concurrency = draw.choice((1, 1, 4, 16, None))
    return Shape(
        temperature=draw.choice((0.0, 1.0)),
        dtype=draw.choice(("float32", "bfloat16")),
        concurrency=concurrency,
        launches=draw.choice((1, 1, 2, 3)),
        blocks=draw.choice((1, 2, 3)),
        # An open loop has no steady load while fewer prompts arrive than run at once.
        prompts=draw.randint(1, 12) if concurrency is not None else draw.randint(24, 30),
        longest=draw.choice((1, 2, 40, 90)),
        right=draw.choice((0.0, 0.3, 0.6, 0.95)),
        vanilla=draw.random() < 0.8,
        endpoint=draw.random() < 0.3,
        gives_ids=draw.random() < 0.5,
        telemetry=draw.choice(("none", "no energy", "energy")),
        prefix_cache=draw.random() < 0.4,
    )


@dataclass
class Study:
    """A run's records, to be changed before rows are made of them."""

    shape: Shape
    arms: list[KnownArm]
    requests: list[RequestRecord] = field(default_factory=list)
    cells: list[CellRecord] = field(default_factory=list)
    references: list[ReferenceRecord] = field(default_factory=list)
    controls: list[ControlRecord] = field(default_factory=list)
    scores: list[RescoreRecord] = field(default_factory=list)
    samples: list[SampleRecord] = field(default_factory=list)
    sample_scores: list[SampleScoreRecord] = field(default_factory=list)
    windows: list[WindowRecord] = field(default_factory=list)
    design: dict[str, Any] = field(default_factory=dict)

    def rows(self) -> dict[str, Row]:
        """By arm."""
        design = Design(
            self.shape.temperature, self.shape.dtype, prefix_cache=self.shape.prefix_cache,
            has_passes=self.shape.vanilla, **self.design
        )  # fmt: skip
        judged = Judged.of(self.references, self.controls, self.scores, self.samples, sample_scores=self.sample_scores)
        records = Held(self.requests, self.cells, judged, self.windows)
        return {row.arm: row for row in build_rows(self.arms, records, design)}

    def findings(self, arm: str) -> dict[str, str]:
        """Evidence by gate."""
        label = next(each.arm.label for each in self.arms if each.arm.name == arm)
        return {found.gate.name: found.evidence for found in self.rows()[label].findings}

    def change(self, arm: str, change: Callable[[RequestRecord], dict[str, Any]], block: int | None = None) -> None:
        """Change an arm's requests, of one block or of all."""
        self.requests = [
            request.model_copy(update=change(request))
            if request.cell.arm == arm and block in (None, request.cell.block)
            else request
            for request in self.requests
        ]

    def change_cells(self, arm: str, change: Callable[[CellRecord], dict[str, Any]]) -> None:
        """Change the seals of an arm's cells."""
        self.cells = [c.model_copy(update=change(c)) if c.cell.arm == arm else c for c in self.cells]

    def change_arm(self, arm: str, **changes: Any) -> None:
        """Change what the suite says of an arm."""
        self.change_known(arm, lambda each: {"arm": each.arm.model_copy(update=changes)})

    def change_known(self, arm: str, change: Callable[[KnownArm], dict[str, Any]]) -> None:
        """Change what the suite, its engine or its checkpoint says of an arm."""
        self.arms = [replace(each, **change(each)) if each.arm.name == arm else each for each in self.arms]

    def change_devices(self, arm: str, **changes: Any) -> None:
        """Change what telemetry read while an arm's cells ran."""
        self.windows = [
            window.model_copy(update={"devices": tuple(d.model_copy(update=changes) for d in window.devices)})
            if window.arm == arm and window.cell is not None
            else window
            for window in self.windows
        ]


def healthy(shape: Shape, draw: random.Random) -> Study:
    """A run in which vanilla, a draft of EAGLE's family, a draft of no family and an endpoint do as they should."""
    arms = [
        known(name, architecture, receipt(algorithm), num_steps=DEPTH, topk=2, num_draft_tokens=NODES + 1)
        for name, architecture, algorithm in (("eagle", "prism", "EAGLE"), ("lookup", "prompt_lookup", "NGRAM"))
    ]  # fmt: skip
    arms += [known("vanilla", "vanilla")] * shape.vanilla
    arms += [known("server", ENDPOINT)] * shape.endpoint
    study = Study(shape, arms)
    outputs = {f"p{n}": _output(shape, draw) for n in range(shape.prompts)}
    for launch in range(shape.launches):
        for block in range(shape.blocks):
            for each in draw.sample(arms, len(arms)):
                _run_cell(study, each.arm, launch, block, outputs, draw)
    if shape.vanilla:
        fields = {"workload": "w", "turn": 0, "prompt_ids": (1,) * PROMPT_TOKENS, "finish_reason": "length"}
        for prompt, output in outputs.items():
            fields |= {"prompt_id": prompt, "prompt_sha256": f"h{prompt}", "output_ids": output}
            study.references.append(ReferenceRecord(**fields))
            study.controls.append(ControlRecord(**fields))
    if shape.temperature > 0:
        study.samples = [_sample(each.arm.name, prompt, draw) for each in arms for prompt in ("a", "b", "c", "d")]
        scoring = random.Random(0)
        study.sample_scores = [_scores(record, scoring) for record in study.samples]
    if shape.telemetry != "none":
        study.windows += [_window(shape, launch, "eagle", None, draw) for launch in range(shape.launches)]
    return study


def _output(shape: Shape, draw: random.Random) -> tuple[int, ...]:
    return tuple(draw.choices(range(5000), k=draw.randint(1, shape.longest)))


def _sample(arm: str, prompt: str, draw: random.Random) -> SampleRecord:
    continuations = tuple((draw.choices(range(4), (8, 4, 2, 1))[0], draw.randint(0, 1), 7) for _ in range(60))
    return SampleRecord(arm=arm, prompt_id=prompt, continuations=continuations)


def _scores(record: SampleRecord, draw: random.Random) -> SampleScoreRecord:
    """Of as many tokens as an arm is asked for, whatever they say: the target is sure of some and not of others."""

    def odds() -> tuple[float, float, float]:
        best = draw.choice((0.3, 0.7, 0.9, 0.99))
        second = (1 - best) / 2
        own = best if draw.random() < best else draw.choice((second, second / 3))
        return log(own), log(best), log(second)

    tokens = tuple(tuple(odds() for _ in range(32)) for _ in record.continuations)
    return SampleScoreRecord(arm=record.arm, prompt_id=record.prompt_id, odds=tokens)


def _run_cell(
    study: Study, arm: Arm, launch: int, block: int, outputs: dict[str, tuple[int, ...]], draw: random.Random
) -> None:
    shape = study.shape
    arrivals = None if shape.concurrency else "4/s"
    cell = CellKey(
        launch=launch, block=block, arm=arm.name, workload="w", concurrency=shape.concurrency, arrivals=arrivals
    )
    slow = draw.uniform(1, 1.2)
    began_ms = 1000.0 * draw.randint(1, 9)
    free_ms = [began_ms] * (shape.concurrency or 1)
    cold = 1 if shape.concurrency == 1 else draw.randint(1, min(shape.concurrency or 2, shape.prompts))
    found = []
    for number, (prompt, output) in enumerate(outputs.items()):
        sampled = output if shape.temperature == 0 else _output(shape, draw)
        lane = min(range(len(free_ms)), key=free_ms.__getitem__)
        due_ms = began_ms + 250.0 * number if shape.concurrency is None else None
        sent_ms = free_ms[lane] if due_ms is None else due_ms + 0.1
        record = _request(study, cell, arm, prompt, sampled, sent_ms, slow, draw)
        changes: dict[str, Any] = {"num_cached_tokens": _cached(shape, arm, number < cold)}
        if due_ms is not None:
            changes["due_ns"] = int(due_ms * MS)
        found.append(record.model_copy(update=changes))
        free_ms[lane] = record.finished_ns / MS
    study.requests += found
    rounds = sum(len(request.rounds or ()) for request in found)
    times = PhaseTimes(
        num_rounds=rounds, draft_ns=5 * rounds, verify_ns=9 * rounds, extend_ns=3 * rounds, round_ns=18 * rounds
    )
    last_ns = max(request.finished_ns for request in found)
    study.cells.append(
        CellRecord(
            cell=cell, started_ns=int(began_ms * MS), finished_ns=last_ns, num_requests=len(found), num_failed=0,
            phases=times if rounds else None, sampling={"temperature": shape.temperature}, error=None,
        )
    )  # fmt: skip
    if shape.telemetry != "none" and not arm.is_endpoint:
        study.windows.append(_window(shape, launch, arm.name, cell, draw))


def _cached(shape: Shape, arm: Arm, is_cold: bool) -> int | None:
    if arm.is_endpoint:
        return None if shape.prefix_cache else 0
    if not shape.prefix_cache or is_cold:
        return 0
    return SYSTEM_TOKENS - (arm.architecture == "prism")


def _request(
    study: Study, cell: CellKey, arm: Arm, prompt: str, output: tuple[int, ...], sent_ms: float, slow: float,
    draw: random.Random,
) -> RequestRecord:  # fmt: skip
    """One request as the engine serves it; greedily a draft is right on the same tokens every time."""
    shape = study.shape
    luck = random.Random(f"{arm.name} {prompt}") if shape.temperature == 0 else draw
    retracted = arm.drafts and shape.concurrency not in (1, None) and len(output) > 2 and luck.random() < 0.2
    now = sent_ms + PREFILL_MS * slow
    chunks, rounds = [Chunk(at_ns=int(now * MS), num_tokens=1)], []
    left = len(output) - 1
    if retracted:
        now += PREFILL_MS * slow
        chunks.append(Chunk(at_ns=int(now * MS), num_tokens=1))
        left -= 1
    while left > 0:
        accepted = next((k for k in range(DEPTH) if luck.random() >= shape.right), DEPTH) if arm.drafts else 0
        now += (ROUND_MS if arm.drafts else STEP_MS) * slow * draw.uniform(0.95, 1.1)
        rounds.append(Round(num_accepted_drafts=accepted, num_proposed_drafts=NODES))
        chunks.append(Chunk(at_ns=int(now * MS), num_tokens=min(accepted + 1, left)))
        left -= accepted + 1
    blind = arm.is_endpoint and not shape.gives_ids
    if blind:
        chunks = [Chunk(at_ns=chunk.at_ns, num_tokens=None) for chunk in chunks]
    return RequestRecord(
        cell=cell, request_id=f"{cell.slug}-{prompt}", prompt_id=prompt, turn=0, category=None,
        prompt_sha256=f"h{prompt}", num_prompt_tokens=PROMPT_TOKENS, engine_prompt_tokens=PROMPT_TOKENS,
        num_cached_tokens=0, sent_ns=int(sent_ms * MS), chunks=tuple(chunks), finished_ns=chunks[-1].at_ns,
        output_ids=() if blind else output, counted_tokens=len(output) if blind else None,
        output_text="said" if blind else None, finish_reason="length",
        rounds=tuple(rounds) if arm.drafts else None, engine_verify_ct=len(rounds) if arm.drafts else None,
        engine_accept_length=None, num_retractions=int(retracted), error=None,
    )  # fmt: skip


def _window(shape: Shape, launch: int, arm: str, cell: CellKey | None, draw: random.Random) -> WindowRecord:
    tells = shape.telemetry == "energy"
    gpu = DeviceReading(
        name="GPU 0", kind="gpu", source="nvml energy counter" if tells else None,
        energy_j=draw.uniform(9000, 11000) if tells else None, mean_power_w=300.0,
        mean_sm_clock_mhz=draw.uniform(1975, 1980), clock_reasons={"idle": 0.1}, num_samples=400,
        reasons={} if tells else {"energy_j": "no permission"},
    )  # fmt: skip
    return WindowRecord(
        launch=launch, arm=arm, cell=cell, started_ns=0, finished_ns=40_000 * MS, devices=(gpu,), processes=USAGE,
        telemetry_cpu_s=0.0,
    )  # fmt: skip
