"""What a start costs: the same arm cold and forked from a preloaded process, in turns, waited for in the same way.

    python -m benchmarks.starts [PAIRS] [SUITE] [ARM]

Printed are the seconds of each, and the median of the pairs' ratios with its 95% bootstrap interval.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.stats import bootstrap

from draftbench.drafts.api import discover
from draftbench.harness.host.provenance import has_gpu
from draftbench.harness.runtime.fleet import SglangFleet, find_fleet
from draftbench.harness.suite import load_suite


def start_s(arms: SglangFleet, name: str) -> float:
    """Seconds from asking for an engine until it is ready; it is ended again."""
    began = time.monotonic()
    engine = arms.start(name)
    took = time.monotonic() - began
    engine.stop()
    return took


def main(num_pairs: int, suite: Path, name: str) -> None:
    """Print the pairs and their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        cold = find_fleet(load_suite(suite), discover(), suite.parent, Path(folder), has_gpu())
        began = time.monotonic()
        forked = cold.forking(sys.exit)
        print(f"preloaded after {time.monotonic() - began:.2f} s")
        ratios = []
        for pair in range(num_pairs):
            order = (cold, forked) if pair % 2 else (forked, cold)
            found = {arms is forked: start_s(arms, name) for arms in order}
            ratios.append(found[True] / found[False])
            print(f"forked {found[True]:.2f} s, cold {found[False]:.2f} s", flush=True)
    interval = bootstrap(
        (np.array(ratios),), np.median, random_state=np.random.default_rng(0), method="percentile"
    ).confidence_interval
    print(f"forked over cold: {np.median(ratios):.3f} [{interval.low:.3f}, {interval.high:.3f}], {num_pairs} pairs")


if __name__ == "__main__":
    words = [*sys.argv[1:], *("6", "suites/quickstart.yaml", "vanilla")[len(sys.argv) - 1 :]]
    main(int(words[0]), Path(words[1]), words[2])
