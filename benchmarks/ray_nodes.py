"""A Ray cluster of several nodes on this host's loopback addresses, for tests and measurements.

Each node is a `ray start` of its own with its own address (127.0.0.2 and on: Ray takes 127.0.0.1 for the host's address
on the network), its own temporary folder and one core.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

READY_TIMEOUT_S = 120.0
STORE_BYTES = 100 * 2**20


@dataclass(frozen=True)
class Nodes:
    """A running cluster.

    Attributes:
        address: of its head.
        client: the address for Ray's client.
        starts: the `ray start` of each node, the head's first; whatever it started ends with it.
        environment: of every process that speaks with the cluster.
    """

    address: str
    client: str
    starts: tuple[subprocess.Popen[bytes], ...]
    environment: dict[str, str]


@contextlib.contextmanager
def nodes(count: int, **environment: str) -> Iterator[Nodes]:
    """A cluster of so many nodes of one core, until the context is left."""
    folder = Path(tempfile.mkdtemp(prefix="rt-", dir="/tmp"))  # a socket's path has 107 characters at most
    own = {
        **os.environ,
        "RAY_USAGE_STATS_ENABLED": "0",
        "GRPC_ENABLE_FORK_SUPPORT": "0",  # else the client's server dies as it forks (Ray 2.60.0 with grpcio 1.85.3)
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        **environment,
    }
    port, client = _free_port(), _free_port()
    head = ["--head", "--port", str(port), "--ray-client-server-port", str(client), "--include-dashboard=false"]
    starts: list[subprocess.Popen[bytes]] = []
    try:
        for number in range(count):
            words = head if number == 0 else ["--address", f"127.0.0.2:{port}"]
            starts.append(_start(words, f"127.0.0.{2 + number}", folder / str(number), own))
        yield Nodes(f"127.0.0.2:{port}", f"ray://127.0.0.2:{client}", tuple(starts), own)
    finally:
        for start in reversed(starts):
            start.send_signal(signal.SIGTERM)
        for start in starts:
            try:
                start.wait(30)
            except subprocess.TimeoutExpired:
                start.kill()
                start.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _start(words: list[str], address: str, folder: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    folder.mkdir()
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus", "1",
        "--node-ip-address", address, "--include-log-monitor=false",
        "--object-store-memory", str(STORE_BYTES), "--temp-dir", str(folder), *words,
    ]  # fmt: skip
    log = folder.with_suffix(".log")
    with log.open("wb") as output:
        started = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True,
            preexec_fn=_end_with_parent,
        )  # fmt: skip
    deadline = time.monotonic() + READY_TIMEOUT_S
    while b"runtime started" not in log.read_bytes():
        if started.poll() is not None or time.monotonic() > deadline:
            started.kill()
            raise RuntimeError(log.read_text(errors="replace"))
        time.sleep(0.2)
    return started


def _end_with_parent() -> None:
    """Linux ends the node if this process is killed (prctl PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _free_port() -> int:
    """Below the ports that Ray's workers listen on and those of outgoing connections."""
    for port in range(7000 + os.getpid() % 1000, 10_000):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.2", port))
            if port not in _given:
                _given.add(port)
                return port
    raise RuntimeError("there is no free port from 7000 to 9999")


_given: set[int] = set()
