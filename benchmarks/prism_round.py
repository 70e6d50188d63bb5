"""What a round of PRISM costs at 1, 2 and 3 modules, against EAGLE's round at the same tree, in one run, in turns.

    python -m benchmarks.prism_round                                     the embedded target, batch 1
    python -m benchmarks.prism_round --shape llama3-8b --vanilla --batch 1 4 16 64 --blocks 8 --out runs/round
    python -m benchmarks.prism_round --layers --margin 0.05              on three layers, against EAGLE-3's round

On the embedded target all modules hold the weights of the EAGLE draft, so that every arm drafts and accepts the same
and only the machinery differs. At another shape the weights are random and every arm's acceptance is simulated alike;
so it is with --layers, where PRISM reads three layers of the target and is held against EAGLE-3 with the target's whole
vocabulary, both with weights of zero.
Printed are medians of the blocks' ratios with 95% bootstrap intervals (a shared machine has long tails), and where a
round's time goes. PRISM's claim is that the intervals lie within 1 ± the margin. With a vanilla arm also c, what a
round costs in vanilla's steps, and both beside the time in which the device reads the target's weights once.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy.stats import bootstrap
from tabulate import tabulate

from benchmarks.shapes import SHAPES, write_eagle, write_eagle3, write_prism, write_target
from benchmarks.suite_run import run_suite
from draftbench.drafts.layout import default_layers
from draftbench.harness.metrics.phases import round_split
from draftbench.harness.models.find import EMBEDDED, num_parameters
from draftbench.harness.records import CellRecord, PhaseTimes, RequestRecord

MAPS = {1: [0, 0, 0, 0, 0], 2: [0, 1, 1, 1, 1], 3: [0, 1, 2, 2, 2]}
TREE = {"num_steps": 5, "topk": 4, "num_draft_tokens": 16}
ALPHAS = [0.8, 0.75, 0.7, 0.65, 0.6]
"""What every arm accepts at a shape with random weights; the same for all, so it favours none."""
WAVES = 2
"""Requests that follow one another in a cell, for each that runs at once."""
MARGIN = 0.01
"""What counts as equal."""
WEIGHT_BYTES = 2
BYTES_PER_S = {"NVIDIA H200": 4.3e12, "NVIDIA H100 80GB HBM3": 3.0e12}
"""What a copy on the device was seen to move, read and written together: one H200, one H100."""
Blocks = Mapping[tuple[int, int], float]
"""A value of each launch and block."""


@dataclass(frozen=True)
class Ratio:
    """One arm over another at one batch size: the blocks' median with its 95% bootstrap interval."""

    num_blocks: int
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def within(self, margin: float) -> bool:
        """Whether the interval lies within 1 ± the margin."""
        return self.low >= 1 - margin and self.high <= 1 + margin


def write_models(shape: str | None, modules: Sequence[int], folder: Path, layers: bool = False) -> None:
    """The folders that the suite names: drafts for the embedded target, or target and drafts of a shape."""
    if shape is not None:
        config = write_target(shape, folder / "target")
        (write_eagle3 if layers else write_eagle)(config, folder / ("eagle3" if layers else "eagle"))
        read = default_layers(config["num_hidden_layers"]) if layers else ()
        for count in modules:
            write_prism(config, MAPS[count], folder / f"prism-{count}", read)
        return
    if layers:
        config = json.loads((EMBEDDED / "tiny" / "target" / "config.json").read_text())
        write_eagle3(config, folder / "eagle3")
        for count in modules:
            write_prism(config, MAPS[count], folder / f"prism-{count}", default_layers(config["num_hidden_layers"]))
        return
    from safetensors.torch import load_file, save_file

    source = EMBEDDED / "tiny" / "hass"
    config = json.loads((source / "config.json").read_text())
    weights = {name: tensor for name, tensor in load_file(source / "model.safetensors").items() if "embed" not in name}
    for count in modules:
        place = folder / f"prism-{count}"
        place.mkdir(parents=True, exist_ok=True)
        tensors = {
            f"prism_modules.{module}.{key.replace('layers.0', 'layer')}": tensor.clone()
            for module in range(count)
            for key, tensor in weights.items()
        }
        save_file(tensors, place / "model.safetensors")
        (place / "config.json").write_text(json.dumps({**config, "step_to_module": MAPS[count]}))


def new_suite(
    shape: str | None,
    modules: Sequence[int],
    batches: Sequence[int],
    blocks: int,
    tokens: int,
    vanilla: bool = False,
    layers: bool = False,
) -> Any:
    """The suite as YAML has it; its paths are relative to the models' folder."""
    eagle = "eagle3" if layers else "eagle"
    simulated = {} if shape is None and not layers else {"simulated_acceptance": ALPHAS}
    place = "tiny/hass" if shape is None and not layers else f"./{eagle}"
    drafts = [(eagle, eagle, place), *((f"prism-{count}", "prism", f"prism-{count}") for count in modules)]
    prompts: dict[str, Any] = {"source": "synthetic", "family": "dialogue"}
    if shape is not None:
        prompts = {"source": "random", "prompt_tokens": min(64, tokens)}
    return {
        "version": 1,
        "name": "prism-round",
        "target": {"model": "tiny", "dtype": "float32"}
        if shape is None
        else {"model": "target", "dtype": "bfloat16", "random_weights": True},
        "arms": [
            *([{"name": "vanilla", "architecture": "vanilla"}] if vanilla else []),
            *(
                {"name": name, "architecture": kind, "checkpoint": place, **TREE, **simulated}
                for name, kind, place in drafts
            ),
        ],
        "workloads": [{"name": "prompts", "num_prompts": WAVES * max(batches), **prompts}],
        "sampling": {"temperature": 0, "max_tokens": tokens, "seed": 0},
        "load": [{"concurrency": batch, "num_prompts": WAVES * batch} for batch in batches],
        "blocks": blocks,
        # A request holds its prompt, its output, and the slots of two rounds' trees.
        "max_total_tokens": max(4096, max(batches) * (2 * tokens + 128)),
    }


def read_phases(cells: Path) -> dict[tuple[str, int], dict[tuple[int, int], PhaseTimes]]:
    """Phase times by arm and batch size, and in them by launch and block."""
    found: dict[tuple[str, int], dict[tuple[int, int], PhaseTimes]] = defaultdict(dict)
    for line in cells.read_text().splitlines():
        sealed = CellRecord.model_validate_json(line)
        cell = sealed.cell
        if sealed.phases is not None and sealed.error is None and cell.concurrency is not None:
            found[(cell.arm, cell.concurrency)][(cell.launch, cell.block)] = sealed.phases
    return found


def read_gaps(run: Path) -> dict[tuple[str, int], dict[tuple[int, int], float]]:
    """Median nanoseconds between two chunks of a request: a decode step, or a round; keys as for phases.

    The median, since at more than one request others' prefills come between some steps. Cells cut short are left out.
    """
    cells = (CellRecord.model_validate_json(line) for line in (run / "cells.jsonl").read_text().splitlines())
    whole = {sealed.cell.slug for sealed in cells if sealed.error is None}
    gaps: dict[tuple[str, int], dict[tuple[int, int], list[int]]] = defaultdict(lambda: defaultdict(list))
    for line in (run / "requests.jsonl").read_text().splitlines():
        request = RequestRecord.model_validate_json(line)
        cell = request.cell
        if request.error is None and cell.concurrency is not None and cell.slug in whole:
            found = gaps[(cell.arm, cell.concurrency)][(cell.launch, cell.block)]
            found.extend(later.at_ns - chunk.at_ns for chunk, later in pairwise(request.chunks))
    return {arm: {block: float(np.median(g)) for block, g in blocks.items() if g} for arm, blocks in gaps.items()}


def ratio(ours: Blocks, theirs: Blocks) -> Ratio | None:
    """One arm over the other, block by block; None with fewer than two blocks in common."""
    ratios = np.array([ours[block] / theirs[block] for block in ours if block in theirs])
    if len(ratios) < 2:
        return None
    found = bootstrap((ratios,), np.median, random_state=np.random.default_rng(0), method="percentile")
    low, high = (float(end) for end in found.confidence_interval)
    return Ratio(len(ratios), float(np.median(ratios)), low, high)


def round_ns(times: PhaseTimes) -> float:
    """Mean time of a round."""
    return times.round_ns / times.num_rounds


def reading_ms(shape: str | None, gpu: str) -> float | None:
    """Milliseconds in which a device reads the weights of a shape once; None where its bandwidth was not seen."""
    if shape is None or gpu not in BYTES_PER_S:
        return None
    return 1000 * WEIGHT_BYTES * num_parameters(SHAPES[shape]) / BYTES_PER_S[gpu]


def tables(run: Path, margin: float, shape: str | None = None) -> str:
    """PRISM's rounds over EAGLE's, where each round goes, and what it costs in vanilla's steps if there are any."""
    phases, gaps = read_phases(run / "cells.jsonl"), read_gaps(run)
    manifest = run / "manifest.json"
    gpu = json.loads(manifest.read_text())["host"]["gpu"] if manifest.exists() else "none"
    read_ms = reading_ms(shape, gpu)
    ratios, splits, costs = [], [], []
    for (arm, batch), blocks in sorted(phases.items(), key=lambda item: (item[0][1], item[0][0])):
        split = round_split(list(blocks.values()))
        rounds = {block: round_ns(times) for block, times in blocks.items()}
        mean_ms = float(np.mean(list(rounds.values()))) / 1e6
        splits.append([arm, batch, f"{mean_ms:.3f}", *(f"{share:.1%}" for share in (astuple(split) if split else ()))])
        base = next((name for name in ("eagle3", "eagle") if (name, batch) in phases), "eagle")
        eagle = {block: round_ns(times) for block, times in phases.get((base, batch), {}).items()}
        found = ratio(rounds, eagle) if arm != base else None
        if found is not None:
            verdict = f"within {margin:.0%}" if found.within(margin) else f"within {margin:.0%} not shown"
            ratios.append([arm, batch, found.num_blocks, found, verdict])
        vanilla = gaps.get(("vanilla", batch), {})
        cost = ratio(gaps.get((arm, batch), {}), vanilla)
        if cost is not None:
            step_ms = float(np.median(list(vanilla.values()))) / 1e6
            verify_ms = (split.verify if split else 0) * mean_ms
            reads = [f"{ms / read_ms:.2f}" if read_ms else "–" for ms in (step_ms, verify_ms)]
            costs.append([arm, batch, f"{step_ms:.3f}", cost, *reads])
    other = "EAGLE-3's" if any(arm == "eagle3" for arm, _ in phases) else "EAGLE's"
    heads = ("arm", "batch", "blocks", f"round over {other} [95%]", "verdict")
    parts = ("arm", "batch", "round ms", "draft", "verify", "extend", "other")
    found_tables = [tabulate(ratios, heads, "github"), tabulate(splits, parts, "github", disable_numparse=True)]
    if costs:
        against = ("arm", "batch", "vanilla's step ms", "c [95%]", "step ÷ reading", "verify ÷ reading")
        found_tables.append(tabulate(costs, against, "github", disable_numparse=True))
        found_tables.append("c: median time between a request's chunks over vanilla's.")
        if read_ms:
            found_tables[-1] += f" Reading: the weights once, {read_ms:.2f} ms at {BYTES_PER_S[gpu] / 1e12:.1f} TB/s."
    return "\n\n".join(found_tables) + "\n"


def run(args: argparse.Namespace, folder: Path) -> int:
    """Run the suite in a folder and print the tables of what was measured; bench.py's exit code."""
    write_models(args.shape, args.modules, folder, args.layers)
    suite = folder / "prism-round.yaml"
    content = new_suite(args.shape, args.modules, args.batch, args.blocks, args.tokens, args.vanilla, args.layers)
    suite.write_text(yaml.safe_dump(content, sort_keys=False))
    code = run_suite(suite, folder / "run")
    if (folder / "run" / "cells.jsonl").exists():
        found = tables(folder / "run", args.margin, args.shape)
        (folder / "rounds.md").write_text(found)
        print(found)
    return code


def main() -> int:
    """Read the arguments and run, in a folder that is kept or a temporary one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=list(SHAPES), help="of a target with random weights; left out: the embedded")
    parser.add_argument("--modules", type=int, nargs="+", choices=list(MAPS), default=list(MAPS))
    parser.add_argument("--batch", type=int, nargs="+", default=[1], help="requests at once")
    parser.add_argument("--blocks", type=int, default=300)
    parser.add_argument("--tokens", type=int, default=96, help="of each output")
    parser.add_argument("--margin", type=float, default=MARGIN, help="what counts as equal")
    parser.add_argument(
        "--vanilla", action="store_true", help="also run vanilla, and print what a round costs in its steps"
    )
    parser.add_argument("--layers", action="store_true", help="three layers of the target, against EAGLE-3")
    parser.add_argument("--out", type=Path, help="folder that keeps models, run and tables, and can be gone on with")
    args = parser.parse_args()
    if args.out is not None:
        return run(args, args.out)
    with tempfile.TemporaryDirectory() as temporary:
        return run(args, Path(temporary))


if __name__ == "__main__":
    sys.exit(main())
