"""The preloaded process: imports SGLang once, then forks a server for every engine that is asked for.

    bench.py ── preloaded process ── server ── fork server ── scheduler, detokenizer

A start of SGLang is nearly all imports: the server's, then the scheduler's once more. A server forked from here has
them already. Its own processes come from a fork server that it forks before anything else, so that none of them is
forked from a process that has initialised CUDA, and that carries the server's environment as it is when each is
started; everything else is as `python -m sglang.launch_server` does it. Whoever dies takes along what stands to its
right.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from multiprocessing import connection, forkserver, spawn
from multiprocessing.connection import Connection
from typing import Any

from draftbench.harness.runtime.cuda_imports import answering, devices_seen_by_a_fork, is_untouched

MODULES = (
    "sglang.launch_server",
    "sglang.srt.entrypoints.http_server",
    "sglang.srt.managers.scheduler",
    "sglang.srt.managers.detokenizer_manager",
    "sglang.srt.models.registry",  # with it every model's module
    "sglang.srt.speculative.eagle_worker_v2",
    "sglang.srt.speculative.standalone_worker_v2",
    "draftbench.harness.runtime.plugin",
    "draftbench.harness.runtime.rounds",
)
"""What server and scheduler import before they are ready."""


@dataclass(frozen=True)
class ForkRequest:
    """One server to be forked.

    Attributes:
        arguments: words of the command line behind `sglang.launch_server`.
        environment: all of its environment variables.
        log: file that gets its output and its children's.
    """

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    log: str


def die_with_parent() -> None:
    """Linux ends this process when the thread that made it is gone (prctl PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def serve_requests(descriptor: int) -> None:
    """Import, say that it is done, then answer until the other side of this socket is gone.

    A `ForkRequest` is answered with a process id, a process id with its exit code, None while it runs; each request has
    a number, which the answer repeats.
    """
    die_with_parent()
    asked = Connection(descriptor)
    asked.send(_import_everything())
    gc.collect()
    gc.freeze()  # a collection in a fork would copy every page that it looks at
    while True:
        try:
            number, request = asked.recv()
        except EOFError:
            return
        if isinstance(request, ForkRequest):
            pid = os.fork()
            if pid == 0:
                asked.close()
                _run(request)
            asked.send((number, pid))
        else:
            ended, status = os.waitpid(request, os.WNOHANG)
            asked.send((number, os.waitstatus_to_exitcode(status) if ended else None))


def _import_everything() -> str | None:
    """Why nothing may be forked from here; None where all is well."""
    with nullcontext() if "SGLANG_USE_CPU_ENGINE" in os.environ else answering(devices_seen_by_a_fork()):
        for name in MODULES:
            importlib.import_module(name)
    if not is_untouched():
        return "an import of SGLang has initialised CUDA, so that no forked process could use it."
    return None


def _run(request: ForkRequest) -> None:
    """Be a server, in a process group of its own; never returns."""
    code = 1
    try:
        os.setsid()
        die_with_parent()
        _redirect(request.log)
        os.environ.clear()
        os.environ.update(request.environment)
        tempfile.tempdir = None  # found anew, from TMPDIR
        fork_children_nearby()
        _launch_server(request.arguments)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _redirect(log: str) -> None:
    nowhere = os.open(os.devnull, os.O_RDONLY)
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
    for source, place in ((nowhere, 0), (file, 1), (file, 2)):
        os.dup2(source, place)


def _launch_server(arguments: Sequence[str]) -> None:
    """As the module sglang.launch_server does when it is run (0.5.17)."""
    from sglang.launch_server import run_server
    from sglang.srt.plugins import load_plugins
    from sglang.srt.server_args import prepare_server_args
    from sglang.srt.utils import kill_process_tree

    sys.argv = ["sglang.launch_server", *arguments]
    load_plugins()
    try:
        run_server(prepare_server_args(list(arguments)))
    finally:
        kill_process_tree(os.getpid(), include_parent=False)


def fork_children_nearby() -> None:
    """Let this process's multiprocessing children come from a fork server that is forked here and now.

    It is Python's own fork server without its start by exec; SGLang's choice of a start method is not heeded any more.
    A child that fails sends SIGQUIT to its parent (managers/scheduler.py, 0.5.17), which passes it on to the server.
    """
    server = os.getpid()
    address = connection.arbitrary_address("AF_UNIX")
    alive_r, alive_w = os.pipe()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        if os.fork() == 0:
            try:
                os.close(alive_w)
                die_with_parent()
                signal.signal(signal.SIGQUIT, lambda *_: os.kill(server, signal.SIGQUIT))
                spawn.prepare = _with_environment(spawn.prepare)
                forkserver.main(listener.detach(), alive_r, [])
            finally:
                os._exit(0)
    os.close(alive_r)
    ours: Any = forkserver._forkserver
    ours._forkserver_address, ours._forkserver_alive_fd = address, alive_w
    ours.ensure_running = lambda: None
    described = spawn.get_preparation_data
    spawn.get_preparation_data = lambda name: {**described(name), "environment": dict(os.environ)}
    multiprocessing.set_start_method("forkserver", force=True)
    multiprocessing.set_start_method = lambda *_, **__: None


def _with_environment(prepare: Any) -> Any:
    def prepared(data: dict[str, Any]) -> None:
        os.environ.clear()
        os.environ.update(data.pop("environment"))
        prepare(data)

    return prepared
