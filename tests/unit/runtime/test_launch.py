"""Ports of engines that start at the same time, the rounds that an engine has written, and its end."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from draftbench.harness.errors import RecordError
from draftbench.harness.records import PhaseTimes
from draftbench.harness.runtime import forks, launch
from draftbench.harness.runtime.events import RoundLog
from draftbench.harness.runtime.launch import SglangEngine, free_port, start_engine
from draftbench.harness.runtime.plugin import RECEIPT, ROUNDS, tells_receipt, tells_rounds, write_receipt


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


FAMILY = """
import subprocess, sys
from multiprocessing import resource_tracker
resource_tracker.ensure_running()
child = subprocess.Popen(["sleep", "60"])
print(child.pid, resource_tracker._resource_tracker._pid, flush=True)
child.wait()
"""


@pytest.mark.parametrize("rests", [True, False])
def test_an_engine_that_rests_takes_no_time_until_it_is_woken(rests: bool, tmp_path: Path) -> None:
    """All its processes stand still but the tracker, which no signal ends; where it should not rest none does."""
    server = subprocess.Popen([sys.executable, "-c", FAMILY], process_group=0, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    child, tracker = map(int, server.stdout.readline().split())
    engine = SglangEngine(server, 0, tmp_path, rests=rests)

    def stand_still() -> list[bool]:
        time.sleep(0.2)  # a signal reaches a sleeping process when the system wakes it
        return [psutil.Process(pid).status() == psutil.STATUS_STOPPED for pid in (server.pid, child, tracker)]

    for _ in range(2):
        engine.rest()
        assert stand_still() == [rests, rests, False]
        assert engine.failure() is None
        engine.wake()
        assert stand_still() == [False, False, False]
    engine.rest()
    engine.stop()
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE
    engine.rest()
    engine.wake()


def test_rounds_in_which_nothing_was_proposed_are_counted(tmp_path: Path) -> None:
    """Two of three; the times of the last one are told later."""
    engine, log = SglangEngine(Process(), 1, tmp_path), RoundLog(tmp_path / ROUNDS)
    for empty in (False, True, True):
        if empty:
            log.empty()
        log.accepted("request", 0)
        log.phases(1, 2, 3, 10)
    events = engine.take_events()
    assert events.num_accepted_drafts == {"request": [0, 0, 0]}
    times = {"num_rounds": 3, "draft_ns": 3, "verify_ns": 6, "extend_ns": 9, "round_ns": 30}
    assert events.phases == PhaseTimes(**times, num_empty=2)
    log.empty()
    assert engine.take_events().phases == PhaseTimes(**dict.fromkeys(times, 0), num_empty=1)
    assert engine.take_events().phases is None


@pytest.mark.parametrize("name", ["command.json", "engine.log", RECEIPT, ROUNDS])
def test_an_engines_files_are_made_and_no_link_is_followed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a link leads to stays as it was, and a file stands in its place once it is written."""
    kept, folder = tmp_path / "kept", tmp_path / "engines" / "hass"
    kept.write_text("kept")
    folder.mkdir(parents=True)
    (folder / name).symlink_to(kept)
    monkeypatch.setattr("sys.executable", "/bin/true")
    engine = start_engine({}, folder, {}, {})
    deadline_s = time.monotonic() + 10
    while engine.failure() is None and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert kept.read_text() == "kept"
    assert not (folder / name).is_symlink()
    assert (folder / "command.json").read_text().startswith("[")


@pytest.mark.parametrize("which", ["engines", "engines/hass"])
def test_an_engines_folder_is_no_link(which: str, tmp_path: Path) -> None:
    """Nothing is started, and nothing is written to where it leads."""
    outside = tmp_path / "outside"
    outside.mkdir()
    link = tmp_path / which
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(outside)
    with pytest.raises(RecordError, match=f"{link} is a link; remove it"):
        start_engine({}, tmp_path / "engines" / "hass", {}, {})
    assert list(outside.iterdir()) == []


def test_what_an_engine_writes_itself_follows_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links that came after the start: log and rounds are refused, the receipt takes the link's place."""
    kept, link = tmp_path / "kept", tmp_path / "link"
    kept.write_text("kept")
    link.symlink_to(kept)
    with pytest.raises(OSError, match="symbolic link"):
        forks._redirect(str(link))
    with pytest.raises(OSError, match="symbolic link"):
        RoundLog(link)
    for name in ("sglang", "torch"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(__version__="0"))
    scheduler = SimpleNamespace(
        max_total_num_tokens=8,
        draft_worker=None,
        server_args=SimpleNamespace(speculative_algorithm=None),
        tp_worker=SimpleNamespace(model_runner=SimpleNamespace(model=None)),
    )
    write_receipt(link, scheduler, None)
    assert kept.read_text() == "kept"
    assert not link.is_symlink()


@pytest.mark.parametrize(
    ("ranks", "rounds", "receipts"),
    [
        ([{}], 1, 1),
        ([{"tp_rank": n, "attn_tp_rank": n} for n in range(4)], 1, 1),
        ([{"tp_rank": n, "attn_tp_rank": n % 2, "dp_rank": n // 2} for n in range(4)], 2, 1),
        ([{"dp_rank": n} for n in range(2)], 2, 1),
        ([{"pp_rank": n} for n in range(2)], 1, 1),
    ],
)
def test_each_round_is_told_once_whoever_shares_it(ranks: list[dict[str, int]], rounds: int, receipts: int) -> None:
    """Alone, four that share all, two replicas of attention, two replicas, two stages."""
    alone = {"tp_rank": 0, "attn_tp_rank": 0, "attn_cp_rank": 0, "pp_rank": 0, "dp_rank": None}
    states = [SimpleNamespace(**alone | rank) for rank in ranks]
    assert sum(map(tells_rounds, states)) == rounds
    assert sum(map(tells_receipt, states)) == receipts


class Process:
    """One that runs."""

    pid = 1

    def poll(self) -> int | None:
        """It runs."""
        return None
