"""How an SGLang server that we started is asked; its life is `runtime.launch`'s."""

from __future__ import annotations

import contextlib
from pathlib import Path
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

    def rest(self) -> None:
        """Nothing, unless whoever inherits it can."""

    def wake(self) -> None:
        """As `rest`."""

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
        await self._post("flush_cache", "flush its caches", params={"timeout": FLUSH_TIMEOUT_S})

    async def load_draft(self, folder: Path) -> None:
        """Put other weights in the draft's place, of a draft whose engine is made for it, and empty the caches.

        Raises:
            EngineError: the engine refused or does not answer.
        """
        body = {"model_path": str(folder), "flush_cache": True}
        await self._post("update_weights_from_disk", f"take the draft's weights in {folder}", json=body)

    async def _post(self, path: str, what: str, **sent: Any) -> None:
        try:
            async with open_session() as session, session.post(f"{self.url}/{path}", **sent) as response:
                if response.status != 200:
                    raise EngineError(f"the engine did not {what}: {(await response.text())[:300]}")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise EngineError(f"the engine did not answer /{path}: {error}. {self.failure() or ''}") from error
