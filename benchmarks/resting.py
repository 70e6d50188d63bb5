"""What engines that wait cost the one that is measured, on a host without a GPU: awake, or resting as in a run.

    python -m benchmarks.resting [ENGINES] [BLOCKS]          20 engines of the embedded target, 24 blocks each way

One engine answers the same prompts again and again while the others are awake or rest, in an order that changes from
block to block. Printed are its output tokens per second, awake over resting: the median of the blocks' ratios with a
95% bootstrap interval; and how much of a core one of them takes at rest and awake.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
from scipy.stats import bootstrap

from draftbench.drafts.api import discover
from draftbench.harness.engine import Engine
from draftbench.harness.load.requests import Prompt
from draftbench.harness.metrics.throughput import output_tokens_per_s
from draftbench.harness.records import CellKey, RequestRecord
from draftbench.harness.run.rendered import prompts_alone
from draftbench.harness.run.send import run_loop
from draftbench.harness.runtime.fleet import find_fleet
from draftbench.harness.suite import Suite
from draftbench.harness.workloads.render import ChatRenderer

LOOK_S = 10.0


def new_suite(num_engines: int) -> Suite:
    """Vanilla, as often as asked."""
    return Suite.model_validate(
        {
            "version": 1,
            "name": "resting",
            "target": {"model": "tiny", "dtype": "float32"},
            "arms": tuple({"name": f"engine-{n}", "architecture": "vanilla"} for n in range(num_engines)),
            "workloads": ({"name": "dialogue", "source": "synthetic", "family": "dialogue", "num_prompts": 2},),
            "sampling": {"temperature": 0, "max_tokens": 64, "seed": 0},
            "load": ({"concurrency": 1},),
            "blocks": 1,
        }
    )


def tokens_per_s(engine: Engine, asked: Sequence[Prompt]) -> float:
    """Of a cell that holds these prompts, one after the other."""
    records: list[RequestRecord] = []
    cell = CellKey(launch=0, block=0, arm="engine-0", workload="dialogue", concurrency=1)
    run_loop(engine, cell, asked, {"temperature": 0.0, "ignore_eos": True}, records.append)
    found = output_tokens_per_s(records)
    assert found is not None
    return found


def keep(engines: Sequence[Engine], awake: bool) -> None:
    """Let engines run, or rest."""
    for engine in engines:
        engine.wake() if awake else engine.rest()


def core_share(engine: Engine) -> float:
    """How much of a core an engine's processes take while nobody asks it."""
    assert engine.pid is not None
    root = psutil.Process(engine.pid)
    family = [root, *root.children(recursive=True)]

    def spent_s() -> float:
        return sum(sum(process.cpu_times()[:2]) for process in family)

    before = spent_s()
    time.sleep(LOOK_S)
    return (spent_s() - before) / LOOK_S


def main(num_engines: int = 20, num_blocks: int = 24) -> None:
    """Measure and print."""
    suite, ratios = new_suite(num_engines), list[float]()
    with tempfile.TemporaryDirectory() as folder:
        arms = find_fleet(suite, discover(), Path(), Path(folder), has_gpu=False).forking(print)
        (asked,) = prompts_alone(suite, ChatRenderer(arms.target, suite.rendering), arms.context_tokens).values()
        with arms.pool(lambda name: None) as pool:
            pool.start_all(arms.by_name)
            measured, *others = map(pool.get, arms.by_name)
            if measured.failure() is not None:
                raise SystemExit(f"there is no room for {num_engines} engines side by side; name a smaller number.")
            shares = []
            for wake in (True, False):
                keep(others, wake)
                shares.append(core_share(others[0]))
            print(f"of a core: {shares[0]:.3f} awake, {shares[1]:.3f} resting", flush=True)
            measured.wake()
            tokens_per_s(measured, asked)
            for block in range(num_blocks):
                found = {}
                for wake in (True, False) if block % 2 else (False, True):
                    keep(others, wake)
                    found[wake] = tokens_per_s(measured, asked)
                ratios.append(found[True] / found[False])
                told = f"{found[True]:.1f} tokens/s awake, {found[False]:.1f} resting"
                print(f"block {block + 1}: {told}, median ratio {np.median(ratios):.3f}", flush=True)
    interval = bootstrap((ratios,), np.median, random_state=np.random.default_rng(0)).confidence_interval
    print(
        f"{len(others)} engines awake over resting: {np.median(ratios):.3f} [{interval.low:.3f}, {interval.high:.3f}]"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
