"""One SGLang server as a child process: start, readiness, receipt, and a certain end."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from draftbench.harness.engine import EngineEvents, Receipt
from draftbench.harness.errors import EngineError
from draftbench.harness.load.own_server import OwnServer
from draftbench.harness.runtime import cuda
from draftbench.harness.runtime.arguments import Argument, command_line
from draftbench.harness.runtime.cpu import environment as cpu
from draftbench.harness.runtime.events import RoundReader
from draftbench.harness.runtime.leftovers import Leftovers
from draftbench.harness.runtime.plugin import DRAFT, ENGINE_FOLDER, RECEIPT, ROUNDS
from draftbench.harness.runtime.preload import Preloaded, ServerProcess
from draftbench.harness.runtime.tested import TESTED_SGLANG
from draftbench.harness.safe_files import make_own_folder, open_to_append, write_whole

if TYPE_CHECKING:
    from draftbench.harness.suite import Suite

READY_TIMEOUT_S = 900.0
"""Large models load for minutes; an engine that died is noticed at once."""
STOP_TIMEOUT_S = 10.0
LOG_LINES_SHOWN = 25


class SglangEngine(OwnServer):
    """A running SGLang server. `folder` holds its log, receipt and rounds."""

    def __init__(
        self,
        process: ServerProcess,
        port: int,
        folder: Path,
        leftovers: Leftovers | None = None,
        rests: bool = False,
    ) -> None:
        """
        Args:
            rests: its processes are stopped while others are measured.
        """
        self._process = process
        self._rests = rests
        self._folder = folder
        self._leftovers = leftovers
        self._rounds = RoundReader(folder / ROUNDS)
        self._receipt: Receipt | None = None
        self.url = f"http://127.0.0.1:{port}"

    @property
    def receipt(self) -> Receipt:
        """What the scheduler process wrote about itself."""
        assert self._receipt is not None, "wait_ready comes first"
        return self._receipt

    @property
    def pid(self) -> int:
        """The server process."""
        return self._process.pid

    @property
    def num_proposed_drafts(self) -> int | None:
        """Nodes of a verify step's tree without the root."""
        tokens = self.receipt.server_args.get("speculative_num_draft_tokens")
        return int(tokens) - 1 if self.receipt.algorithm is not None and isinstance(tokens, int) else None

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Wait until the server answers and has given its receipt.

        Raises:
            EngineError: it died, did not answer in time, or our plugin left no receipt.
        """
        deadline = time.monotonic() + timeout_s
        # Not /health: each look at it makes SGLang generate a token, and queues behind the look before.
        while not _answers(f"{self.url}/model_info"):
            if (reason := self.failure()) is not None:
                raise EngineError(f"the engine ended while it started.\n{reason}")
            if time.monotonic() > deadline:
                raise EngineError(f"the engine did not answer within {timeout_s:.0f} s.\n{self._log_end()}")
            time.sleep(0.05)
        self._note_leftovers()  # an engine that dies by itself cannot be asked later
        path = self._folder / RECEIPT
        if not path.exists():
            raise EngineError(
                "the engine runs, but draftbench's plugin left no receipt in it, so nothing it says can be trusted; "
                f"install the project into the engine's environment (make setup).\n{self._log_end()}"
            )
        self._receipt = Receipt.model_validate(json.loads(path.read_text()))
        if self._receipt.sglang != TESTED_SGLANG:
            raise EngineError(
                f"SGLang {self._receipt.sglang} is not tested; draftbench works with {TESTED_SGLANG} (make setup)."
            )

    def take_events(self) -> EngineEvents:
        """Rounds written since the last call; a line that is still being written is left for the next call."""
        return self._rounds.take()

    def failure(self) -> str | None:
        """How the server process ended and its last lines, or how its draft failed; None while both run."""
        code = self._process.poll()
        if code is None:
            failed = self._rounds.draft_failure
            return None if failed is None else f"the draft failed: {failed}"
        how = f"exit code {code}"
        if code in (-9, 137):
            how += " (a failed scheduler kills its parent this way; it need not be lack of memory)"
        return f"{how}; {self._log_end()}"

    def rest(self) -> None:
        """Stop its processes: an idle server takes 1 to 3% of a core (0.5.17) and interrupts who has one."""
        for process in self._stoppable:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    def wake(self) -> None:
        """Let its processes run again."""
        for process in self._stoppable:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    @cached_property
    def _stoppable(self) -> list[psutil.Process]:
        """Its processes but Python's resource tracker, which alone does not end by a signal when its parent is gone."""
        return [process for process in _members(self.pid) if not _is_tracker(process)] if self._rests else []

    def stop(self) -> None:
        """End the whole process group at once; a serving engine has nothing to save, and what it leaves is deleted.

        A polite end would cost seconds: SGLang takes it for a crash and waits for diagnostics.
        """
        self._note_leftovers()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while _group_lives(self._process) and time.monotonic() < deadline:
            time.sleep(0.01)
        if self._leftovers is not None:
            self._leftovers.remove()

    def _note_leftovers(self) -> None:
        if self._leftovers is not None:
            self._leftovers.look([process.pid for process in _members(self._process.pid)])

    def _log_end(self) -> str:
        log = self._folder / "engine.log"
        lines = log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return f"the last lines of {log}:\n" + "\n".join(f"  {line}" for line in lines)


def engine_environment(suite: Suite, has_gpu: bool) -> dict[str, str]:
    """What the environments of all engines of a suite have in common."""
    # SGLang's own simulated acceptance would change every arm without a word in the report.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SGLANG_SIMULATE_")}
    exact, ranks = suite.target.dtype == "float32", suite.target.tensor_parallel
    environment.update(cuda.engine_environment(exact) if has_gpu else cpu.engine_environment(ranks))
    return {**environment, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}


def start_engine(
    arguments: Mapping[str, Argument],
    folder: Path,
    draft: Mapping[str, object],
    environment: Mapping[str, str],
    preloaded: Preloaded | None = None,
    rests: bool = False,
) -> SglangEngine:
    """Start a server in its own process group and return at once; `wait_ready` comes next.

    Args:
        draft: the arm's architecture, options, tree and simulated acceptance, for our plugin.
        environment: of `engine_environment`.
        preloaded: what the server is forked from; None starts it as a user's shell would.
        rests: as `SglangEngine`.
    """
    make_own_folder(folder, levels=2)
    for name in (RECEIPT, ROUNDS):
        (folder / name).unlink(missing_ok=True)
    port = free_port()
    words = ["--host", "127.0.0.1", "--port", str(port)]
    # SGLang would look for this one in the system's own range and lose it now and then.
    words += ["--nccl-port", str(free_port())]
    words += command_line(arguments)
    command = [sys.executable, "-m", "sglang.launch_server", *words]
    write_whole(folder / "command.json", json.dumps(command, indent=1) + "\n")
    leftovers = Leftovers()
    environment = {
        **environment,
        **leftovers.environment,
        ENGINE_FOLDER: str(folder.resolve()),
        DRAFT: json.dumps(dict(draft)),
    }
    log = folder / "engine.log"
    write_whole(log, b"")
    if preloaded is not None:
        return SglangEngine(preloaded.start(words, environment, log), port, folder, leftovers, rests)
    with open_to_append(log) as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
    return SglangEngine(process, port, folder, leftovers, rests)


def _die_with_parent() -> None:
    """Linux ends the server, also one that rests, if the harness is killed without a chance to clean up."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _group_lives(process: ServerProcess) -> bool:
    """Whether a process of the group still runs; dead ones may lie there until the system's first process looks."""
    return process.poll() is None or bool(_members(process.pid))


def _members(group: int) -> list[psutil.Process]:
    """The group's processes that run."""
    members = []
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(pid) == group and (process := psutil.Process(pid)).status() != psutil.STATUS_ZOMBIE:
                members.append(process)
    return members


def _is_tracker(process: psutil.Process) -> bool:
    try:
        return any("multiprocessing.resource_tracker" in word for word in process.cmdline())
    except psutil.NoSuchProcess:
        return True


def free_port() -> int:
    """A port that nobody listens on and that this process has not given out before.

    It lies below the range from which the system serves outgoing connections: a port of that range can be taken by any
    of them between here and the server's start.
    """
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = range(lowest - 8000, lowest) if lowest > 16000 else range(20000, 28000)
    for port in random.sample(ports, len(ports)):
        if port in _given_ports:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            _given_ports.add(port)
            return port
    raise EngineError("there is no free port below the system's own range; end some servers of this host.")


_given_ports: set[int] = set()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False
