"""What the load generator and the trainer see of a running engine, whatever runs behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel, ConfigDict

from draftbench.harness.records import GraphUse, PhaseTimes

if TYPE_CHECKING:
    import aiohttp

    from draftbench.harness.load.client import Answer
    from draftbench.harness.load.counters import CounterReading
from draftbench.harness.load.limits import Watch
from draftbench.harness.load.requests import Prompt


class Receipt(BaseModel):
    """What an engine says of itself, written by our plugin from inside its scheduler process."""

    model_config = ConfigDict(frozen=True)

    sglang: str
    torch: str
    algorithm: str | None
    draft_class: str | None
    draft_worker: str | None = None
    draft_facts: dict[str, Any] = {}
    adaptive_steps: list[int] | None = None
    """Numbers of draft steps that it changes between while it runs; None where they stay."""
    acceptance_rule: str | None = None
    """The paper's by which drafts are accepted at temperatures above 0; None for SGLang's own."""
    target_class: str
    max_total_num_tokens: int
    cuda_graphs: dict[str, list[int]] = {}
    """Batch sizes of the captured graphs of target, draft and extend; a phase without any is left out."""
    simulated_acceptance: list[float] | dict[str, list[float]] | None = None
    """α_k of all workloads, or of each by name."""
    server_args: dict[str, str | int | float | bool | None]


@dataclass(frozen=True)
class EngineEvents:
    """What an engine recorded since it was last asked: accepted drafts per verify step by request, summed phases and
    passes in CUDA graphs; and where it changes from round to round, how many nodes each of the same steps proposed."""

    num_accepted_drafts: dict[str, list[int]]
    phases: PhaseTimes | None
    graphs: GraphUse | None = None
    num_proposed_drafts: Mapping[str, list[int]] = field(default_factory=dict)


class Engine(Protocol):
    """A running engine: one target, one draft configuration."""

    @property
    def receipt(self) -> Receipt | None:
        """What really runs; None of a server that we did not start."""
        ...

    @property
    def url(self) -> str:
        """Base address of its HTTP interface; on the loopback interface if we started it."""
        ...

    @property
    def pid(self) -> int | None:
        """Root of its processes; None of a server that we did not start."""
        ...

    @property
    def num_proposed_drafts(self) -> int | None:
        """Nodes of each verify step's tree without the root; None without a draft."""
        ...

    @property
    def gives_token_ids(self) -> bool:
        """Whether outputs come as token ids; some servers that we did not start send text alone."""
        ...

    async def ask(
        self,
        session: aiohttp.ClientSession,
        request_id: str,
        prompt: Prompt,
        sampling: dict[str, Any],
        watch: Watch | None = None,
    ) -> Answer:
        """Send one prompt; failures are returned, never raised."""
        ...

    def rest(self) -> None:
        """Take no time from the engine that is measured, until woken; nothing where the server is not ours."""
        ...

    def wake(self) -> None:
        """Run again after a rest."""
        ...

    async def connect(self, session: aiohttp.ClientSession) -> None:
        """Open a connection again that was closed while others were asked; nothing where the server is not ours."""
        ...

    async def flush(self) -> None:
        """Empty caches and the draft's online state; nothing where the server is not ours.

        Raises:
            EngineError: it refused or does not answer.
        """
        ...

    async def load_draft(self, folder: Path) -> None:
        """Put other weights in the draft's place and empty the caches; the target stays as it is.

        Raises:
            EngineError: it refused, does not answer, or is not ours.
        """
        ...

    def take_events(self) -> EngineEvents:
        """Rounds recorded since the last call.

        Raises:
            EngineError: what it recorded cannot be read.
        """
        ...

    def counters(self) -> CounterReading | None:
        """The server's own counters of its drafts; None of engines that we started, whose rounds are recorded."""
        ...

    def failure(self) -> str | None:
        """Why the engine can no longer be used: its log's last lines, or how its draft failed; None while it can."""
        ...

    def stop(self) -> None:
        """End the engine and everything it started. May be called twice."""
        ...
