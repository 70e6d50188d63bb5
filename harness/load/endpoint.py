"""A server that runs already, measured as an arm: found out about, never started, flushed or stopped."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

import aiohttp

from draftbench.harness.engine import EngineEvents
from draftbench.harness.errors import EngineError
from draftbench.harness.load.client import JSON, Answer, stream_request
from draftbench.harness.load.openai import stream_completion
from draftbench.harness.load.requests import Prompt
from draftbench.harness.suite import Arm

CONTACT_TIMEOUT_S = 10
TOLD = (
    "version", "model_path", "revision", "dtype", "quantization", "tp_size", "dp_size", "attention_backend",
    "disable_radix_cache", "max_running_requests", "max_total_num_tokens", "chunked_prefill_size",
    "speculative_algorithm", "speculative_draft_model_path", "speculative_num_steps", "speculative_eagle_topk",
    "speculative_num_draft_tokens", "incremental_streaming_output",
)  # fmt: skip
"""Of what SGLang tells about itself; the rest may hold keys."""


class Endpoint:
    """An engine as the load generator sees it, behind an address of the suite."""

    receipt = None
    pid = None
    num_proposed_drafts = None

    def __init__(self, arm: Arm, thinking: bool | None = None) -> None:
        """Not contacted yet.

        Raises:
            EngineError: the environment lacks the key's variable.
        """
        assert arm.endpoint is not None, "load_suite checks that"
        assert arm.api is not None, "load_suite checks that"
        self.url = arm.endpoint.rstrip("/").removesuffix("/v1")
        self.told: dict[str, Any] = {}
        """What the server says of itself."""
        self._name, self._api, self._model, self._thinking = arm.name, arm.api, arm.model or "", thinking
        self._headers = dict(JSON)
        if arm.api_key_env is not None:
            key = os.environ.get(arm.api_key_env)
            if not key:
                raise EngineError(
                    f"arm {arm.name}: the environment has no {arm.api_key_env}, which api_key_env names; set it."
                )
            self._headers["Authorization"] = f"Bearer {key}"

    @property
    def gives_token_ids(self) -> bool:
        """Whether outputs come as token ids."""
        return self._api == "sglang"

    def contact(self) -> None:
        """Find out whether the server answers and what it is.

        Raises:
            EngineError: it does not, refuses the key, or does not serve the model.
        """
        if self._api == "sglang":
            told = self._get("/server_info")
            if told is None:
                told = self._get("/get_server_info")  # its name before 0.5.6
            if told is None:
                raise EngineError(
                    f"arm {self._name}: {self.url} answers, but has no /server_info: it is no SGLang server. "
                    "For others set api to openai or openai-chat."
                )
            self.told = {name: told[name] for name in TOLD if told.get(name) is not None}
            return
        told = self._get("/v1/models")
        served = [str(entry.get("id")) for entry in (told or {}).get("data", [])]
        if served and self._model not in served:
            raise EngineError(f"arm {self._name}: {self.url} serves {', '.join(served)}, not {self._model}.")
        self.told = {"models": served} if served else {}

    async def ask(
        self, session: aiohttp.ClientSession, request_id: str, prompt: Prompt, sampling: dict[str, Any]
    ) -> Answer:
        """Send one prompt; failures are returned, never raised."""
        if self._api == "sglang":
            cumulative = not self.told.get("incremental_streaming_output")
            answer = await stream_request(
                session, self.url, request_id, prompt.prompt_ids, sampling, self._headers, cumulative
            )
            counted = answer.meta.get("completion_tokens")
            if answer.error is None and counted not in (None, len(answer.output_ids)):
                answer.error = f"the server counts {counted} tokens, its stream held {len(answer.output_ids)}"
            return answer
        chat = self._api == "openai-chat"
        return await stream_completion(
            session, self.url, self._model, prompt, sampling, self._headers, chat, self._thinking
        )

    async def connect(self, session: aiohttp.ClientSession) -> None:
        """Its connections are as any client's."""

    async def flush(self) -> None:
        """Its caches are not ours to flush."""

    def take_events(self) -> EngineEvents:
        """No rounds."""
        return EngineEvents({}, None)

    def failure(self) -> str | None:
        """Not known of a server that is not ours: its requests fail."""
        return None

    def stop(self) -> None:
        """It is not ours to stop."""

    def _get(self, path: str) -> Mapping[str, Any] | None:
        """JSON that the server gives at a path; None if it knows no such path."""
        request = urllib.request.Request(self.url + path, headers=self._headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=CONTACT_TIMEOUT_S) as response:
                found = json.loads(response.read())
        except urllib.error.HTTPError as error:
            if error.code in (404, 405):
                return None
            hint = "; api_key_env names the variable that holds its key" if error.code in (401, 403) else ""
            raise EngineError(f"arm {self._name}: {self.url}{path}: HTTP {error.code} {error.reason}{hint}.") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise EngineError(
                f"arm {self._name}: {self.url} does not answer as it should ({reason}); start the server, or correct "
                "endpoint."
            ) from None
        if not isinstance(found, dict):
            raise EngineError(f"arm {self._name}: {self.url}{path} gives no JSON object.")
        return found


def open_endpoint(arm: Arm, thinking: bool | None = None) -> Endpoint:
    """An arm's server, contacted.

    Raises:
        EngineError: as `Endpoint` and `contact`.
    """
    endpoint = Endpoint(arm, thinking)
    endpoint.contact()
    return endpoint
