"""The harness's side of the preloaded process: started once, asked for every engine, gone with the harness."""

from __future__ import annotations

import atexit
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol, cast

from draftbench.harness.errors import EngineError
from draftbench.harness.runtime.forks import ForkRequest

READY_TIMEOUT_S = 300.0
"""Imports take over a minute where the machine is loaded."""
COMMAND = "import sys; from draftbench.harness.runtime.forks import serve_requests; serve_requests(int(sys.argv[1]))"
LOG_LINES_SHOWN = 15


class ServerProcess(Protocol):
    """A server's process, however it was started; `subprocess.Popen` is one."""

    @property
    def pid(self) -> int:
        """Its id, and its process group's."""
        ...

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        ...


class Preloaded:
    """A process that has SGLang imported. Engines forked from it end with it, and it ends with the harness."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Start it; `wait_ready` comes before the first engine."""
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        self._lock = threading.Lock()
        self._ready = False
        self._problem: str | None = None
        self._number = 0
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", COMMAND, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._asked = Connection(ours.detach())

    def wait_ready(self) -> None:
        """Wait until everything is imported.

        Raises:
            EngineError: it failed, with its last lines, or took too long.
        """
        with self._lock:
            if not self._ready and self._problem is None:
                self._problem = self._look()
            if self._problem is not None:
                raise EngineError(self._problem)
            self._ready = True

    def _look(self) -> str | None:
        """Wait for its first word: why nothing can be forked from it, or None."""
        try:
            if not self._asked.poll(READY_TIMEOUT_S):
                return f"SGLang was not imported within {READY_TIMEOUT_S:.0f} s."
            problem: str | None = self._asked.recv()
            return problem
        except (EOFError, ConnectionError):
            return f"the preloaded process ended.\n{self._log_end()}"

    @property
    def has_ended(self) -> bool:
        """Whether it is gone, and with it the engines that came from it."""
        return self._process.poll() is not None

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> ForkedServer:
        """Fork a server that runs `sglang.launch_server` with these arguments and all of this environment.

        Raises:
            EngineError: the preloaded process is gone.
        """
        self.wait_ready()
        pid = self._ask(ForkRequest(tuple(arguments), dict(environment), str(log.absolute())))
        if pid is None:
            raise EngineError(f"the preloaded process ended.\n{self._log_end()}")
        return ForkedServer(pid, self)

    def exit_code(self, pid: int) -> int | None:
        """Of a server that was forked from here; None while it runs. All have ended once this process has."""
        code = self._ask(pid)
        return -signal.SIGKILL if code is None and self.has_ended else code

    def close(self) -> None:
        """End it, and with it the engines that came from it."""
        self._process.kill()
        self._process.wait()
        self._asked.close()
        self._log.close()

    def _ask(self, request: ForkRequest | int) -> int | None:
        with self._lock:
            self._number += 1
            try:
                self._asked.send((self._number, request))
                while True:
                    number, answer = self._asked.recv()
                    if number == self._number:  # an interruption leaves the answer before it unread
                        return cast("int | None", answer)
            except (EOFError, OSError):
                self._process.wait()
                return None

    def _log_end(self) -> str:
        self._process.wait()
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return "its last lines:\n" + "\n".join(f"  {line}" for line in lines)


class ForkedServer:
    """A server that the preloaded process forked."""

    def __init__(self, pid: int, origin: Preloaded) -> None:
        self.pid = pid
        self._origin = origin
        self._code: int | None = None

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        if self._code is None:
            self._code = self._origin.exit_code(self.pid)
        return self._code


_preloaded: dict[frozenset[tuple[str, str]], Preloaded] = {}


def preloaded(environment: Mapping[str, str]) -> Preloaded:
    """The preloaded process with this environment: the running one, else a new one, which is not waited for."""
    key = frozenset(environment.items())
    if key not in _preloaded or _preloaded[key].has_ended:
        _preloaded[key] = Preloaded(environment)
    return _preloaded[key]


@atexit.register
def _close_all() -> None:
    for process in _preloaded.values():
        process.close()
