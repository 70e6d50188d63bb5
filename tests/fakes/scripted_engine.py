"""Engines that follow a script, behind that part of SGLang's interface which a run uses: no SGLang, no child process.

A `Stage` is a thread with the engines' HTTP servers. A `ScriptedFleet` is a suite's arms, their models found and
checked as ever, whose engines are played there. What happened can be read afterwards: `Stage.events`, `Stage.asked`.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from draftbench.drafts.api import DraftSpec, Tree
from draftbench.harness.engine import EngineEvents, Receipt
from draftbench.harness.errors import EngineError
from draftbench.harness.load.endpoint import Endpoint
from draftbench.harness.load.own_server import OwnServer
from draftbench.harness.records import PhaseTimes
from draftbench.harness.run.pool import EnginePool
from draftbench.harness.runtime.fleet import SglangFleet
from draftbench.harness.suite import Arm

Tokens = tuple[int, ...]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
EOS = 1
WORDS = range(100, 400)
"""Token ids that outputs are made of."""
BEST, SECOND = -1.0, -3.0
"""Log-probabilities of the target's best two tokens, where nothing else is said."""
MS = 1_000_000


@dataclass(frozen=True)
class Asked:
    """One request for tokens, as an engine is sent it. Its id begins with its cell's slug."""

    arm: str
    request_id: str
    prompt_ids: Tokens
    max_tokens: int
    temperature: float
    awake: tuple[str, ...] = ()
    """Arms whose engines ran and did not rest meanwhile."""

    def is_of(self, *slugs: str) -> bool:
        """Whether it belongs to a cell or pass whose slug begins so: `l0-b1-hass-`, `l0-b-50-control-`."""
        return self.request_id.startswith(slugs)


def own_answer(asked: Asked) -> Tokens:
    """What the target makes of a prompt: greedily always the same words and the stop token, at a temperature others."""
    if asked.temperature > 0:
        return tuple(random.choices(WORDS[:6], weights=range(1, 7), k=asked.max_tokens))
    draw = random.Random(repr(asked.prompt_ids))
    return (*draw.choices(WORDS, k=draw.randint(6, 14)), EOS)


def another_word(asked: Asked) -> Tokens:
    """The target's answer with another token in its fifth place."""
    own = own_answer(asked)
    return (*own[:4], own[4] + 1, *own[5:])


@dataclass
class Script:
    """What one arm's engine does.

    Attributes:
        accepted: drafts accepted by the rounds, over and over; empty where nothing is drafted.
        answer: the output, its stop token included; it is cut at the longest output allowed.
        round_s: of a round, or of one token without a draft.
        stall_s: what a request's rounds take beyond that.
        cached_tokens: of each prompt, as the engine says.
        fails: why a request fails, in SGLang's words; None where it does not.
        dies: whether the engine ends when it is sent this request.
        interrupts: whether Ctrl-C is pressed while this request is under way.
        start_error: why the engine does not start.
        flush_error: why the engine does not flush its caches.
        load_error: why the engine does not take other weights for its draft.
        score_error: why the engine does not score.
        arguments: of its receipt, where they are not what the suite says.
        deficit: by how many nats the scores put the first token that is not the target's own below the best.
        noise: by how many nats scores differ from the log-probabilities of decoding.
    """

    accepted: tuple[int, ...] = ()
    answer: Callable[[Asked], Tokens] = own_answer
    round_s: float = 0.001
    stall_s: Callable[[Asked], float] = lambda asked: 0.0
    cached_tokens: int = 0
    fails: Callable[[Asked], str | None] = lambda asked: None
    dies: Callable[[Asked], bool] = lambda asked: False
    interrupts: Callable[[Asked], bool] = lambda asked: False
    start_error: str | None = None
    flush_error: str | None = None
    load_error: str | None = None
    score_error: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    deficit: float = 2.0
    noise: float = 1e-5


class Stage:
    """A thread in which scripted engines serve, until the context is left."""

    def __init__(self) -> None:
        self.events: list[str] = []
        """`begin ARM`, `ready ARM`, `stop ARM`, `flush ARM`, `load ARM FOLDER`, in their order."""
        self.asked: list[Asked] = []
        """Every request for tokens that was sent."""
        self.engines: list[ScriptedEngine] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="stage", daemon=True)

    def __enter__(self) -> Stage:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def serve(self, app: web.Application) -> tuple[web.AppRunner, str]:
        """A server on the loopback interface and its address."""
        runner = web.AppRunner(app, shutdown_timeout=0)

        async def start() -> str:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            return f"http://127.0.0.1:{runner.addresses[0][1]}"

        return runner, asyncio.run_coroutine_threadsafe(start(), self._loop).result()

    def close(self, runner: web.AppRunner) -> None:
        """End a server, and with it the connections that it has."""
        asyncio.run_coroutine_threadsafe(runner.cleanup(), self._loop).result()

    def sent(self, *slugs: str) -> list[Asked]:
        """The requests of cells and passes whose slugs begin so."""
        return [asked for asked in self.asked if asked.is_of(*slugs)]

    @property
    def running(self) -> list[str]:
        """Arms whose engines were not stopped."""
        return [engine.arm.name for engine in self.engines if not engine.stopped]

    @property
    def awake(self) -> tuple[str, ...]:
        """Arms whose engines run and do not rest."""
        return tuple(engine.arm.name for engine in self.engines if not (engine.stopped or engine.resting))


class ScriptedEngine(OwnServer):
    """An engine, from its start on; where it is waited for it fails if its script says so."""

    def __init__(self, arm: Arm, script: Script, stage: Stage, receipt: Receipt) -> None:
        self.arm, self.script, self.receipt, self.stopped = arm, script, receipt, False
        self.resting = False
        self._stage, self._died = stage, ""
        self._lock = threading.Lock()
        self._accepted: dict[str, list[int]] = {}

        @web.middleware
        async def unless_resting(request: web.Request, handler: Handler) -> web.StreamResponse:
            return web.Response(status=503, text="it rests") if self.resting else await handler(request)

        app = web.Application(middlewares=[unless_resting])
        app.router.add_post("/generate", self._generate)
        app.router.add_post("/flush_cache", self._flush)
        app.router.add_post("/update_weights_from_disk", self._load)
        self._runner, self.url = stage.serve(app)
        self._note("begin")
        stage.engines.append(self)

    @property
    def pid(self) -> int:
        """This process, which plays it."""
        return os.getpid()

    @property
    def num_proposed_drafts(self) -> int | None:
        """As the suite says."""
        return None if self.arm.num_draft_tokens is None else self.arm.num_draft_tokens - 1

    def ready(self) -> ScriptedEngine:
        """Or the script's error."""
        if self.script.start_error is not None:
            self.stop()
            raise EngineError(f"arm {self.arm.name}: {self.script.start_error}")
        self._note("ready")
        return self

    def take_events(self) -> EngineEvents:
        """Rounds of which it has not told yet; each takes as long as any other."""
        with self._lock:
            accepted, self._accepted = self._accepted, {}
        count = sum(map(len, accepted.values()))
        times = PhaseTimes(
            num_rounds=count,
            draft_ns=count * MS,
            verify_ns=2 * count * MS,
            extend_ns=count * MS,
            round_ns=5 * count * MS,
        )
        return EngineEvents(accepted, times if count else None)

    def failure(self) -> str | None:
        """Why it died."""
        return self._died or None

    def rest(self) -> None:
        """Until woken."""
        self.resting = True

    def wake(self) -> None:
        """Where it rested."""
        self.resting = False

    def stop(self) -> None:
        """May be called twice."""
        if not self.stopped:
            self.stopped = True
            self._note("stop")
            self._stage.close(self._runner)

    def _note(self, what: str) -> None:
        self._stage.events.append(f"{what} {self.arm.name}")

    async def _flush(self, request: web.Request) -> web.Response:
        self._note("flush")
        error = self.script.flush_error
        return web.Response(status=200 if error is None else 400, text=error or "")

    async def _load(self, request: web.Request) -> web.Response:
        folder = Path((await request.json())["model_path"])
        self._stage.events.append(f"load {self.arm.name} {folder.name}")
        error = self.script.load_error
        return web.Response(status=200 if error is None else 400, text=error or "")

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        if body.get("return_logprob"):
            return self._scores(body)
        sampling = body["sampling_params"]
        asked = Asked(
            self.arm.name, body["rid"], tuple(body["input_ids"]), sampling["max_new_tokens"], sampling["temperature"],
            self._stage.awake,
        )  # fmt: skip
        self._stage.asked.append(asked)
        if self.script.dies(asked):
            self._died = "exit code -9; the last lines of its log:\n  it was killed"
        if self._died:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if self.script.interrupts(asked):
            os.kill(os.getpid(), signal.SIGINT)
        response = web.StreamResponse()
        with suppress(ConnectionResetError):  # whoever was interrupted hangs up
            await response.prepare(request)
            if (error := self.script.fails(asked)) is not None:
                await self._send(response, {"error": {"message": error}})
            else:
                await self._stream(response, asked)
            await response.write(b"data: [DONE]\n\n")
        return response

    async def _stream(self, response: web.StreamResponse, asked: Asked) -> None:
        output = self.script.answer(asked)[: asked.max_tokens]
        pieces, accepted = rounds_of_output(output, self.script.accepted)
        for number, piece in enumerate(pieces):
            await asyncio.sleep(self.script.round_s + self.script.stall_s(asked))
            is_last = number + 1 == len(pieces)
            if is_last and accepted:
                with self._lock:
                    self._accepted[asked.request_id] = accepted
            reason = {"type": "stop" if output[-1] == EOS else "length"} if is_last else None
            meta = {"id": asked.request_id, "finish_reason": reason, "prompt_tokens": len(asked.prompt_ids),
                    "cached_tokens": self.script.cached_tokens}  # fmt: skip
            if accepted:
                meta |= {"spec_verify_ct": len(accepted), "spec_accept_length": len(output) / len(accepted)}
            await self._send(response, {"output_ids": piece, "meta_info": meta})

    async def _send(self, response: web.StreamResponse, message: Mapping[str, Any]) -> None:
        await response.write(b"data: " + orjson.dumps(message) + b"\n\n")

    def _scores(self, body: Mapping[str, Any]) -> web.Response:
        """Of an output that was sent with its prompt, or of one that is decoded now."""
        if self.script.score_error is not None:
            return web.Response(status=500, text=self.script.score_error)
        ids, count = tuple(body["input_ids"]), body["sampling_params"]["max_new_tokens"]
        if count:
            output = own_answer(Asked(self.arm.name, "", ids, count, 0.0))[:count]
            decoded = [[BEST - self.script.noise, token, None] for token in output]
            return web.json_response({"meta_info": {"output_token_logprobs": decoded}})
        begin = body["logprob_start_len"] + 1
        output = ids[begin:]
        own = own_answer(Asked(self.arm.name, "", ids[:begin], len(output), 0.0))
        parts = next((at for at, pair in enumerate(zip(output, own, strict=False)) if pair[0] != pair[1]), None)
        chosen: list[list[Any]] = [[None, ids[begin - 1], None]]
        best: list[Any] = [None]
        for at, token in enumerate(output):
            below = self.script.deficit if at == parts else 0.0
            chosen.append([BEST - below, token, None])
            best.append([[BEST, token, None], [BEST - below if below else SECOND, token, None]])
        return web.json_response({"meta_info": {"input_token_logprobs": chosen, "input_top_logprobs": best}})


def rounds_of_output(output: Tokens, accepted: Sequence[int]) -> tuple[list[Tokens], list[int]]:
    """An output as the chunks that bring it, the first of them the prefill's, and the accepted drafts of each round."""
    pieces, rounds = [output[:1]], []
    left = output[1:]
    while left:
        count = 1 if not accepted else min(accepted[len(rounds) % len(accepted)] + 1, len(left))
        rounds.append(count - 1)
        pieces.append(left[:count])
        left = left[count:]
    return pieces, rounds if accepted else []


class ScriptedFleet:
    """A suite's arms as `draftbench.harness.run.pool.Fleet`, bench.py and `tune` have them; their engines are played.

    Args:
        found: the real arms, which find and check the models.
        scripts: by arm; one that has none plays `Script()`.
        room: how many engines have room side by side.
        quick: what keeps starts from being quick; None where nothing does.
    """

    starts = "cold"

    def __init__(
        self, found: SglangFleet, scripts: Mapping[str, Script], stage: Stage, room: int = 8, slow: str | None = None
    ) -> None:
        self._found, self._scripts, self._stage, self._room, self._slow = found, scripts, stage, room, slow

    @property
    def by_name(self) -> Mapping[str, Arm]:
        """As found."""
        return self._found.by_name

    @property
    def reference(self) -> str | None:
        """As found."""
        return self._found.reference

    @property
    def target(self) -> Path:
        """As found."""
        return self._found.target

    @property
    def context_tokens(self) -> int:
        """As found."""
        return self._found.context_tokens

    @property
    def trained_tokens(self) -> Mapping[str, int]:
        """As found."""
        return self._found.trained_tokens

    @property
    def updated(self) -> Mapping[str, Path]:
        """As found."""
        return self._found.updated

    @property
    def endpoints(self) -> Mapping[str, Endpoint]:
        """As found."""
        return self._found.endpoints

    @property
    def specs(self) -> Mapping[str, DraftSpec]:
        """As found."""
        return self._found.specs

    def hashes(self) -> dict[str, str]:
        """As found."""
        return self._found.hashes()

    def ledgers(self) -> dict[str, dict[str, Any] | None]:
        """As found."""
        return self._found.ledgers()

    def accepts(self, name: str, tree: Tree) -> bool:
        """As found."""
        return self._found.accepts(name, tree)

    def preload(self) -> None:
        """Noted."""
        self._stage.events.append("preload")

    def forking(self, note: Callable[[str], None]) -> ScriptedFleet:
        """Noted in `starts`, or said why not."""
        if self._slow is not None:
            note(f"engines are started cold: {self._slow}")
            return self
        quick = ScriptedFleet(self._found, self._scripts, self._stage, self._room)
        quick.starts = "forked from a preloaded process"
        return quick

    def fit_together(self) -> bool:
        """Whether there is room for all."""
        return self._room >= len(self.by_name)

    def pool(self, announce: Callable[[str], None]) -> EnginePool:
        """A real pool, which checks real receipts against each other."""

        def begin(name: str) -> ScriptedEngine:
            announce(name)
            return self._begin(name)

        return EnginePool(begin, lambda running: self._room - running, self._found._check_equal, self.endpoints)

    def _begin(self, name: str) -> ScriptedEngine:
        arm, script, spec = self.by_name[name], self._scripts.get(name, Script()), self._found.specs[name]
        loadable = self._found.loadables.get(name)
        arguments = {
            "max_total_tokens": self._found.suite.max_total_tokens,
            "max_running_requests": self._found.suite.running_requests,
            "speculative_num_draft_tokens": arm.num_draft_tokens,
        }
        receipt = Receipt(
            sglang="0.5.17", torch="none", algorithm=spec.algorithm_of(loadable), draft_class=spec.class_of(loadable),
            target_class="LlamaForCausalLM", max_total_num_tokens=self._found.suite.max_total_tokens,
            server_args={**arguments, **script.arguments},
        )  # fmt: skip
        return ScriptedEngine(arm, script, self._stage, receipt)
