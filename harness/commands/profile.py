"""Write what a run's drafts accepted at every step, by workload, as a file that `simulated_acceptance` takes.

All of a draft's measured rounds are pooled, whatever the load point and block. Simulated acceptance is left out.

  bench.py profile runs/mine --out mine.json
  # in a suite: {name: prism, …, simulated_acceptance: mine.json#prism}
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from draftbench.harness.errors import HarnessError
from draftbench.harness.manifest import Manifest
from draftbench.harness.metrics.curves import acceptance_curves
from draftbench.harness.records import RequestRecord
from draftbench.harness.store import FILES, read_records
from draftbench.harness.suite.profiles import profile_text
from draftbench.harness.units import tree_text
from draftbench.reports.files import records_sha256

DEFAULT = "profile.json"


def arguments(parser: argparse.ArgumentParser) -> None:
    """A run, and where the file goes."""
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder that a run wrote")
    parser.add_argument("--out", type=Path, metavar="FILE", help=f"RUN/{DEFAULT} if left out")


def run(args: argparse.Namespace, console: Console) -> int:
    """Write the file; exit code 2 where the run measured no draft."""
    manifest = Manifest.read(args.run)
    suite = manifest.suite
    num_steps = {arm.name: arm.num_steps for arm in suite.arms if arm.num_steps and arm.simulated_acceptance is None}
    requests = read_records(
        args.run / FILES[RequestRecord], RequestRecord, lambda line: console.print(line, markup=False)
    )
    curves = acceptance_curves(requests, num_steps)
    if not curves:
        raise HarnessError(
            f"{args.run} measured no draft's acceptance; a profile needs a run with drafts that were not simulated."
        )
    trees = "; ".join(f"{arm.name} {tree_text(arm)}" for arm in suite.arms if arm.name in curves)
    temperature = f"{suite.sampling.temperature:g}"
    what = (
        f"target {suite.target.model}, {suite.target.dtype}, T={temperature}; trees (steps × branches, nodes): {trees}"
    )
    source = f"run {suite.name}, records {records_sha256(args.run)[:16]}"
    out = args.out or args.run / DEFAULT
    out.write_text(profile_text(source, what, curves))
    console.print(f"profile: {out}")
    return 0
