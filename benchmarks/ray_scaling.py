"""How much sooner two nodes of a Ray cluster are through a suite of four launches than one of them alone.

    python -m benchmarks.ray_scaling [ROUNDS]

Both nodes are on this host's loopback interface, with a core each; run it where nothing else runs. Printed are the
seconds of the whole command each way, vanilla's passes and the report included, and their ratio, two nodes over one.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.ray_nodes import Nodes, nodes

SUITE = """\
version: 1
name: scaling
target: {model: tiny, dtype: float32}
arms:
  - {name: vanilla, architecture: vanilla}
  - {name: hass, architecture: eagle, checkpoint: tiny/hass, num_steps: 5, topk: 4, num_draft_tokens: 16}
workloads:
  - {name: dialogue, source: synthetic, family: dialogue, num_prompts: 6}
sampling: {temperature: 0, max_tokens: 96, seed: 0}
load: [{concurrency: 1}]
blocks: 4
launches: 4
"""


def measure(cluster: Nodes, folder: Path) -> float:
    """Run the suite on a cluster and verify what it left; seconds of the run."""
    suite, out = folder / "scaling.yaml", folder / "run"
    folder.mkdir(parents=True)
    suite.write_text(SUITE)
    command = [sys.executable, "bench.py", str(suite), "--on", cluster.address, "--cores", "1", "--out", str(out)]
    began = time.monotonic()
    done = subprocess.run(command, env=cluster.environment, capture_output=True, text=True)
    took_s = time.monotonic() - began
    if done.returncode != 0:
        raise RuntimeError(done.stdout + done.stderr)
    subprocess.run([sys.executable, "bench.py", "verify", str(out)], check=True, stdout=subprocess.DEVNULL)
    return took_s


def main(words: Sequence[str]) -> None:
    """One node and two, in turns."""
    rounds = int(words[0]) if words else 1
    with tempfile.TemporaryDirectory(prefix="ray-scaling-") as folder:
        for number in range(rounds):
            took_s: list[float] = []
            for count in (1, 2):
                with nodes(count) as cluster:
                    took_s.append(measure(cluster, Path(folder) / f"{number}-{count}"))
                print(f"round {number}: {count} node{'s' * (count > 1)}: {took_s[-1]:.1f} s", flush=True)
            print(f"round {number}: ratio {took_s[1] / took_s[0]:.2f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
