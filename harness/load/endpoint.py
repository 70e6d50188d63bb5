"""A server that runs already, measured as an arm: found out about, never started, flushed or stopped."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from draftbench.harness.engine import EngineEvents
from draftbench.harness.errors import EngineError
from draftbench.harness.facts import EndpointFacts
from draftbench.harness.load.client import JSON, Answer, stream_request
from draftbench.harness.load.contact import get
from draftbench.harness.load.counters import CounterReading, reading_of
from draftbench.harness.load.limits import Watch
from draftbench.harness.load.openai import stream_completion
from draftbench.harness.load.requests import Prompt
from draftbench.harness.load.server_fields import shown
from draftbench.harness.suite import Arm

MODELS_SHOWN = 20
TOLD = tuple(name for name in EndpointFacts.model_fields if name != "models")
"""Of what SGLang tells about itself; the rest may hold keys."""


class Endpoint:
    """An engine as the load generator sees it, behind an address of the suite."""

    receipt = None
    pid = None
    num_proposed_drafts = None

    def __init__(self, arm: Arm, template_arguments: Mapping[str, Any] | None = None) -> None:
        """Not contacted yet.

        Args:
            template_arguments: what a server that renders messages itself gives to its template.

        Raises:
            EngineError: the environment lacks the key's variable.
        """
        assert arm.endpoint is not None, "load_suite checks that"
        assert arm.api is not None, "load_suite checks that"
        self.url = arm.endpoint.rstrip("/").removesuffix("/v1")
        self.told = EndpointFacts()
        """What the server says of itself."""
        self._name, self._api, self._model = arm.name, arm.api, arm.model or ""
        self._template_arguments = template_arguments
        self._extra: dict[str, Any] = {}
        self._headers = dict(JSON)
        if arm.api_key_env is not None:
            key = os.environ.get(arm.api_key_env)
            if not key:
                raise EngineError(
                    f"arm {arm.name}: the environment has no {arm.api_key_env}, which api_key_env names; set it."
                )
            if not (key.isascii() and key.isprintable()):
                raise EngineError(
                    f"arm {arm.name}: {arm.api_key_env} holds characters that no key can have; correct it."
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
            self.told = EndpointFacts(**{name: _plain(told[name]) for name in TOLD if told.get(name) is not None})
            return
        entries = (self._get("/v1/models") or {}).get("data")
        entries = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
        served = [shown(entry.get("id")) for entry in entries[:MODELS_SHOWN]]
        if served and self._model not in served:
            raise EngineError(f"arm {self._name}: {self.url} serves {', '.join(served)}, not {self._model}.")
        self.told = EndpointFacts(models=served) if served else EndpointFacts()
        if any(entry.get("owned_by") == "sglang" for entry in entries):
            self._extra = {"return_spec_tokens_details": True}  # 0.5.17 does not know it, and ignores it

    async def ask(
        self,
        session: aiohttp.ClientSession,
        request_id: str,
        prompt: Prompt,
        sampling: dict[str, Any],
        watch: Watch | None = None,
    ) -> Answer:
        """Send one prompt; failures are returned, never raised."""
        if self._api == "sglang":
            cumulative = not self.told.incremental_streaming_output
            return await stream_request(
                session, self.url, request_id, prompt.prompt_ids, sampling, self._headers, cumulative, watch
            )
        return await stream_completion(
            session, self.url, self._model, prompt, sampling, self._headers, chat=self._api == "openai-chat",
            template_arguments=self._template_arguments, extra=self._extra, watch=watch,
        )  # fmt: skip

    def counters(self) -> CounterReading | None:
        """The server's own counters of its drafts; None where it has none, or does not show them."""
        try:
            reply = get(f"{self.url}/metrics", self._authorization)
        except EngineError:
            return None
        return reading_of(reply.body.decode(errors="replace")) if reply.status == 200 else None

    @property
    def _authorization(self) -> dict[str, str]:
        return {name: value for name, value in self._headers.items() if name == "Authorization"}

    def rest(self) -> None:
        """It is not ours to stop."""

    def wake(self) -> None:
        """It never rests."""

    async def connect(self, session: aiohttp.ClientSession) -> None:
        """Its connections are as any client's."""

    async def flush(self) -> None:
        """Its caches are not ours to flush."""

    async def load_draft(self, folder: Path) -> None:
        """Its draft is not ours to change."""
        raise EngineError(f"{self.url}: the draft of an endpoint cannot be changed.")

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
        try:
            reply = get(self.url + path, self._authorization)
        except EngineError as error:
            raise EngineError(
                f"arm {self._name}: {self.url} does not answer as it should ({error}); start the server, or correct "
                "endpoint."
            ) from None
        if reply.status in (404, 405):
            return None
        if reply.location is not None and 300 <= reply.status < 400:
            raise EngineError(
                f"arm {self._name}: {self.url}{path} redirects to {shown(reply.location)}, and redirects are not "
                "followed; give that address as endpoint."
            )
        if reply.status != 200:
            hint = "; api_key_env names the variable that holds its key" if reply.status in (401, 403) else ""
            said = f": {shown(reply.body)}" if reply.body else ""
            raise EngineError(f"arm {self._name}: {self.url}{path}: HTTP {reply.status}{said}{hint}.")
        found = reply.fields()
        if found is None:
            raise EngineError(f"arm {self._name}: {self.url}{path} gives no JSON object, but {shown(reply.body)}.")
        return found


def _plain(value: Any) -> str | int | float | bool:
    """What a server says of itself as a manifest can hold it."""
    return value if isinstance(value, bool | int | float) else shown(value)


def open_endpoint(arm: Arm, template_arguments: Mapping[str, Any] | None = None) -> Endpoint:
    """An arm's server, contacted.

    Raises:
        EngineError: as `Endpoint` and `contact`.
    """
    endpoint = Endpoint(arm, template_arguments)
    endpoint.contact()
    return endpoint
