"""Ports of engines that start at the same time, the rounds that an engine has written, and its end."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path

import pytest

from draftbench.harness.records import PhaseTimes
from draftbench.harness.runtime import launch
from draftbench.harness.runtime.events import RoundLog
from draftbench.harness.runtime.launch import SglangEngine, free_port
from draftbench.harness.runtime.plugin import ROUNDS


def test_ports_are_given_once_and_lie_outside_the_systems_own_range() -> None:
    """Two engines starting together get different ports, and no outgoing connection can take one of them."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = [free_port() for _ in range(200)]
    assert len(set(ports)) == 200
    assert max(ports) < lowest


def test_a_port_in_use_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever listens keeps the port."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        taken, free = server.getsockname()[1], free_port()
        launch._given_ports.discard(free)
        monkeypatch.setattr("random.sample", lambda *_: [taken, free])
        assert free_port() == free


def test_a_zombie_that_nobody_buries_is_not_waited_for(tmp_path: Path) -> None:
    """In a container without an init process an engine's orphans stay zombies for as long as it runs."""
    server = subprocess.Popen(["sleep", "60"], process_group=0)
    child = subprocess.Popen(["sleep", "60"], process_group=server.pid)
    began_s = time.monotonic()
    SglangEngine(server, 0, tmp_path).stop()
    assert time.monotonic() - began_s < launch.STOP_TIMEOUT_S / 2
    assert server.returncode is not None
    assert child.wait() == -9


def test_rounds_in_which_nothing_was_proposed_are_counted(tmp_path: Path) -> None:
    """Two of three; the times of the last one are told later."""
    engine, log = SglangEngine(Process(), 1, tmp_path), RoundLog(tmp_path / ROUNDS)
    for empty in (False, True, True):
        if empty:
            log.empty()
        log.accepted("request", 0)
        log.phases(1, 2, 3, 10)
    events = engine.take_events()
    assert events.accepted == {"request": [0, 0, 0]}
    times = {"num_rounds": 3, "draft_ns": 3, "verify_ns": 6, "extend_ns": 9, "round_ns": 30}
    assert events.phases == PhaseTimes(**times, num_empty=2)
    log.empty()
    assert engine.take_events().phases == PhaseTimes(**dict.fromkeys(times, 0), num_empty=1)
    assert engine.take_events().phases is None


class Process:
    """One that runs."""

    pid = 1

    def poll(self) -> int | None:
        """It runs."""
        return None
