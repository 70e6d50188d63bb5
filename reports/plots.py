"""The figures of a report: one column of a paper wide, told apart by colour, marker and line style.

One module, since all of them share these.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from draftbench.harness.metrics.overall import by_step, overall
from draftbench.harness.metrics.ratios import too_few
from draftbench.harness.metrics.row import Row, by_device
from draftbench.harness.metrics.throughput import crossovers
from draftbench.harness.records import load_slug
from draftbench.harness.safe_files import make_own_folder, write_whole
from draftbench.reports.table import place

WIDTH_IN = 3.35
"""A column of the usual two-column papers."""
_HANDLE_IN, _LETTER_IN, _LINE_IN = 0.5, 0.052, 0.15
"""Of a legend: the sample of a line with the space around it, a letter, a line."""
_LABEL_LETTERS = 20
INK = "#222222"
"""Text and axes; the page puts its own text colour in its place."""
_BASELINE = "#808080"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#b8a800")
"""Okabe and Ito's colours, which the colour-blind can tell apart; their yellow is darkened to show on white."""
_PARTS = {"draft": "#0072b2", "verify": "#e69f00", "extend": "#009e73", "other": "#c0c0c0"}
"""Of a round; they differ in lightness too."""
_FINE = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4)
_MIDDLE = (0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10, 15, 20)
_COARSE = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 512, 2048)
"""Speedups that are marked on a short axis, a longer one and a long one."""
MARKERS, _LINES = "osD^vPX", ("-", "--", "-.", ":")
STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "legend.fontsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "draftbench",
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


@dataclass(frozen=True)
class Plot:
    """One figure, and in words what it shows."""

    name: str
    kind: str
    """overall, speedup, acceptance, survival, round, throughput, energy or machine."""
    caption: str
    figure: Figure

    def svg(self) -> str:
        """The figure as SVG, the same bytes for the same rows."""
        return self._svg  # a file and the page have it

    def png(self) -> bytes:
        """The figure at 300 dots per inch, the same bytes for the same rows."""
        picture = io.BytesIO()
        self._save(picture, format="png", dpi=300)
        return picture.getvalue()

    def _save(self, file: io.StringIO | io.BytesIO, **how: Any) -> None:
        with mpl.rc_context(STYLE):
            self.laid_out.savefig(file, **how)

    @cached_property
    def _svg(self) -> str:
        text = io.StringIO()
        self._save(text, format="svg", transparent=True, metadata={"Date": None})
        return text.getvalue()

    @cached_property
    def laid_out(self) -> Figure:
        """The figure with everything in its final place."""
        with mpl.rc_context(STYLE):
            self.figure.draw_without_rendering()
        self.figure.set_layout_engine("none")
        return self.figure


def draw_figures(rows: Sequence[Row], first_stage: int | None = None) -> tuple[Plot, ...]:
    """Every figure there is data for; invalid rows are not drawn. Each kind of device has figures of its own.

    Args:
        first_stage: launches from which the suite's `auto` chose how many there would be.
    """
    kinds = by_device(rows)
    if len(kinds) < 2:
        return _draw(rows, first_stage)
    return tuple(
        replace(plot, name=f"{plot.name}-device{number}", caption=f"On {device}: {plot.caption}")
        for number, (device, own) in enumerate(kinds.items(), 1)
        for plot in _draw(own, first_stage)
    )


def _draw(rows: Sequence[Row], first_stage: int | None) -> tuple[Plot, ...]:
    valid = [row for row in rows if row.valid]
    looks = {arm: index for index, arm in enumerate(dict.fromkeys(r.arm for r in rows if r.architecture != "vanilla"))}
    plots: list[Plot] = []
    with mpl.rc_context(STYLE):
        plots += _overall(rows, first_stage, looks)
        plots += _by_step_over_all(valid, looks)
        for workload in dict.fromkeys(row.workload for row in valid):
            here = [row for row in valid if row.workload == workload]
            points = sorted({row.load: row for row in here}.values(), key=lambda row: row.concurrency or math.inf)
            for point in points:
                at = [row for row in here if row.load == point.load]
                where = place(point, ", ")
                slug = f"{workload}-{load_slug(point.load)}"
                plots += _speedup(f"speedup-{slug}", where, at, looks)
                plots += _round(f"round-{slug}", where, at)
                plots += _energy(f"energy-{slug}", where, at, looks)
            first = [row for row in here if row.load == points[0].load]
            where = place(points[0], ", ")
            plots += _by_step(f"acceptance-{workload}", "acceptance", where, first, looks)
            plots += _by_step(f"survival-{workload}", "survival", where, first, looks)
            plots += _throughput(f"throughput-{workload}", workload, here, looks)
        plots += _machine(rows, looks)
    return tuple(plots)


def save_figures(plots: Iterable[Plot], folder: Path) -> None:
    """Each figure as SVG and as PNG at 300 dots per inch; what earlier reports left there goes."""
    make_own_folder(folder)
    for old in (*folder.glob("*.svg"), *folder.glob("*.png")):
        old.unlink()
    for plot in plots:
        write_whole(folder / f"{plot.name}.svg", plot.svg())
        write_whole(folder / f"{plot.name}.png", plot.png())


@dataclass(frozen=True)
class _Bar:
    """An arm's speedup with its interval."""

    arm: str
    architecture: str
    value: float
    low: float | None
    high: float | None
    scope: str

    @property
    def lack(self) -> str | None:
        """Why the interval is too wide to be drawn."""
        return too_few(self.low, self.high, self.scope)


def _speedup(name: str, where: str, rows: Sequence[Row], looks: dict[str, int]) -> list[Plot]:
    bars = [
        _Bar(r.arm, r.architecture, r.speedup, r.speedup_low, r.speedup_high, r.speed.speedup_scope or "")
        for r in rows
        if r.speedup is not None and r.architecture != "vanilla"
    ]
    return _bars(name, "speedup", where, bars, looks)


def _overall(rows: Sequence[Row], first_stage: int | None, looks: dict[str, int]) -> list[Plot]:
    """Over all workloads, at every load point that has several; arms that lack one are not drawn."""
    found = [each for each in overall(rows, first_stage) if each.is_whole and each.architecture != "vanilla"]
    plots = []
    for load in dict.fromkeys(each.load for each in found):
        here = [each for each in found if each.load == load]
        bars = [
            _Bar(
                each.arm, each.architecture, each.speedup.value, each.speedup.low, each.speedup.high, each.speedup.scope
            )
            for each in here
            if each.speedup is not None
        ]
        where = f"all {here[0].num_workloads} workloads, concurrency {here[0].concurrency}"
        plots += _bars(f"speedup-all-{load_slug(load)}", "overall", where, bars, looks)
    return plots


def _bars(name: str, kind: str, where: str, bars: Sequence[_Bar], looks: dict[str, int]) -> list[Plot]:
    if not bars:
        return []
    figure, axes = _axes(where, 0.75 + 0.25 * len(bars))
    for height, bar in enumerate(bars):
        has_ends = bar.low is not None and bar.high is not None and bar.lack is None
        ends = [[bar.value - (bar.low or 0.0)], [(bar.high or 0.0) - bar.value]] if has_ends else None
        axes.errorbar(bar.value, height, xerr=ends, capsize=2, **_look(bar, looks, line=False))
    axes.axvline(1, color=INK, linewidth=0.8, linestyle="--")
    labels = [label(bar.arm) + ("" if bar.lack is None else f"\n({bar.lack})") for bar in bars]
    axes.set_yticks(range(len(bars)), labels)
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xscale("log")  # twice as fast and half as fast are as far from 1
    mark_speedups(axes.xaxis, *axes.get_xlim())
    axes.set_xlabel("speedup over vanilla [95%]")
    values = ", ".join(f"{bar.arm} {bar.value:.2f}" for bar in bars)
    return [Plot(name, kind, f"Speedup over vanilla on {where}: {values}.", figure)]


def mark_speedups(axis: Axis, low: float, high: float) -> None:
    """Round speedups as the ticks of a logarithmic axis."""
    steps = _FINE if high / low < 4 else _MIDDLE if high / low < 20 else _COARSE
    ticks = [step for step in steps if low <= step <= high]
    axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_minor_locator(NullLocator())


_STEP_FIGURES: dict[str, tuple[str, str, Callable[[Row], list[float | None]]]] = {
    "acceptance": ("α$_k$", "Conditional acceptance α_k", lambda row: list(row.acceptance.conditional_acceptance)),
    "survival": ("S$_k$", "Survival S_k", lambda row: list(row.acceptance.survival)),
}


def _by_step(name: str, kind: str, where: str, rows: Sequence[Row], looks: dict[str, int]) -> list[Plot]:
    symbol, words, curve_of = _STEP_FIGURES[kind]
    drawn = [row for row in rows if any(value is not None for value in curve_of(row))]
    if not drawn:
        return []
    figure, axes = _axes(where, 2.3)
    for row in drawn:
        curve = [float("nan") if value is None else value for value in curve_of(row)]
        axes.plot(range(1, len(curve) + 1), curve, label=label(row.arm), **_look(row, looks))
    lowest = min(value for row in drawn for value in curve_of(row) if value is not None)
    axes.set_ylim(math.floor(10 * lowest) / 10 - 0.02, 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter("{x:.2f}")  # as wide whichever ticks the axes' height allows
    axes.set_xlabel("draft step k")
    axes.set_ylabel(symbol)
    legend(figure, axes)
    return [Plot(name, kind, f"{words} over the draft step on {where}, a line for each arm.", figure)]


def _by_step_over_all(rows: Sequence[Row], looks: dict[str, int]) -> list[Plot]:
    """α_k as the mean over workloads, at the first load point that has several."""
    found = by_step(rows)
    here = [each for each in found if each.row.load == found[0].row.load]
    means = [
        replace(each.row, acceptance=replace(each.row.acceptance, conditional_acceptance=each.alphas)) for each in here
    ]
    where = f"all workloads, {means[0].load}" if means else ""
    return _by_step("acceptance-all", "acceptance", where, means, looks)


def _round(name: str, where: str, rows: Sequence[Row]) -> list[Plot]:
    drawn = [
        (row, split, step_s)
        for row in rows
        if (split := row.rounds.round_split) is not None and (step_s := row.rounds.decode_step_s) is not None
    ]
    if not drawn:
        return []
    figure, axes = _axes(where, 1.0 + 0.25 * len(drawn))
    left = [0.0] * len(drawn)
    for part, colour in _PARTS.items():
        widths = [1000 * step_s * getattr(split, part) for _, split, step_s in drawn]
        axes.barh(range(len(drawn)), widths, 0.65, left, label=part, color=colour, edgecolor="white", linewidth=0.5)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.set_yticks(range(len(drawn)), [label(row.arm) for row, _, _ in drawn])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("ms per round")
    legend(figure, axes)
    return [Plot(name, "round", f"Where a round's time goes on {where}: draft, verify, extend, other.", figure)]


def _energy(name: str, where: str, rows: Sequence[Row], looks: dict[str, int]) -> list[Plot]:
    drawn = [(row, row.joules_per_token) for row in rows if row.joules_per_token is not None]
    if not drawn:
        return []
    figure, axes = _axes(where, 0.75 + 0.25 * len(drawn))
    colours = [_look(row, looks)["color"] for row, _ in drawn]
    axes.barh(range(len(drawn)), [joules for _, joules in drawn], 0.65, color=colours)
    axes.set_yticks(range(len(drawn)), [label(row.arm) for row, _ in drawn])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("J per delivered token, gross")
    values = ", ".join(f"{row.arm} {joules:.3g}" for row, joules in drawn)
    return [Plot(name, "energy", f"Energy per delivered token on {where}: {values} J.", figure)]


def _machine(rows: Sequence[Row], looks: dict[str, int]) -> list[Plot]:
    """Power and clocks of every cell over the run, invalid rows too: they may show why."""
    drawn = [row for row in rows if row.over_time]
    if not drawn:
        return []
    figure = Figure(figsize=(WIDTH_IN, 3.0), layout="constrained")
    power, clocks = figure.subplots(2, sharex=True)
    told: set[str] = set()
    for row in drawn:
        look = _look(row, looks) | {"linestyle": "none"}
        at_s = [cell.at_s for cell in row.over_time]
        named = {} if row.arm in told else {"label": label(row.arm)}
        power.plot(at_s, [cell.power_w for cell in row.over_time], **look, **named)
        clocks.plot(at_s, [cell.sm_clock_mhz for cell in row.over_time], **look)
        told.add(row.arm)
    power.set_ylabel("power, W")
    clocks.set_ylabel("SM clock, MHz")
    clocks.set_xlabel("seconds since the run began")
    legend(figure, power)
    return [Plot("machine", "machine", "Mean power and SM clock of the GPUs in each cell over the run.", figure)]


def _throughput(name: str, workload: str, rows: Sequence[Row], looks: dict[str, int]) -> list[Plot]:
    curves: dict[str, dict[int, Row]] = {}
    for row in rows:
        if row.concurrency is not None and row.output_tokens_per_s is not None:
            curves.setdefault(row.arm, {})[row.concurrency] = row
    points = sorted({concurrency for curve in curves.values() for concurrency in curve})
    if len(points) < 2:
        return []
    figure, axes = _axes(workload, 2.4)
    crossed = []
    baseline = next((curve for curve in curves.values() if next(iter(curve.values())).architecture == "vanilla"), {})
    alone = {concurrency: row.output_tokens_per_s or 0.0 for concurrency, row in baseline.items()}
    for arm, curve in curves.items():
        values = {concurrency: row.output_tokens_per_s or 0.0 for concurrency, row in sorted(curve.items())}
        look = _look(next(iter(curve.values())), looks)
        axes.plot(list(values), list(values.values()), label=label(arm), **look)
        for concurrency, tokens_per_s in crossovers(values, alone):
            axes.plot(concurrency, tokens_per_s, "x", color=INK, markersize=6, zorder=5)
            crossed.append(f"{arm} and vanilla cross near concurrency {concurrency:.1f}")
    axes.set_xscale("log", base=2)
    axes.set_xticks(points, [str(point) for point in points])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("concurrency")
    axes.set_ylabel("output tokens/s")
    legend(figure, axes)
    end = f"; {', '.join(crossed)} (×)" if crossed else "; no draft's line crosses vanilla's"
    return [Plot(name, "throughput", f"Output throughput over concurrency on {workload}{end}.", figure)]


def _axes(title: str, height_in: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
    axes = figure.subplots()
    # Over the figure, not the axes, which long names make narrow.
    figure.suptitle(plain_text(title), x=0.02, ha="left", fontsize=STYLE["axes.titlesize"])
    return figure, axes


def legend(figure: Figure, axes: Axes) -> None:
    """Below the axes, in as many columns as fit; the figure grows with its lines: the axes keep their height."""
    names = axes.get_legend_handles_labels()[1]
    if len(names) < 2:
        return
    widest = max(len(line) for name in names for line in name.splitlines())
    columns = max(1, min(len(names), int(figure.get_figwidth() / (_HANDLE_IN + _LETTER_IN * widest))))
    if len(names) > 4:
        columns = min(columns, 3)
    tall = sorted((len(name.splitlines()) for name in names), reverse=True)
    lines = sum(tall[: math.ceil(len(names) / columns)])
    figure.set_figheight(figure.get_figheight() + _LINE_IN * max(0, lines - 1))
    figure.legend(loc="outside lower center", ncols=columns, handlelength=1.8, columnspacing=1)


def _look(row: Row | _Bar, looks: dict[str, int], line: bool = True) -> dict[str, Any]:
    if row.architecture == "vanilla":
        return {"color": _BASELINE, "marker": "_", "linestyle": "-"}
    return line_look(looks[row.arm]) | ({} if line else {"linestyle": "none"})


def line_look(index: int) -> dict[str, Any]:
    """Colour, marker and style of the line with this number, unlike those of any other up to 28."""
    colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
    return {"color": colour, "marker": marker, "linestyle": _LINES[index // len(COLOURS) % len(_LINES)]}


def label(arm: str) -> str:
    """An arm's name in lines that leave room for a figure beside them."""
    return "\n".join(textwrap.wrap(plain_text(arm), _LABEL_LETTERS, break_on_hyphens=False))


def plain_text(text: str) -> str:
    """Text without matplotlib's mathematics."""
    return text.replace("$", r"\$")
