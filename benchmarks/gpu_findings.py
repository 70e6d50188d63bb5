"""What a run on a GPU shows besides its report: passes in CUDA graphs, and energy counters against sampled power.

    python -m benchmarks.gpu_findings graphs RUN
    python -m benchmarks.gpu_findings energy RUN

On a host without a GPU both say that there is nothing to see; of a run that measured nothing, what is missing.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

from tabulate import tabulate

from draftbench.harness.errors import RecordError
from draftbench.harness.manifest import MANIFEST
from draftbench.harness.metrics.phases import graph_shares
from draftbench.harness.records import CellRecord, GraphUse
from draftbench.harness.store import CELLS, TELEMETRY
from draftbench.harness.telemetry.window_records import WindowRecord
from draftbench.harness.units import seconds

EXPECTED = {"eagle": ("target", "draft", "extend"), "prism": ("target", "draft", "extend")}
"""Phases that must run in graphs, by architecture; of any other the target's passes alone: Medusa's heads and proposers
have no passes of their own to capture."""
LEAST_SHARE = 0.95
"""The first passes after a start may run without."""
AGREE = 0.1
"""How far a counter's mean power may be from the sampled one."""


def graphs(run: Path) -> int:
    """Captured batch sizes and shares of passes by arm; exit code 1 if a phase that should run in graphs does not."""
    manifest = json.loads("".join(_lines(run, MANIFEST, "this is no folder of a run")))
    uses: dict[str, list[GraphUse]] = defaultdict(list)
    for line in _lines(run, CELLS, "no cell was measured"):
        sealed = CellRecord.model_validate_json(line)
        if sealed.graphs is not None:
            uses[sealed.cell.arm].append(sealed.graphs)
    lines, missing = [], []
    for arm in manifest["suite"]["arms"]:
        name = arm["name"]
        captured = manifest.get("engines", {}).get(name, {}).get("cuda_graphs") or {}
        shares = graph_shares(uses[name])
        for phase in EXPECTED.get(arm["architecture"], ("target",)):
            share = None if shares is None else getattr(shares, phase)
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
    lines, apart = [], 0
    for line in _lines(run, TELEMETRY, "no cell was measured, or the suite has telemetry_period_s: null"):
        window = WindowRecord.model_validate_json(line)
        lasted_s = seconds(window.watched_ns)
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


def _lines(run: Path, name: str, missing: str) -> list[str]:
    """A record file's lines.

    Raises:
        RecordError: it is missing or empty, and this is what that means.
    """
    path = run / name
    lines = path.read_text().splitlines() if path.exists() else []
    if not lines:
        raise RecordError(f"{path} {'is empty' if path.exists() else 'is not there'}: {missing}.")
    return lines


def main(what: str, run: str) -> int:
    """Show what is asked for; exit code 1 where it is not as it should be, or cannot be seen."""
    try:
        return {"graphs": graphs, "energy": energy}[what](Path(run))
    except RecordError as error:
        print(f"nothing to show of {what}: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
