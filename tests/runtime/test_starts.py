"""Engines that are forked from a preloaded process are those that a shell would start, and go when they should."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from draftbench.drafts.api import discover
from draftbench.harness.errors import EngineError
from draftbench.harness.host.provenance import has_gpu
from draftbench.harness.load.requests import Prompt
from draftbench.harness.models.find import EMBEDDED
from draftbench.harness.records import CellKey, RequestRecord
from draftbench.harness.run.send import run_loop
from draftbench.harness.runtime import preload
from draftbench.harness.runtime.arguments import PER_PROCESS_ARGUMENTS
from draftbench.harness.runtime.fleet import SglangFleet, find_fleet
from draftbench.harness.runtime.launch import SglangEngine
from draftbench.harness.suite import Suite, load_suite
from draftbench.harness.workloads.render import ChatRenderer

ARM = "hass"
IDLE_BYTES = 1e9
"""What the preloaded process may take while it waits."""


@pytest.fixture(scope="module")
def quickstart() -> Suite:
    return load_suite(Path("suites/quickstart.yaml"))


@pytest.fixture(scope="module")
def engines(quickstart: Suite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, SglangEngine]]:
    """The same arm, started both ways."""
    found: dict[str, SglangEngine] = {}
    try:
        for way in ("cold", "forked"):
            arms = find_fleet(quickstart, discover(), Path("suites"), tmp_path_factory.mktemp(way), has_gpu())
            found[way] = (arms if way == "cold" else arms.forking(pytest.fail)).start(ARM)
        yield found
    finally:
        for engine in found.values():
            engine.stop()


def outputs(engine: SglangEngine) -> list[tuple[tuple[int, ...], list[int]]]:
    """Output ids of two requests, and the accepted drafts of each of their rounds."""
    renderer = ChatRenderer(EMBEDDED / "tiny" / "target")
    asked = [
        Prompt("w", text, 0, None, renderer.render([{"role": "user", "content": text}]), "h", 64)
        for text in ("Work out 345 + 567.", "Book a table for two.")
    ]
    records: list[RequestRecord] = []
    cell = CellKey(launch=0, block=0, arm=ARM, workload="w", concurrency=1)
    run_loop(engine, cell, asked, {"temperature": 0.0}, records.append)
    return [(r.output_ids, [each.num_accepted_drafts for each in r.rounds or ()]) for r in records]


def test_both_ways_give_the_same_receipt(engines):
    """All that an engine says of itself but its ports."""

    def said(engine: SglangEngine) -> dict[str, Any]:
        receipt = engine.receipt.model_dump()
        arguments = receipt.pop("server_args")
        assert len(arguments) > 300
        paths = ("speculative_draft_model_path", "speculative_draft_model_revision")
        return receipt | {k: v for k, v in arguments.items() if k not in PER_PROCESS_ARGUMENTS and k not in paths}

    assert said(engines["forked"]) == said(engines["cold"])


def test_both_ways_give_the_same_outputs_round_for_round(engines):
    """Token ids and accepted drafts."""
    forked = outputs(engines["forked"])
    assert any(sum(accepted) for _, accepted in forked)
    assert forked == outputs(engines["cold"])


def test_a_child_has_its_servers_environment_and_group_but_not_its_memory():
    """SGLang's server sets variables before it starts its scheduler, and on a GPU has initialised CUDA by then."""
    code = (
        "import multiprocessing, os\n"
        "from draftbench.harness.runtime.forks import fork_children_nearby\n"
        "os.setsid()\n"
        "fork_children_nearby()\n"
        "os.environ['LATER'] = 'set by the server'\n"
        "multiprocessing.set_start_method('spawn', force=True)\n"
        "child = multiprocessing.Process(target=os.system, args=('echo $LATER $(ps -o pgid= -p $$)',))\n"
        "child.start()\n"
        "child.join()\n"
        "print(os.getpgid(0), child.exitcode)\n"
        "os._exit(0)\n"
    )
    done = subprocess.run([sys.executable, "-u", "-c", code], capture_output=True, text=True, timeout=300)
    told, own = done.stdout.splitlines()
    assert told.split()[:4] == ["set", "by", "the", "server"], done.stderr
    assert told.split()[4] == own.split()[0]
    assert own.split()[1] == "0"


def test_the_preloaded_process_is_small_while_it_waits(quickstart, tmp_path):
    """Its own pages, at most 1 GB."""
    process = find_fleet(quickstart, discover(), Path("suites"), tmp_path, has_gpu()).preload()
    process.wait_ready()
    assert psutil.Process(process._process.pid).memory_info().rss < IDLE_BYTES


def test_a_stopped_engine_leaves_nothing_behind(engines):
    """Forked or not: no process (server, fork server, scheduler, detokenizer, tracker), socket or shared memory.

    Tests that ask these engines stand above.
    """
    for engine in engines.values():
        family = [psutil.Process(engine.pid), *psutil.Process(engine.pid).children(recursive=True)]
        assert len(family) >= 3
        segments = {path for process in family for path in shared_memory_of(process)}
        assert segments
        assert engine._leftovers is not None
        temporary = engine._leftovers.folder
        assert {path.is_relative_to(temporary) for process in family for path in sockets_of(process)} == {True}
        engine.stop()
        assert engine.failure() is not None
        _, alive = psutil.wait_procs(family, timeout=60)
        assert not alive
        assert not [path for path in (*segments, temporary) if path.exists()]


def shared_memory_of(process: psutil.Process) -> set[Path]:
    """Segments that have a name still."""
    paths = {Path(mapped.path) for mapped in process.memory_maps() if mapped.path.startswith("/dev/shm/")}
    return {path for path in paths if path.exists()}


def sockets_of(process: psutil.Process) -> set[Path]:
    """Those that are bound to a file."""
    return {Path(each.laddr) for each in process.net_connections("unix") if str(each.laddr).startswith("/")}


def test_a_scheduler_that_cannot_start_ends_the_engine_and_its_log_is_shown(quickstart, tmp_path):
    """The failing child tells its server, as it does where the server is its parent."""
    arms = find_fleet(quickstart, discover(), Path("suites"), tmp_path, has_gpu()).forking(pytest.fail)
    vanilla = arms.by_name["vanilla"].model_copy(update={"engine": {"load_format": "gguf"}})
    broken = replace(arms, by_name={**arms.by_name, "vanilla": vanilla})
    with pytest.raises(EngineError, match="the last lines of"):
        broken.start("vanilla")
    assert arms.start("vanilla").stop() is None


KILLED = """
import sys, time
from pathlib import Path
from draftbench.drafts.api import discover
from draftbench.harness.runtime.fleet import find_fleet
from draftbench.harness.suite import load_suite
arms = find_fleet(load_suite(Path("suites/quickstart.yaml")), discover(), Path("suites"), Path(sys.argv[1]), False)
engine = (arms if sys.argv[2] == "cold" else arms.forking(print)).start("vanilla")
engine.rest()
print("running", flush=True)
time.sleep(100)
"""


@pytest.mark.skipif(has_gpu(), reason="starts on the CPU")
@pytest.mark.parametrize("starts", ["forked", pytest.param("cold", marks=pytest.mark.slow)])
def test_nothing_is_left_where_the_harness_is_killed(starts, tmp_path):
    """SIGKILL leaves no time to clean up, nor to wake an engine that rests."""
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path), starts], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 4
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not [each for each in alive if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


def cannot_preload(
    monkeypatch: pytest.MonkeyPatch, code: str
) -> Callable[[SglangFleet], tuple[SglangFleet, list[str]]]:
    """Arms that try to have a preloaded process which runs other code, and what was said of it."""
    monkeypatch.setattr(preload, "COMMAND", code)
    monkeypatch.setattr(preload, "_preloaded", {})

    def forking(arms: SglangFleet) -> tuple[SglangFleet, list[str]]:
        notes: list[str] = []
        return arms.forking(notes.append), notes

    return forking


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise SystemExit('no module named so')", "no module named so"),
        (
            "import sys; from multiprocessing.connection import Connection; "
            "Connection(int(sys.argv[1])).send('CUDA is initialised.')",
            "CUDA is initialised.",
        ),
    ],
)
def test_where_there_can_be_no_preloaded_process_starts_are_cold_and_it_is_said(
    quickstart, tmp_path, monkeypatch, code, said
):
    """With the reason."""
    arms = find_fleet(quickstart, discover(), Path("suites"), tmp_path, has_gpu())
    arms, notes = cannot_preload(monkeypatch, code)(arms)
    assert arms.preloaded is None
    assert "started cold" in notes[0]
    assert said in notes[0]


def test_engines_end_with_the_preloaded_process(quickstart, tmp_path):
    """One that was killed cannot tell how its servers ended; that they did is told all the same. The next engine comes
    from a new one, which later tests share: this one stands last."""
    arms = find_fleet(quickstart, discover(), Path("suites"), tmp_path, has_gpu()).forking(pytest.fail)
    engine = arms.start("vanilla")
    assert engine.failure() is None
    assert arms.preloaded is not None
    os.kill(arms.preloaded._process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while engine.failure() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "exit code -9" in (engine.failure() or "")
    engine.stop()
    again = arms.start("vanilla")
    assert again.failure() is None
    again.stop()
