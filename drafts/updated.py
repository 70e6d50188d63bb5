"""Drafts that are updated between blocks from what the target rejected: their options, and what an update's process is
given and gives back. No torch in here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from draftbench.drafts.api import Options

JOB, OUTCOME = "job.json", "outcome.json"
"""In an update's folder: what it was given, whole, and what it gave back."""
MOST_STEPS = 100_000


class UpdatedOptions(Options):
    """When a draft is updated, and how much of what was rejected it learns from."""

    every: Annotated[int, Field(ge=1, description="Blocks of a launch after which the draft is updated.")] = 1
    buffer: Annotated[
        int, Field(ge=1, description="Rejected positions that an update learns from at most, the latest ones.")
    ] = 4096
    steps: Annotated[int, Field(ge=1, le=MOST_STEPS, description="Steps of the optimiser in an update.")] = 32
    batch: Annotated[int, Field(ge=1, description="Requests of a step.")] = 8
    learning_rate: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False, description="Constant.")] = 1e-5
    seed: Annotated[int, Field(ge=0, lt=2**32, description="Of the order of requests.")] = 0


class ServedRequest(BaseModel):
    """One request as it was served, and where the target rejected what was drafted.

    Attributes:
        rejected: places in the output of tokens that the target put in a rejected one's place.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt_ids: tuple[int, ...]
    output_ids: tuple[int, ...]
    rejected: tuple[int, ...]


class UpdateJob(BaseModel):
    """Everything that decides the weights that an update makes, on one machine.

    Attributes:
        checkpoint: the draft as it is served.
        options: the arm's.
        seed: the options', and the block after which it is.
        num_threads: of torch: another number adds up in another order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: str
    checkpoint: Path
    target: Path
    options: dict[str, str | int | float | bool]
    seed: tuple[int, int]
    num_threads: int
    requests: tuple[ServedRequest, ...]


class UpdateOutcome(BaseModel):
    """What an update did.

    Attributes:
        loss_before: over all that it learnt from, in nats.
        learning_s: without the start of its process and the reading of models.
        processor_s: of the whole process.
        weights_sha256: of the file that it wrote.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_steps: int
    loss_before: float
    loss_after: float
    learning_s: float
    processor_s: float
    weights_sha256: str


def rejected_places(num_accepted: tuple[int, ...], num_steps: int, num_tokens: int) -> tuple[int, ...]:
    """Places in an output at which the target put its own token for drafts that it rejected.

    The output's first token is the prefill's. A round gives the drafts it accepted and one token more; where it
    accepted as many as it can there was nothing to reject.

    Args:
        num_accepted: drafts of each round, in order.
        num_tokens: of the output, which ends within the last round.
    """
    places: list[int] = []
    place = 1
    for accepted in num_accepted:
        if accepted < num_steps:
            places.append(place + accepted)
        place += accepted + 1
    return tuple(place for place in places if place < num_tokens)
