"""Devices of a Ray cluster: the only module that knows Ray, which is an extra (`pip install 'draftbench[ray]'`).

A device is an actor on a node, chosen by its id, that holds one GPU or some cores of it as long as the run lasts. The
actor starts the process of the launches and hands its news on when asked; whatever happens to it or to Ray, that
process and its engines end with it. One module, so that all of Ray is behind it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from draftbench.harness.cluster.seat import remove_left
from draftbench.harness.cluster.spread import Lost
from draftbench.harness.cluster.work import Job, News, Setup
from draftbench.harness.errors import EngineError
from draftbench.harness.suite.device_arguments import gpus_in_use

LOCAL = "ray"
"""What --on says for a cluster of this host alone, which ends with the run."""
SECRET = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")
"""Environment variables of what Ray's processes know each other by."""
SHORT, FOLDERS = Path("/tmp"), "db-ray-"
"""Where a local cluster's folder lies: a socket's path has 107 characters at most."""
CLIENT_REMEDY = (
    "\nWhere the client's server dies as it forks (Ray 2.60.0 with grpcio 1.85), start the head with "
    "GRPC_ENABLE_FORK_SUPPORT=0 in its environment."
)
LOOPBACK = "127.0.0.2"
"""A local cluster's own address; Ray takes 127.0.0.1 for the host's address on the network, and would listen there."""
INSTALL = "pip install 'draftbench[ray]'"
FREE_WITHIN_S = 60.0
"""How long a device may take to be there; another program of the cluster may hold it."""
SILENCE_S = 120.0
"""Every device answers within seconds; after so long without any, the cluster is taken for gone."""
CONNECT_S = 10.0
CLOSE_S = 20.0
STORE_BYTES = 100 * 2**20
"""Of a local cluster's object store; what travels is small."""


def _ray() -> Any:
    # Nothing is reported to Ray's makers, and its news are not the user's.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        import ray
    except ImportError as error:
        raise EngineError(f"--on needs Ray, which is not installed here ({error}): {INSTALL}.") from error
    return ray


@contextlib.contextmanager
def connected(where: str, cores: int | None) -> Iterator[RayCluster]:
    """A cluster, until the context is left; one that was begun here ends with it.

    Args:
        where: `ray` for this host alone, `ray://host:port` for a cluster's client port, or `host:port` of its head.
        cores: of each device; None for one GPU with all its host's cores, or without a GPU for all of a node's.

    Raises:
        EngineError: Ray is not installed, or there is no such cluster.
    """
    if cores is not None and cores < 1:
        raise EngineError(f"--cores is {cores}; allowed: 1 or more.")
    folder: Path | None = None
    # Ray reads them when it is imported, and would else leave a secret in the user's home.
    if where == LOCAL and "ray" not in sys.modules and not any(name in os.environ for name in SECRET):
        os.environ.update(zip(SECRET, ("token", secrets.token_hex(32)), strict=True))
    ray = _ray()
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
    if where == LOCAL:
        remove_left(FOLDERS, SHORT)
        folder = Path(tempfile.mkdtemp(prefix=f"{FOLDERS}{os.getpid()}-", dir=SHORT))
        options |= {
            "address": "local",
            "include_dashboard": False,
            "object_store_memory": STORE_BYTES,
            "_node_ip_address": LOOPBACK,
            "_temp_dir": str(folder),
        }
    else:
        check_listens(where)
        options["address"] = where
    try:
        try:
            with _own_signals():
                ray.init(**options)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            remedy = CLIENT_REMEDY if where.startswith("ray://") else ""
            raise EngineError(f"--on {where}: Ray cannot be reached: {error}{remedy}") from error
        cluster = RayCluster(ray, cores)
        try:
            yield cluster
        finally:
            cluster.close()
    finally:
        with contextlib.suppress(Exception):  # whatever is left of the cluster
            ray.shutdown()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep what SIGTERM does here, which Ray takes for its own."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def check_listens(where: str) -> None:
    """Ray itself would wait for minutes.

    Raises:
        EngineError: it is no address, or nobody listens there.
    """
    host, _, port = where.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise EngineError(f"--on {where} is no cluster: say ray, ray://HOST:PORT or HOST:PORT.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except OSError as error:
        raise EngineError(f"--on {where}: nobody listens there ({error}); start it with `ray start --head`.") from error


class Place:
    """A part of a node: its id, its address, and how many GPUs and cores a launch has there."""

    def __init__(self, node: str, address: str, gpus: int, cores: int | None) -> None:
        self.node, self.address, self.gpus, self.cores = node, address, gpus, cores


def places_of(nodes: Sequence[Mapping[str, Any]], cores: int | None, gpus: int = 1) -> list[Place]:
    """The devices of a cluster: GPUs where any node has some, else shares of the nodes' cores.

    Args:
        nodes: as Ray lists them.
        cores: of each device; None for all that a node has where there are no GPUs.
        gpus: of each device, as many as an engine takes.
    """
    alive = [node for node in nodes if node["Alive"]]
    has_gpus = any(node["Resources"].get("GPU") for node in alive)
    found = []
    for node in alive:
        resources = node["Resources"]
        all_cores = int(resources.get("CPU", 0))
        share = cores or all_cores
        if has_gpus:
            groups = int(resources.get("GPU", 0)) // gpus
            count = groups if cores is None else min(groups, all_cores // cores)
        else:
            count = all_cores // share if share else 0
        taken = cores if has_gpus else share
        found += [Place(node["NodeID"], node["NodeManagerAddress"], has_gpus * gpus, taken) for _ in range(count)]
    return found


class RayCluster:
    """As `spread.Cluster` has it."""

    def __init__(self, ray: Any, cores: int | None) -> None:
        self._ray, self._cores = ray, cores
        self._setup: Setup | None = None
        self._devices: dict[int, Place] = {}
        self._actors: dict[int, Any] = {}
        self._asked: dict[int, Any] = {}
        self.places: Mapping[int, str] = {}

    def start(self, setup: Setup, note: Callable[[str], None]) -> None:
        """Let every device that is free find the suite's models.

        Raises:
            EngineError: none is there, or none is free.
        """
        self._setup = setup
        gpus = max(gpus_in_use(setup.suite)) + 1
        devices = places_of(self._ray.nodes(), self._cores, gpus)
        if not devices:
            raise EngineError(
                f"no node of the cluster has {gpus} GPUs that an engine takes, nor enough cores for one device: add a "
                "node, or give fewer with --cores."
            )
        self._devices = dict(enumerate(devices, 1))
        self.places = {number: f"device {number} ({place.address})" for number, place in self._devices.items()}
        for number in self._devices:
            self._actors[number] = self._actor(number)
        answers = {number: actor.here.remote() for number, actor in self._actors.items()}
        ready, _ = self._ray.wait(list(answers.values()), num_returns=len(answers), timeout=FREE_WITHIN_S)
        for number, answer in answers.items():
            if answer not in ready:
                note(f"{self.places[number]} is not free: other programs of the cluster hold it")
                self.drop(number)
        self.places = {number: place for number, place in self.places.items() if number in self._actors}
        if not self._actors:
            raise EngineError(f"no device of the cluster is free within {FREE_WITHIN_S:.0f} s: end what holds them.")

    def begin(self, number: int, job: Job) -> None:
        """As `Cluster` has it."""
        self._actors[number].begin.remote(job.model_dump_json())

    def news(self) -> tuple[int, Sequence[News]]:
        """As `Cluster` has it."""
        for number, actor in self._actors.items():
            if number not in self._asked:
                self._asked[number] = actor.news.remote()
        errors = self._ray.exceptions
        try:
            ready, _ = self._ray.wait(list(self._asked.values()), num_returns=1, timeout=SILENCE_S)
            if not ready:
                raise EngineError(f"the cluster has said nothing for {SILENCE_S:.0f} s; go on with --resume.")
            number = next(number for number, asked in self._asked.items() if asked == ready[0])
            del self._asked[number]
            try:
                return number, [(name, line) for name, line in self._ray.get(ready[0])]
            except (errors.RayActorError, errors.RayTaskError, errors.WorkerCrashedError) as error:
                raise Lost(number, _told(error)) from error
        except (ConnectionError, errors.RaySystemError, errors.RpcError) as error:
            raise EngineError(
                f"the cluster cannot be reached any more ({_told(error)}); what was measured is kept, go on with "
                "--resume."
            ) from error

    def renew(self, number: int) -> bool:
        """As `Cluster` has it: another actor on the same node, where that is alive."""
        self.drop(number)
        place = self._devices[number]
        alive = any(node["Alive"] and node["NodeID"] == place.node for node in self._ray.nodes())
        if alive:
            self._actors[number] = self._actor(number)
        return alive

    def drop(self, number: int) -> None:
        """As `Cluster` has it."""
        self._asked.pop(number, None)
        if (actor := self._actors.pop(number, None)) is not None:
            with contextlib.suppress(Exception):  # it is gone already
                self._ray.kill(actor)

    def close(self) -> None:
        """End every device's launches; what runs longer is killed, and ends its processes that way."""
        with contextlib.suppress(Exception):  # of a cluster that is gone nothing can be asked
            closing = [actor.close.remote() for actor in self._actors.values()]
            self._ray.wait(closing, num_returns=max(len(closing), 1), timeout=CLOSE_S)
        for number in tuple(self._actors):
            self.drop(number)
        time.sleep(0.2)

    def _actor(self, number: int) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        assert self._setup is not None
        place = self._devices[number]
        options = {
            "num_gpus": place.gpus,
            "num_cpus": place.cores or 0,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(place.node, soft=False),
        }
        setup = self._setup.model_copy(update={"cores": place.cores})
        return self._ray.remote(_seat_actor()).options(**options).remote(setup.model_dump_json(), setup.same.code)


def _told(error: BaseException) -> str:
    return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__


def _seat_actor() -> type:
    """The actor's class, which travels by value: a node without draftbench has to be able to say so."""

    class SeatActor:
        def __init__(self, setup: str, code: str) -> None:
            self._seat: Any = None
            self._problem: str | None = None
            try:
                from draftbench.harness.cluster import seat, work

                if (found := work.code_sha256()) != code:
                    self._problem = (
                        f"draftbench's code is {found[:12]} there, {code[:12]} where bench.py runs: install the same "
                        "one (a checkout's changed files count)."
                    )
                else:
                    parsed = work.Setup.model_validate_json(setup)
                    self._seat = seat.Seat(parsed, environment=seat.own_environment())
            except ImportError as error:
                self._problem = f"draftbench is not installed there, or another one ({error}): install the same one."
            except Exception as error:
                self._problem = f"{type(error).__name__}: {error}"

        def here(self) -> bool:
            return True

        def begin(self, job: str) -> None:
            from draftbench.harness.cluster import work

            self._seat.begin(work.Job.model_validate_json(job))

        def news(self) -> list[tuple[str, str]]:
            if self._problem is not None:
                import json

                return [("told.jsonl", json.dumps({"what": "failed", "text": self._problem}))]
            found: list[tuple[str, str]] = self._seat.news()
            return found

        def close(self) -> None:
            if self._seat is not None:
                self._seat.close()

    return SeatActor
