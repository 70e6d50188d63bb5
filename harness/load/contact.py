"""One look at a server outside the measuring: a GET with limits on time, size and where it leads."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
from aiohttp.http_exceptions import HttpProcessingError

from draftbench.harness.errors import EngineError
from draftbench.harness.load.server_fields import shown

CONTACT_TIMEOUT_S = 10.0
CONTACT_BYTES = 4 << 20


@dataclass(frozen=True)
class Reply:
    """A server's answer, whole."""

    status: int
    body: bytes
    location: str | None
    """Where a redirect points to."""

    def fields(self) -> Mapping[str, Any] | None:
        """Its JSON object; None if it is none."""
        try:
            found = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return None
        return found if type(found) is dict else None


def get(url: str, headers: Mapping[str, str]) -> Reply:
    """Ask once. Redirects are not followed: they would take a key along.

    Raises:
        EngineError: no answer within the time, or a longer one than any that is asked for; it begins with the reason.
    """
    with ThreadPoolExecutor(1) as thread:  # where an event loop runs already, as in a notebook
        return thread.submit(asyncio.run, _get(url, headers)).result()


async def _get(url: str, headers: Mapping[str, str]) -> Reply:
    timeout = aiohttp.ClientTimeout(total=CONTACT_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(trust_env=False, timeout=timeout) as session,
            session.get(url, headers={**headers, "Accept-Encoding": "identity"}, allow_redirects=False) as response,
        ):
            body = bytearray()
            async for piece in response.content.iter_any():
                body += piece
                if len(body) > CONTACT_BYTES:
                    raise EngineError(f"it sends more than {CONTACT_BYTES >> 20} MiB")
            return Reply(response.status, bytes(body), response.headers.get("Location"))
    except TimeoutError:
        raise EngineError(f"no whole answer within {CONTACT_TIMEOUT_S:.0f} s") from None
    except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError) as error:
        raise EngineError(shown(f"{type(error).__name__}: {error}")) from None
