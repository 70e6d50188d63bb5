"""What a manifest says of the host, of workloads and of servers that ran already."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer


class Facts(BaseModel):
    """Frozen; None is what was not said, as by an older draftbench. What is not listed here is left out."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    def said(self) -> dict[str, Any]:
        """The facts that were given, by name."""
        return {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}

    @model_serializer(mode="wrap")
    def _as_said(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialise(self).items() if name in self.model_fields_set}


class HostFacts(Facts):
    """The machine in a few words, without its name.

    Attributes:
        cores: that the process may run on.
        gpu: names of all GPUs, or "none".
    """

    cores: int | None = None
    cpu: str | None = None
    gpu: str | None = None
    gpu_driver: str | None = None
    memory_gib: float | None = None
    python: str | None = None
    system: str | None = None

    @property
    def device(self) -> str:
        """What computes: the GPUs, or the processor where there are none."""
        return (self.cpu or "unknown") if self.gpu in (None, "none") else str(self.gpu)


class WorkloadFacts(Facts):
    """Where prompts came from, how much of it was sent, and the hash of that.

    Attributes:
        home: where the set comes from if no path is given; None for a user's own file.
        file_sha256: of the user's file.
        num_skipped: records that hold no conversation.
        num_answers: prompts of which the set says what is right, in a way that is scored.
        num_unscored: prompts of which it says that in another way.
        prompts_sha256: of all prompts.
    """

    source: str
    synthetic: bool | None = None
    home: str | None = None
    file_sha256: str | None = None
    licence: str | None = None
    num_prompts: int | None = None
    num_skipped: int | None = None
    num_answers: int | None = None
    num_unscored: int | None = None
    prompts_sha256: str | None = None


Told = str | int | float | bool | None
"""A server's own word, whatever it is."""


class EndpointFacts(Facts):
    """What a server that ran already told of itself: SGLang under the names of its arguments, others their models."""

    version: Told = None
    model_path: Told = None
    revision: Told = None
    dtype: Told = None
    quantization: Told = None
    tp_size: Told = None
    dp_size: Told = None
    attention_backend: Told = None
    disable_radix_cache: Told = None
    max_running_requests: Told = None
    max_total_num_tokens: Told = None
    chunked_prefill_size: Told = None
    speculative_algorithm: Told = None
    speculative_draft_model_path: Told = None
    speculative_num_steps: Told = None
    speculative_eagle_topk: Told = None
    speculative_num_draft_tokens: Told = None
    incremental_streaming_output: Told = None
    models: list[str] | None = None
