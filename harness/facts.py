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


Word = str | int | float | bool | None
"""A server's own, whatever it is."""


class EndpointFacts(Facts):
    """What a server that ran already told of itself: SGLang under the names of its arguments, others their models."""

    version: Word = None
    model_path: Word = None
    revision: Word = None
    dtype: Word = None
    quantization: Word = None
    tp_size: Word = None
    dp_size: Word = None
    attention_backend: Word = None
    disable_radix_cache: Word = None
    max_running_requests: Word = None
    max_total_num_tokens: Word = None
    chunked_prefill_size: Word = None
    speculative_algorithm: Word = None
    speculative_draft_model_path: Word = None
    speculative_num_steps: Word = None
    speculative_eagle_topk: Word = None
    speculative_num_draft_tokens: Word = None
    incremental_streaming_output: Word = None
    models: list[str] | None = None
