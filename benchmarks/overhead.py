"""What recorder and telemetry cost: the same request to one engine with and without both, in turns.

The engine's recorder is switched by a plugin of this benchmark (`switch/`), request by request, so that no engine is
compared with another; telemetry watches the recorded requests alone. Printed is the median of the pairs' throughput
ratios with its 95% bootstrap interval. Aim: at most 1% of throughput.

python benchmarks/overhead.py [PAIRS]
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path
from statistics import fmean

import numpy as np
from scipy.stats import bootstrap

from draftbench.drafts.api import discover
from draftbench.harness.engine import Engine
from draftbench.harness.host.provenance import has_gpu
from draftbench.harness.load.generator import RoundBook, run_closed_loop
from draftbench.harness.load.requests import Prompt
from draftbench.harness.metrics.throughput import output_tokens_per_s
from draftbench.harness.models.find import EMBEDDED
from draftbench.harness.records import CellKey, RequestRecord
from draftbench.harness.runtime.fleet import find_fleet
from draftbench.harness.suite import load_suite
from draftbench.harness.suite.device_arguments import gpus_in_use
from draftbench.harness.telemetry.sampler import Sampler, open_sampler
from draftbench.harness.telemetry.window_records import WindowRecord
from draftbench.harness.units import seconds
from draftbench.harness.workloads.render import ChatRenderer

ARM, TOKENS, PROMPT = "hass", 128, "Work out 345 + 567 + 891."
SWITCH = Path(__file__).parent / "switch"
WARM_UP_PAIRS = 10


def tokens_per_s(engine: Engine, prompt: Prompt, sampler: Sampler | None, windows: list[WindowRecord]) -> float:
    """One request's throughput, recorded and watched if a sampler is given."""
    name = "unrecorded" if sampler is None else "recorded"
    cell = CellKey(launch=0, block=0, arm=ARM, workload=name, concurrency=1)
    records: list[RequestRecord] = []
    sampling = {"temperature": 0.0, "ignore_eos": True}
    if sampler is not None:
        assert engine.pid is not None, "it is ours"
        sampler.begin(engine.pid)
    asyncio.run(run_closed_loop(engine, cell, [prompt], sampling, RoundBook(engine), records.append))
    if sampler is not None:
        windows.append(sampler.end(0, ARM, cell))
    assert bool(records[0].rounds) == (sampler is not None), "the switch did not work"
    found = output_tokens_per_s(records)
    assert found is not None, records[0].error
    return found


def main(num_pairs: int) -> None:
    """Print the throughput ratio with its interval, and the processor time of the sampler."""
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(SWITCH), os.environ.get("PYTHONPATH"))))
    suite = load_suite(Path("suites/quickstart.yaml"))
    ids = ChatRenderer(EMBEDDED / "tiny" / "target").render([{"role": "user", "content": PROMPT}])
    prompt = Prompt("w", "p", 0, None, ids, "h", TOKENS)
    windows: list[WindowRecord] = []
    ratios: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        engine = find_fleet(suite, discover(), Path("suites"), Path(folder), has_gpu()).start(ARM)
        try:
            with open_sampler(suite.telemetry_period_s, gpus_in_use(suite)) as sampler:
                for pair in range(-WARM_UP_PAIRS, num_pairs):
                    order = (sampler, None) if pair % 2 else (None, sampler)
                    found = {each: tokens_per_s(engine, prompt, each, windows) for each in order}
                    if pair >= 0:
                        ratios.append(found[sampler] / found[None])
        finally:
            engine.stop()
    interval = bootstrap(
        (np.array(ratios),), np.median, random_state=np.random.default_rng(0), method="percentile"
    ).confidence_interval
    share = fmean(window.telemetry_cpu_s / seconds(window.watched_ns) for window in windows)
    print(f"throughput with recorder and telemetry over without: {np.median(ratios):.4f}", end=" ")
    print(f"[{interval.low:.4f}, {interval.high:.4f}], {num_pairs} pairs; the sampler took {share:.2%} of one core")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
