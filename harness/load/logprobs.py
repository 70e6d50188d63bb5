"""What the target makes of an output: the log-probability of each of its tokens, and of the best two in its place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from draftbench.harness.errors import EngineError

MOST = 128


@dataclass(frozen=True)
class TokenScore:
    """One token of an output. Log-probabilities in nats."""

    logprob: float
    best: float
    second: float

    @property
    def deficit(self) -> float:
        """How far the token is from the best one."""
        return self.best - self.logprob


async def score_output(
    session: aiohttp.ClientSession,
    url: str,
    prompt_ids: Sequence[int],
    output_ids: Sequence[int],
    temperature: float = 1.0,
) -> list[TokenScore]:
    """Score every token of an output given those before it, in one pass of the target.

    Args:
        temperature: of the distribution that log-probabilities are of. SGLang gives them at 1; at another temperature
            they are normalised over the `MOST` best tokens, which below 1 hold all but the last thousandths.

    Raises:
        EngineError: the engine refused.
    """
    meta = await _ask(
        session,
        url,
        {
            "input_ids": [*prompt_ids, *output_ids],
            "sampling_params": {"temperature": 0.0, "max_new_tokens": 0},
            "return_logprob": True,
            "logprob_start_len": len(prompt_ids) - 1,
            "top_logprobs_num": 2 if temperature == 1 else MOST,
        },
    )
    # The first entry belongs to the last prompt token, for which SGLang gives none.
    chosen, best = meta["input_token_logprobs"][1:], meta["input_top_logprobs"][1:]
    return [_score(own[0], [each[0] for each in top], temperature) for own, top in zip(chosen, best, strict=True)]


def _score(own: float, top: Sequence[float], temperature: float) -> TokenScore:
    whole = 0.0
    if temperature != 1:
        whole = top[0] / temperature + math.log(math.fsum(math.exp((each - top[0]) / temperature) for each in top))
    return TokenScore(*(each / temperature - whole for each in (own, top[0], top[1])))


async def decode_logprobs(
    session: aiohttp.ClientSession, url: str, prompt_ids: Sequence[int], num_tokens: int
) -> list[tuple[int, float]]:
    """Decode greedily and return each token with its log-probability, in nats.

    Raises:
        EngineError: the engine refused.
    """
    meta = await _ask(
        session,
        url,
        {
            "input_ids": list(prompt_ids),
            "sampling_params": {"temperature": 0.0, "max_new_tokens": num_tokens},
            "return_logprob": True,
        },
    )
    return [(int(token), float(logprob)) for logprob, token, _ in meta["output_token_logprobs"]]


async def _ask(session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> dict[str, Any]:
    try:
        async with session.post(f"{url}/generate", json=body) as response:
            if response.status != 200:
                raise EngineError(f"the engine did not score: HTTP {response.status}: {(await response.text())[:300]}")
            meta: dict[str, Any] = (await response.json())["meta_info"]
    except (aiohttp.ClientError, TimeoutError) as error:
        raise EngineError(f"the engine did not answer a request for scores: {error}") from error
    return meta
