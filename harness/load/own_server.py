"""How an SGLang server that we started is asked; its life is `runtime.launch`'s."""

from __future__ import annotations

import contextlib
from typing import Any

import aiohttp

from draftbench.harness.errors import EngineError
from draftbench.harness.load.client import Answer, open_session, stream_request
from draftbench.harness.load.limits import Watch
from draftbench.harness.load.requests import Prompt

FLUSH_TIMEOUT_S = 30


class OwnServer:
    """The part of an `Engine` that speaks HTTP; whoever inherits it has an address and knows whether it failed."""

    url: str
    gives_token_ids = True

    def failure(self) -> str | None:
        """As `Engine` has it."""
        raise NotImplementedError

    async def ask(
        self,
        session: aiohttp.ClientSession,
        request_id: str,
        prompt: Prompt,
        sampling: dict[str, Any],
        watch: Watch | None = None,
    ) -> Answer:
        """Send one prompt; failures are returned, never raised."""
        return await stream_request(session, self.url, request_id, prompt.prompt_ids, sampling, watch=watch)

    def counters(self) -> None:
        """Its rounds are recorded."""

    async def connect(self, session: aiohttp.ClientSession) -> None:
        """Open the connection again that the server closed while others were asked; what follows tells a failure."""
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with session.get(f"{self.url}/model_info") as response:
                await response.read()

    async def flush(self) -> None:
        """Empty the engine's caches and its draft's online state.

        SGLang drops finished requests a moment after it has answered them and refuses to flush before; it waits if
        asked.

        Raises:
            EngineError: the engine refused or does not answer.
        """
        try:
            async with (
                open_session() as session,
                session.post(f"{self.url}/flush_cache", params={"timeout": FLUSH_TIMEOUT_S}) as response,
            ):
                if response.status != 200:
                    raise EngineError(f"the engine did not flush its caches: {(await response.text())[:300]}")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise EngineError(f"the engine did not answer /flush_cache: {error}. {self.failure() or ''}") from error
