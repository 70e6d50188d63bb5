"""The page of a training study from what `bench.py train` left: ledgers, accepted drafts, curves.

What is computed is `harness.metrics.trained`'s.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tabulate import tabulate

from draftbench.harness.errors import RecordError
from draftbench.harness.metrics.row import Row
from draftbench.harness.metrics.trained import Trained, by_size, interval, mean_length, ratio, step_rates
from draftbench.harness.models.fairness import LedgerFacts
from draftbench.harness.units import MISSING
from draftbench.reports.files import read_run
from draftbench.reports.study_layers import layers_section
from draftbench.reports.study_questions import answers
from draftbench.reports.table import speedup_text

DIRECTIONS = (("eagle", "hass"), ("hass", "prism"), ("stacked-2", "prism"), ("eagle", "prism"))
"""What PRISM's paper found: the second of each pair accepts more (arXiv 2602.01762, tables 4 and 6)."""
TITLE = "Drafts for one target, trained alike"
LEDGER, ACCEPTANCE, CURVE = "training.json", "acceptance.jsonl", "loss.jsonl"


def read_trained(folder: Path) -> Trained:
    """One draft's folder.

    Raises:
        RecordError: its ledger or its accepted drafts are missing or damaged.
    """
    try:
        ledger = json.loads((folder / LEDGER).read_text())
        lines = [json.loads(line) for line in (folder / ACCEPTANCE).read_text().splitlines()]
        most = max(max(line["accepted"], default=0) for line in lines)
        return Trained(
            ledger["draft"],
            ledger["budget"]["seed"],
            ledger,
            tuple(line["group"] for line in lines),
            np.array([line["tokens"] for line in lines]),
            np.array([len(line["accepted"]) for line in lines]),
            sum(np.bincount(line["accepted"], minlength=most + 1) for line in lines),  # type: ignore[arg-type]
        )
    except (OSError, ValueError, KeyError) as error:
        raise RecordError(f"{folder}: no trained draft is read from it: {error!r}.") from error


def acceptance_table(drafts: Mapping[str, Sequence[Trained]]) -> str:
    """A line for each draft: seeds, acceptance length, α_k."""
    rows = []
    for name, seeds in sorted(drafts.items(), key=lambda item: -mean_length(item[1])):
        low, high = interval(seeds)
        each = ", ".join(f"{one.length:.2f}" for one in seeds)
        rates = " ".join(f"{rate:.2f}" for rate in step_rates(seeds))
        rows.append((name, len(seeds), f"{mean_length(seeds):.2f} [{low:.2f}, {high:.2f}]", each, rates))
    return str(tabulate(rows, ("draft", "seeds", "acceptance length [95%]", "by seed", "α of steps 1, 2, …"), "github"))


def kinds_table(drafts: Mapping[str, Sequence[Trained]]) -> str:
    """Acceptance length by kind of prompt."""
    kinds = list(dict.fromkeys(kind for seeds in drafts.values() for kind in seeds[0].kinds))
    rows = []
    for name, seeds in drafts.items():
        own = np.array(seeds[0].kinds)
        sums = [
            (sum(e.tokens[own == k].sum() for e in seeds), sum(e.rounds[own == k].sum() for e in seeds)) for k in kinds
        ]
        rows.append((name, *(f"{tokens / rounds:.2f}" if rounds else MISSING for tokens, rounds in sums)))
    return str(tabulate(rows, ("draft", *kinds), "github", disable_numparse=True))


def fairness_table(drafts: Mapping[str, Sequence[Trained]]) -> str:
    """What each was trained with, from its first seed's ledger."""
    rows = []
    for name, seeds in drafts.items():
        ledger = seeds[0].ledger
        told = LedgerFacts.of(ledger)
        losses = ledger["validation_losses"]
        tried = ", ".join(f"{one['rate']:g}" for one in ledger["learning_rates"])
        rows.append(
            (
                name, (told.corpus_sha256 or MISSING)[:8], f"{ledger['data']['num_samples']:,}", f"{told.tokens:,}",
                f"{told.steps:,}", f"{told.flops or 0:.2e}", f"{told.parameters:,}", f"{told.active_parameters:,}",
                f"{told.learning_rate:g} of {tried}", f"{losses[-1][1]:.3f}" if losses else MISSING,
                f"{ledger['wall_s']:.0f}",
            )
        )  # fmt: skip
    heads = (
        "draft", "corpus", "samples", "tokens", "steps", "FLOPs", "trained", "active a step", "learning rate",
        "last validation loss", "wall s",
    )  # fmt: skip
    return str(tabulate(rows, heads, "github", disable_numparse=True))


def directions(drafts: Mapping[str, Sequence[Trained]]) -> str:
    """The paper's direction beside what was found."""
    rows = []
    for below, above in DIRECTIONS:
        if below not in drafts or above not in drafts:
            rows.append((f"{below} < {above}", MISSING, MISSING, "not trained"))
            continue
        found, low, high = ratio(drafts[above], drafts[below])
        said = "seen" if low > 1 else "the opposite is seen" if high < 1 else "not shown"
        seeds = f"{len(drafts[below])}, {len(drafts[above])}"
        rows.append((f"{below} < {above}", f"{found:.3f} [{low:.3f}, {high:.3f}]", seeds, said))
    return str(tabulate(rows, ("paper's direction", "ratio of acceptance lengths [95%]", "seeds", "here"), "github"))


def sizes_table(sizes: Mapping[str, Sequence[tuple[int, Sequence[Trained]]]]) -> str:
    """Acceptance length against the number of samples, one seed, the same tokens."""
    counts = sorted({count for own in sizes.values() for count, _ in own})
    rows = []
    for family, own in sizes.items():
        found = {count: (mean_length(seeds), interval(seeds)) for count, seeds in own}
        cells = [
            f"{f[0]:.2f} [{f[1][0]:.2f}, {f[1][1]:.2f}]" if (f := found.get(count)) else MISSING for count in counts
        ]
        rows.append((family, *cells))
    return str(tabulate(rows, ("draft", *(f"{count:,} samples" for count in counts)), "github"))


def speed_table(rows: Sequence[Row]) -> str:
    """Speedup over vanilla by arm and workload, and what a round costs in vanilla's steps."""
    workloads = list(dict.fromkeys(row.workload for row in rows))
    found: dict[str, dict[str, Row]] = defaultdict(dict)
    for row in rows:
        if not row.is_baseline:
            found[row.arm][row.workload] = row
    lines = []
    for arm, own in found.items():
        costs = [row.step_cost_ratio for row in own.values() if row.valid and row.step_cost_ratio is not None]
        cost = " to ".join(dict.fromkeys((f"{min(costs):.2f}", f"{max(costs):.2f}"))) if costs else MISSING
        lines.append((arm, *(_speed(own.get(workload)) for workload in workloads), cost))
    return str(tabulate(lines, ("draft", *workloads, "round, in vanilla's steps"), "github"))


def _speed(row: Row | None) -> str:
    if row is None:
        return MISSING
    return speedup_text(row) if row.valid else f"~~{speedup_text(row)}~~"


def page(
    drafts: Mapping[str, Sequence[Trained]],
    remarks: str,
    title: str,
    speeds: Sequence[Row] = (),
    report: str | None = None,
) -> str:
    """The study in markdown.

    Args:
        speeds: of a run with the drafts, whose report is at the path `report`.
    """
    sizes = by_size(drafts)
    smaller = {f"{family}-{count}" for family, own in sizes.items() for count, _ in own}
    main = {name: seeds for name, seeds in drafts.items() if name not in smaller}
    first = next(iter(main.values()))[0].ledger
    tree, budget = first["heldout_acceptance"]["tree"]["size"], first["budget"]
    amounts = sorted({seeds[0].ledger["budget"]["amount"] for seeds in main.values()})
    spent = " to ".join(f"{amount:,.0f}" for amount in (amounts[:1] + amounts[1:][-1:]))
    searched = any(len(seeds[0].ledger["learning_rates"]) > 1 for seeds in main.values())
    parts = [
        f"# {title}",
        f"Every draft was trained by `bench.py train` on the target's own greedy answers until {spent} "
        f"{budget['axis']} were spent, in the same batches, with a learning rate "
        f"{'searched in the same way' if searched else 'that was given, not searched'}. Acceptance is simulated in "
        f"plain torch as SGLang's rounds would go ({tree['num_steps']} steps, {tree['topk']} branches, "
        f"{tree['num_draft_tokens']} nodes) on {len(first_answers(main)):,} held-out answers, bonus token included.",
        "## Acceptance", acceptance_table(main), "![acceptance by step](steps.svg)",
        "By kind of prompt:", kinds_table(main),
        *(("## Beside the paper's direction", directions(main)) if {"eagle", "hass", "prism"} & {*main} else ()),
        *(("## What it decides", decided) if (decided := answers(main)) else ()),
    ]  # fmt: skip
    if speeds:
        parts += [
            "## Speed",
            "Speedup over vanilla through SGLang, one request at a time, drafts of the first seed. Machine, verdicts "
            f"and records: [the run's report]({report}).",
            speed_table(speeds),
        ]
    parts += [
        "## Training", fairness_table(drafts), "![validation losses](losses.svg)",
        "Losses of different objectives are no measure of each other.",
    ]  # fmt: skip
    if layers := layers_section(main):
        parts += ["## Layers and tokens", layers]
    if sizes:
        parts += [
            "## Size of the corpus",
            "The same tokens from fewer samples, one seed; a smaller corpus is seen more often.",
            sizes_table(sizes), "![acceptance against samples](sizes.svg)",
        ]  # fmt: skip
    return "\n\n".join(part for part in (*parts, remarks.strip()) if part) + "\n"


def first_answers(drafts: Mapping[str, Sequence[Trained]]) -> tuple[str, ...]:
    """The kinds of all held-out answers."""
    return next(iter(drafts.values()))[0].kinds


def draw(drafts: Mapping[str, Sequence[Trained]], curves: Mapping[str, Sequence[tuple[int, float]]], out: Path) -> None:
    """The page's figures: α by step, validation losses, acceptance against samples."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from draftbench.reports.plots import line_look

    matplotlib.rcParams["svg.hashsalt"] = "draftbench"
    sizes = by_size(drafts)
    smaller = {f"{family}-{count}" for family, own in sizes.items() for count, _ in own}
    series: dict[str, tuple[str, str, dict[str, Sequence[tuple[float, float]]]]] = {
        "steps": ("draft step", "accepted, of those reached",
            {name: list(enumerate(step_rates(seeds), 1)) for name, seeds in drafts.items() if name not in smaller}),
        "losses": ("thousands of tokens", "validation loss",
            {name: [(tokens / 1000, loss) for tokens, loss in curve]
             for name, curve in curves.items() if name not in smaller}),
        "sizes": ("samples", "acceptance length",
            {family: [(count, mean_length(seeds)) for count, seeds in own] for family, own in sizes.items()}),
    }  # fmt: skip
    numbers = {name: number for number, name in enumerate(dict.fromkeys([*drafts, *curves, *sizes]))}
    for name, (across, up, lines) in series.items():
        if not lines:
            continue
        figure = Figure(figsize=(6, 3.2), layout="constrained")
        axes = figure.add_subplot()
        for label, points in lines.items():
            look = line_look(numbers[label])
            axes.plot([x for x, _ in points], [y for _, y in points], markersize=4, linewidth=1.2, label=label, **look)
        axes.set(xlabel=across, ylabel=up)
        if name == "steps":
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if name == "sizes":
            axes.set_xscale("log")
        if name == "losses":
            axes.set_yscale("log")
        axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
        figure.savefig(out / f"{name}.svg", metadata={"Date": None})


def write_study(folders: Sequence[Path], out: Path, run: Path | None = None, title: str = TITLE) -> Path:
    """Copy every draft's ledger, accepted drafts and curve, and write the page; `remarks.md` there is its last part.

    Args:
        run: with the drafts, for the table of speedups.

    Raises:
        RecordError: a folder holds no trained drafts, or `run` no run.
    """
    found = sorted(path.parent for folder in folders for path in folder.glob(f"*/{LEDGER}"))
    if not found:
        raise RecordError(f"{', '.join(map(str, folders))}: no trained drafts ({LEDGER}) are in there.")
    drafts: dict[str, list[Trained]] = defaultdict(list)
    curves: dict[str, Sequence[tuple[int, float]]] = {}
    for folder in found:
        trained = read_trained(folder)
        drafts[trained.name].append(trained)
        lines = [json.loads(line) for line in (folder / CURVE).read_text().splitlines()]
        curves.setdefault(
            trained.name, [(line["tokens"], line["validation_loss"]) for line in lines if "validation_loss" in line]
        )
        kept = out / folder.name
        if kept.resolve() != folder.resolve():
            kept.mkdir(parents=True, exist_ok=True)
            for name in (LEDGER, ACCEPTANCE, CURVE):
                shutil.copyfile(folder / name, kept / name)
    draw(drafts, curves, out)
    remarks = out / "remarks.md"
    said = remarks.read_text() if remarks.exists() else ""
    if run is None:
        text = page(drafts, said, title)
    else:
        text = page(drafts, said, title, read_run(run).rows, os.path.relpath(run / "report.md", out))
    (out / "README.md").write_text(text)
    return out / "README.md"
