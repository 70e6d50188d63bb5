"""What a run on a GPU shows besides its report: passes in CUDA graphs, and energy counters against sampled power.

    python -m benchmarks.gpu_findings graphs RUN
    python -m benchmarks.gpu_findings energy RUN

On a host without a GPU both say that there is nothing to see.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

from tabulate import tabulate

from harness.metrics.blocks import graph_shares
from harness.records import CellRecord, GraphUse, WindowRecord
from harness.units import seconds

EXPECTED = {"eagle": ("target", "draft", "extend"), "prism": ("target", "draft", "extend")}
"""Phases that must run in graphs, by architecture; of any other the target's passes alone: Medusa's heads and proposers
have no passes of their own to capture."""
LEAST_SHARE = 0.95
"""The first passes after a start may run without."""
AGREE = 0.1
"""How far a counter's mean power may be from the sampled one."""


def missing_records(run: Path, *names: str) -> bool:
    """Say which records a run has not come to; True if there is one."""
    missing = [name for name in names if not (run / name).exists()]
    if missing:
        print(f"{run} has no {', '.join(missing)}: no cell was measured; its log tells why")
    return bool(missing)


def graphs(run: Path) -> int:
    """Captured batch sizes and shares of passes by arm; exit code 1 if a phase that should run in graphs does not."""
    if missing_records(run, "manifest.json", "cells.jsonl"):
        return 1
    manifest = json.loads((run / "manifest.json").read_text())
    uses: dict[str, list[GraphUse]] = defaultdict(list)
    for line in (run / "cells.jsonl").read_text().splitlines():
        sealed = CellRecord.model_validate_json(line)
        if sealed.graphs is not None:
            uses[sealed.cell.arm].append(sealed.graphs)
    lines, missing = [], []
    for arm in manifest["suite"]["arms"]:
        name = arm["name"]
        captured = manifest.get("engines", {}).get(name, {}).get("cuda_graphs") or {}
        shares = graph_shares(uses[name]) if uses[name] else {}
        for phase in EXPECTED.get(arm["architecture"], ("target",)):
            share = shares.get(phase)
            lines.append([name, phase, ", ".join(map(str, captured.get(phase, []))) or "none", share])
            if share is None or share < LEAST_SHARE:
                missing.append(f"{name} {phase}")
    print(tabulate(lines, ("arm", "phase", "captured batch sizes", "share in graphs"), "github", floatfmt=".2f"))
    if not any(uses.values()):
        print("no engine captured a CUDA graph: this was no run on a GPU, or graphs were off")
        return 1 if manifest.get("host", {}).get("gpu", "none") != "none" else 0
    if missing:
        print("outside of graphs: " + ", ".join(missing))
    return 1 if missing else 0


def energy(run: Path) -> int:
    """Counter against sampled power of every cell; exit code 1 if they are further apart than allowed."""
    if missing_records(run, "telemetry.jsonl"):
        return 1
    lines, apart = [], 0
    for line in (run / "telemetry.jsonl").read_text().splitlines():
        window = WindowRecord.model_validate_json(line)
        lasted_s = seconds(window.finished_ns - window.started_ns)
        for device in window.devices:
            if device.kind != "gpu":
                continue
            if device.energy_j is None or device.mean_power_w is None:
                lines.append([window.arm, device.name, lasted_s, None, None, str(device.reasons)])
                apart += 1
                continue
            counted_w = device.energy_j / lasted_s
            off = counted_w / device.mean_power_w - 1
            apart += abs(off) > AGREE
            lines.append([window.arm, device.name, lasted_s, counted_w, device.mean_power_w, f"{off:+.1%}"])
    if not lines:
        print("no window of a GPU: nothing to compare")
        return 0
    heads = ("arm", "GPU", "seconds", "W by counter", "W sampled", "difference")
    print(tabulate(lines, heads, "github", floatfmt=".1f"))
    return 1 if apart else 0


if __name__ == "__main__":
    sys.exit({"graphs": graphs, "energy": energy}[sys.argv[1]](Path(sys.argv[2])))
