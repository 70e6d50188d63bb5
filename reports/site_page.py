"""The page over runs as one file that needs no network: its table, its figures, and what sorts and filters them."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import matplotlib as mpl
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from draftbench.harness.errors import RecordError
from draftbench.harness.manifest import MANIFEST
from draftbench.harness.metrics.ratios import Ratio, too_few
from draftbench.harness.safe_files import make_folder, write_whole
from draftbench.harness.units import fixed
from draftbench.reports.answer import answer
from draftbench.reports.files import PAGE, figures_of
from draftbench.reports.page import drawn, render_page, with_bold
from draftbench.reports.plots import COLOURS, INK, MARKERS, STYLE, Plot, legend, mark_speedups, plain_text
from draftbench.reports.site import Entry, FoundRuns, Shown, entries, find_runs, load_order
from draftbench.reports.table import ratio_text

INDEX = "index.html"
_FOLDER = Path(__file__).parent
WIDTH_IN, HEIGHT_IN = 4.2, 3.4
MEANING = (
    "Speedup: throughput over the run's own vanilla, geometric mean, with its 95% interval and what that is over; τ: "
    "tokens per verify step, bonus token included; c: time of a round over time of a vanilla step; a draft pays off "
    "where τ / c is above 1. Over all workloads: geometric mean of speedups, means of τ and c. Speedups of two "
    "targets, devices or loads do not compare. Bold: every other valid arm of the run is shown to be slower there. "
    "Struck through: rows that take no place, with the reason. What-if: acceptance was drawn, not measured."
)


@dataclass(frozen=True)
class SiteLine:
    """A line of the table: its cells by heading, and what filters and sorts it."""

    number: int
    entry: Entry
    cells: Mapping[str, str]
    values: Mapping[str, float | None]


def write_site(folder: Path, out: Path, title: str) -> tuple[Path, FoundRuns]:
    """Write the page, and beside it the reports of runs that do not lie there already.

    Returns:
        The page's path, and what stands on it.

    Raises:
        RecordError: there is no run, or something cannot be written.
    """
    found = find_runs(folder)
    make_folder(out)
    links = {shown.name: _link(shown, out) for shown in found.shown}
    write_whole(out / INDEX, render_site(title, found, links))
    return out / INDEX, found


def _link(shown: Shown, out: Path) -> str:
    """Where a run's report lies, seen from the page; it is written there from the records if need be."""
    run = shown.run
    here, there = out.resolve(), run.folder.resolve()
    if there.is_relative_to(here) and (there / PAGE).exists():
        return quote(os.path.relpath(there / PAGE, here))
    place = out / shown.name
    if (place / MANIFEST).exists():
        raise RecordError(f"{place} holds another run; give another --out.")
    make_folder(place)
    page = render_page(run.rows, run.manifest, run.records_sha256, run.broken, figures_of(run))
    write_whole(place / PAGE, page)
    return quote(f"{shown.name}/{PAGE}")


def render_site(title: str, found: FoundRuns, links: Mapping[str, str]) -> str:
    """The whole page; the same runs give the same bytes. Every string in it is escaped by the template.

    Args:
        links: by the run's name, where its report lies.
    """
    environment = Environment(
        loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    script = (_FOLDER / "site.js").read_text()
    lines = [_line(number, entry) for number, entry in enumerate(entries(found.shown))]
    style = (_FOLDER / "page.css").read_text() + (_FOLDER / "site.css").read_text()
    return environment.get_template("site.html.j2").render(
        title=title,
        style=Markup(style),
        script=Markup(script),
        script_sha256=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        summary=_summary(found, lines),
        lines=lines,
        links=links,
        filters=_filters([line.entry for line in lines]),
        workloads=sorted({line.entry.workload for line in lines if line.entry.row is not None}),
        figures=[drawn(plot) for plot in draw(lines)],
        meaning=MEANING,
        runs=[
            (
                shown.name,
                shown.run.manifest.started_at[:10],
                shown.mismatch,
                with_bold(answer(shown.run.rows, shown.run.manifest)),
            )
            for shown in sorted(found.shown, key=lambda each: each.run.manifest.started_at, reverse=True)
        ],
        left_out=found.left_out,
    )


def _line(number: int, entry: Entry) -> SiteLine:
    ratio = None if entry.speedup is None else Ratio(entry.speedup, entry.low, entry.high, entry.scope)
    cells = {
        "speedup [95%]": ratio_text(ratio),
        "interval": entry.scope or "–",
        "τ": fixed(entry.acceptance_length, 2),
        "c": fixed(entry.step_cost_ratio, 2),
        "τ / c": fixed(entry.gain, 2),
    }
    values = {
        "speedup": entry.speedup, "τ": entry.acceptance_length, "c": entry.step_cost_ratio, "τ / c": entry.gain
    }  # fmt: skip
    return SiteLine(number, entry, cells, values)


def _filters(found: Sequence[Entry]) -> dict[str, list[str]]:
    """What can be chosen of each column."""
    names = ("target", "device", "architecture", "load", "run")
    return {name: sorted({getattr(entry, name) for entry in found}, key=load_order) for name in names}


def _summary(found: FoundRuns, lines: Sequence[SiteLine]) -> str:
    """How much there is, and what of it takes no place."""
    targets = {line.entry.target for line in lines}
    devices = {line.entry.device for line in lines}
    out = sum(bool(line.entry.out) for line in lines)
    parts = [
        f"{_count(len(found.shown), 'run')}, {_count(len(lines), 'row')}, {_count(len(targets), 'target')}, "
        f"{_count(len(devices), 'device')}{f'; {out} of the rows take no place' if out else ''}."
    ]
    unlike = [shown.name for shown in found.shown if shown.mismatch is not None]
    if unlike:
        parts.append(f"Not what their records give: {', '.join(unlike)}.")
    if found.left_out:
        parts.append(f"Left out, since they cannot be read: {', '.join(name for name, _ in found.left_out)}.")
    return " ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def draw(lines: Sequence[SiteLine]) -> list[Plot]:
    """Speedup over τ and over τ / c, a point for each row that takes a place."""
    of_rows = [line for line in lines if line.entry.row is not None and not line.entry.out]
    looks = {name: at for at, name in enumerate(sorted({line.entry.architecture for line in of_rows}))}
    plots = [
        _scatter("speedup-by-length", of_rows, "τ", looks, "Speedup over the acceptance length τ"),
        _scatter("speedup-by-gain", of_rows, "τ / c", looks, "Speedup over τ / c"),
    ]
    return [plot for plot in plots if plot is not None]


def _scatter(name: str, lines: Sequence[SiteLine], across: str, looks: Mapping[str, int], caption: str) -> Plot | None:
    shown = [
        (line, at, speedup)
        for line in lines
        if (at := line.values[across]) is not None and (speedup := line.entry.speedup) is not None
    ]
    if not shown:
        return None
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), layout="constrained")
        axes = figure.subplots()
        told: set[str] = set()
        for line, at, speedup in shown:
            entry = line.entry
            index = looks[entry.architecture]
            colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
            ends = [end for end in (entry.low, entry.high) if end is not None]
            if ends and too_few(entry.low, entry.high) is None:
                axes.plot([at, at], ends, color=colour, alpha=0.35, gid=f"{name}-bar{line.number}")
            (dot,) = axes.plot(at, speedup, color=colour, marker=marker, linestyle="none")
            dot.set_gid(f"{name}-dot{line.number}")
            if entry.is_simulated:
                dot.set_markerfacecolor("none")
            if entry.architecture not in told:
                dot.set_label(plain_text(entry.architecture))
            told.add(entry.architecture)
        axes.set_yscale("log")
        mark_speedups(axes.yaxis, *axes.get_ylim())
        axes.axhline(1, color=INK, linewidth=0.8, linestyle="--")
        if across == "τ / c":
            gains = [at for _, at, _ in shown]
            axes.plot([min(gains), max(gains)], [min(gains), max(gains)], color=INK, linewidth=0.8, linestyle=":")
            caption += "; dotted: both are equal"
        axes.set_xlabel({"τ": "acceptance length τ", "τ / c": "τ / c, tokens of a round over its cost"}[across])
        axes.set_ylabel("speedup over vanilla [95%]")
        legend(figure, axes)
    hollow = "; hollow: what-if" if any(line.entry.is_simulated for line, _, _ in shown) else ""
    return Plot(name, "site", f"{caption}, a point for each arm on each workload, with its interval{hollow}.", figure)
