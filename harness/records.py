"""What a run writes down: one record per request and cell, and the keys that hold them together.

Times are the harness's monotonic clock in integer nanoseconds; only differences within one launch mean anything.
Chunks and rounds come by the million, so they are slotted dataclasses: a third of a model's time and memory.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.dataclasses import dataclass

SCHEMA_VERSION = 1
"""Raised when a record's fields change their names or meaning."""


ENDPOINT = "endpoint"
"""Stands as the architecture of an arm that is a server which ran already: what it drafts with is its own."""


class Record(BaseModel):
    """Frozen, strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Line(Record):
    """What stands on a line of a records' file."""

    version: int = SCHEMA_VERSION
    suite_sha256: Annotated[str | None, Field(exclude_if=lambda value: value is None)] = None
    """Of the run's suite, on a file's first line alone: a file is not taken for another run's."""


class CellKey(Record):
    """One arm on one workload at one load point in one block of one launch."""

    launch: int
    block: int
    arm: str
    workload: str
    concurrency: int | None
    """Requests under way at once; None in an open loop."""
    arrivals: str | None = None
    """The open loop's name; None in a closed one."""

    @property
    def load(self) -> str:
        """The load point's name: `c=8`, `4/s`, `4/s by 8`, `trace chat`."""
        return f"c={self.concurrency}" if self.arrivals is None else self.arrivals

    @property
    def slug(self) -> str:
        """A file-name-safe name that is unique within a run."""
        return f"l{self.launch}-b{self.block}-{point_slug(self.arm, self.workload, self.load)}"


def point_slug(arm: str, workload: str, load: str) -> str:
    """What the slugs of an arm's cells on a workload at a load point have in common."""
    return f"{arm}-{workload}-{load_slug(load)}"


def load_slug(load: str) -> str:
    """A load point's name as a part of a file's name: `c8`, `4-s`, `4-s-by-8`."""
    return re.sub(r"[^\w.]+", "-", load.replace("=", ""))


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Chunk:
    """Tokens that arrived together in one streamed message."""

    at_ns: int
    num_tokens: int | None
    """None where the server counts a request's tokens as a whole only."""


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Round:
    """One draft-and-verify round of one request, from the engine.

    num_accepted_drafts excludes the bonus token; num_proposed_drafts counts the tree's nodes without the root, None
    where a server does not say it.
    """

    num_accepted_drafts: int
    num_proposed_drafts: int | None


RoundSource = Literal["meta_info", "sglext", "vllm", "vllm_steps", "llama.cpp"]
"""What a server says of its draft, where it is not our recorder that counts: SGLang's meta_info or sglext, vLLM's
metrics by histogram or by step, llama.cpp's timings."""


class RequestRecord(Line):
    """One request, finished or failed. A failed one keeps what arrived and says why."""

    cell: CellKey
    request_id: str
    prompt_id: str
    turn: int
    category: str | None
    prompt_sha256: str
    """Of the prompt's token ids as sent, little-endian int32."""
    num_prompt_tokens: int
    engine_prompt_tokens: int | None = None
    """SGLang's own prompt_tokens, kept as a cross-check."""
    num_cached_tokens: int | None
    due_ns: int | None = None
    """When an open loop's request arrives and should be sent; None in a closed loop."""
    sent_ns: int
    paused_ns: int = 0
    """Where arms take turns: time between its cell's request before and this one, in which other arms had theirs."""
    chunks: tuple[Chunk, ...]
    """In order of arrival; their num_tokens add up to len(output_ids)."""
    finished_ns: int
    output_ids: tuple[int, ...]
    """Token ids as the engine delivered them, the stop token included where it was produced."""
    counted_tokens: int | None = None
    """Delivered tokens by the server's own count, where it gives no token ids; None where it gives them."""
    output_text: str | None = None
    """The answer, where there are no token ids."""
    reasoning_text: str | None = None
    """What a server gives as reasoning, apart from the answer; None where it gives none."""
    num_reasoning_chunks: int = 0
    """Chunks that brought reasoning alone; they are output as any other."""
    num_reasoning_tokens: int | None = None
    """Of the delivered tokens, those of reasoning, where the server counts them apart."""
    finish_reason: Literal["stop", "length", "failed"]
    rounds: tuple[Round, ...] | None
    """Verify steps; None for an arm without a draft. In order, unless `rounds_from` is a histogram."""
    rounds_from: RoundSource | None = None
    """Who says so of a server that is not ours; None for our own recorder."""
    engine_verify_ct: int | None
    """The server's own count of verify steps; beside our rounds a cross-check."""
    engine_accepted_drafts: int | None = None
    """Accepted drafts by its own count, likewise."""
    engine_proposed_drafts: int | None = None
    """Proposed drafts by its own count."""
    engine_accept_length: float | None
    """SGLang's own spec_accept_length (N / V), kept as a cross-check."""
    num_retractions: int = 0
    """How often the engine ran out of KV slots, put the request back and prefilled it anew."""
    error: str | None
    """Why a failed request failed; None otherwise."""

    @property
    def began_ns(self) -> int:
        """What latencies count from: the arrival, also where the client was late to send it; else the send."""
        return self.sent_ns if self.due_ns is None else self.due_ns

    @property
    def rounds_in_order(self) -> bool:
        """Whether `rounds` came in this order."""
        return self.rounds_from in (None, "vllm_steps")

    @property
    def num_rounds(self) -> int | None:
        """Verify steps, by our recorder or as a server counts them; None where nobody does."""
        if self.rounds is not None:
            return len(self.rounds)
        return None if self.rounds_from is None else self.engine_verify_ct

    @property
    def num_output_tokens(self) -> int:
        """Delivered tokens."""
        return len(self.output_ids) if self.counted_tokens is None else self.counted_tokens

    @property
    def num_first_tokens(self) -> int:
        """Tokens of the first chunk: one, as prefill gives, where the server does not count them."""
        first = self.chunks[0].num_tokens
        return 1 if first is None else first


class PhaseTimes(Record):
    """Summed wall time of the phases of all rounds of a cell, measured inside the engine."""

    num_rounds: int
    draft_ns: int
    verify_ns: int
    extend_ns: int
    round_ns: int
    """Whole rounds; what the three phases leave is `other`."""
    num_empty: int = 0
    """Rounds in which no request had a draft proposed; what the verifier was given were fillers."""


class GraphUse(Record):
    """Of a cell's decode passes or rounds, how many ran in a CUDA graph, by phase; None where none was captured."""

    num_passes: int
    target: int | None
    draft: int | None
    extend: int | None


CounterSource = Literal["vllm", "sglang"]


class ServedCounters(Record):
    """What a cell did to the counters of a server that is not ours. None is what it does not count."""

    source: CounterSource
    num_rounds: int
    num_accepted: int | None
    num_proposed: int | None
    num_at_least: tuple[int, ...] | None
    """Steps that accepted one draft or more, two or more, and so on."""
    refused: str | None
    """Why they are not used: others asked the server too, requests failed."""


class CellRecord(Line):
    """A cell that was run to its end: the seal that lets a resumed run skip it."""

    cell: CellKey
    started_ns: int
    finished_ns: int
    num_requests: int
    num_failed: int
    phases: PhaseTimes | None
    graphs: GraphUse | None = None
    """None where the engine captured no graph at all."""
    served: ServedCounters | None = None
    """Of an endpoint that has counters of its drafts."""
    sampling: dict[str, float] | None = None
    """What was sent with every request."""
    session: int = 0
    """How often the run had been resumed by then."""
    error: str | None
    """Why the whole cell failed (engine died, no receipt); None when it ran."""


class ScoreRecord(Line):
    """Whether one finished answer is right; there is none where the set does not say what is right."""

    cell: CellKey
    prompt_id: str
    turn: int
    correct: bool


class ReferenceRecord(Line):
    """The unmeasured vanilla pass: what losslessness is judged against, and the history of later turns."""

    workload: str
    prompt_id: str
    turn: int
    prompt_sha256: str
    prompt_ids: tuple[int, ...]
    output_ids: tuple[int, ...]
    finish_reason: Literal["stop", "length"]


class ControlRecord(ReferenceRecord):
    """Vanilla again, at another batch shape."""


class RescoreRecord(Line):
    """What the target makes of one greedy output, scored in one pass over prompt and output. In nats."""

    workload: str
    prompt_id: str
    turn: int
    output_ids: tuple[int, ...]
    deficit: float
    """The farthest that any of its tokens is below the best one."""
    deficit_at: int
    """Which token that is."""
    top2_gap: float | None
    """Between the best two tokens where the output parts from the reference; None if it does not, or ends there."""
    noise: float | None
    """For the reference's own output: the largest difference between a token's log-probability when it was decoded and
    when it was scored."""


class SampleRecord(Line):
    """Short continuations of one open prompt that an arm sampled, apart from the measuring."""

    arm: str
    prompt_id: str
    continuations: tuple[tuple[int, ...], ...]


class SampleScoreRecord(Line):
    """What the target makes of an arm's continuations of one open prompt, each scored in one pass. In nats, at the
    run's temperature."""

    arm: str
    prompt_id: str
    odds: tuple[tuple[tuple[float, float, float], ...], ...]
    """Of each token of each continuation: log-probability of the token, of the best and of the second best one."""
