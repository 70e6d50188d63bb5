"""Gates that a real engine makes fire: a draft that never proposes anything, a warm cache on one side, an engine that
is killed."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from draftbench.drafts import api

NAUGHTY = Path(__file__).parent / "naughty"
SUITE = """\
version: 1
name: gates
target: {model: tiny, dtype: float32}
arms:
  - {name: vanilla, architecture: vanilla}
  - {name: cold, architecture: eagle, checkpoint: tiny/hass, num_steps: 3, topk: 2, num_draft_tokens: 6,
     engine: {disable_radix_cache: true}}
  - {name: silent, architecture: naughty, num_steps: 3, topk: 1, num_draft_tokens: 4,
     options: {mischief: silent, good_rounds: 0}}
  - {name: killed, architecture: prompt_lookup, num_steps: 3, topk: 1, num_draft_tokens: 4}
workloads:
  - {name: dialogue, source: synthetic, family: dialogue, num_prompts: 2}
sampling: {temperature: 0, max_tokens: 24, seed: 0}
load: [{concurrency: 1}]
blocks: 2
prefix_cache: true
"""


def kill_at_first_sight(requests: Path, ended: threading.Event) -> None:
    """End the engine `killed` once a request of its first cell is kept."""
    while not ended.is_set() and not (requests.exists() and '"killed"' in requests.read_text()):
        time.sleep(0.02)
    for child in psutil.Process().children(recursive=True):
        # An engine is known by the file that takes its output.
        with suppress(OSError):
            if os.readlink(f"/proc/{child.pid}/fd/1").endswith("engines/killed/engine.log"):
                child.send_signal(signal.SIGKILL)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, command: Callable[..., tuple[int, str]]) -> Path:
    """The suite's run, in which one engine is killed in the middle of its first cell."""
    folder, ended = tmp_path_factory.mktemp("gates"), threading.Event()
    (folder / "gates.yaml").write_text(SUITE)
    asked = folder / "run" / "requests.jsonl"
    killer = threading.Thread(target=kill_at_first_sight, args=(asked, ended), daemon=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(NAUGHTY))
        api.installed.cache_clear()
        killer.start()
        code, output = command(str(folder / "gates.yaml"), "--out", str(folder / "run"))
        ended.set()
        killer.join()
    api.installed.cache_clear()
    assert code == 0, output
    return folder / "run"


@pytest.fixture(scope="module")
def rows(run: Path) -> dict[str, dict[str, Any]]:
    return {row["arm"]: row for row in json.loads((run / "results.json").read_text())}


@pytest.mark.parametrize(
    ("arm", "gate"), [("cold", "unequal cache"), ("silent", "silent non-speculation"), ("cold", "own settings")]
)
def test_gates_fire(rows: dict[str, dict[str, Any]], arm: str, gate: str) -> None:
    """The row says which and why; what is invalid takes part in no verdict."""
    found = {finding["gate"]: finding for finding in rows[arm]["detail"]["findings"]}
    assert gate in found
    assert not rows[arm]["valid"]
    assert rows[arm]["detail"]["against"] == {}
    assert arm not in rows["vanilla"]["detail"]["against"]


def test_an_engine_that_was_killed_fails_its_cell_alone(run: Path, rows: dict[str, dict[str, Any]]) -> None:
    """Its row names the reason; the cell that was measured before stays, and the other arms' cells are all there."""
    found = {finding["gate"] for finding in rows["killed"]["detail"]["findings"]}
    assert found & {"failed cell", "failures"}
    assert not rows["killed"]["valid"]
    cells = [json.loads(line) for line in (run / "cells.jsonl").read_text().splitlines()]
    assert len(cells) == 8
    assert rows["vanilla"]["valid"]
