"""report.html: the report as one file that needs no network, with its figures inside."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from draftbench.harness.manifest import Manifest
from draftbench.harness.metrics.row import Row
from draftbench.harness.texts import printable
from draftbench.reports.answer import answer
from draftbench.reports.arms_tables import TRAINING_MEANING, arms_table, training_table
from draftbench.reports.foreign import with_strings
from draftbench.reports.markdown import conditions, notes
from draftbench.reports.plots import INK, Plot
from draftbench.reports.sections import first_sections, sections
from draftbench.reports.table import clear_rows, main_headers, main_row, meanings, numeric_columns

_FOLDER = Path(__file__).parent
_SVG = re.compile(r"<svg\b.*?</svg>", re.DOTALL)


@dataclass(frozen=True)
class TableLine:
    """One line of a table, and whether it is struck through or stands out."""

    cells: Sequence[str]
    valid: bool = True
    best: bool = False


Content = tuple[Sequence[tuple[str, bool]], Sequence[bool], Sequence[TableLine]]
"""Headings, which columns hold numbers, and lines."""


def render_page(
    rows: Sequence[Row],
    manifest: Manifest,
    records_sha256: str,
    broken: Sequence[str],
    plots: Sequence[Plot],
) -> str:
    """The whole page; the same input gives the same bytes. Every string in it is escaped by the template."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    script = (_FOLDER / "page.js").read_text()
    manifest = with_strings(manifest, printable)
    best = clear_rows(rows)
    return environment.get_template("page.html.j2").render(
        name=manifest.suite.name,
        style=Markup((_FOLDER / "page.css").read_text()),
        script=Markup(script),
        script_sha256=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        answer=with_bold(answer(rows, manifest)),
        results=_table(
            main_headers(rows),
            [TableLine(main_row(row, rows), row.valid, index in best) for index, row in enumerate(rows)],
        ),
        meanings=meanings(rows),
        notes=[with_bold(note) for note in notes(rows, broken)],
        arms=_plain_table(*arms_table(manifest.suite.arms, manifest.engines)),
        training=_plain_table(*training_table(manifest)),
        training_meaning=TRAINING_MEANING,
        first=[(section, _plain_table(section.headers, section.lines)) for section in first_sections(rows, manifest)],
        sections=[(section, _plain_table(section.headers, section.lines)) for section in sections(rows, manifest)],
        conditions=_plain_table(("what", "value"), conditions(manifest, records_sha256)),
        figures={kind: [drawn(plot) for plot in plots if plot.kind == kind] for kind in {p.kind for p in plots}},
    )


def without_figures(page: str) -> str:
    """A page's text with its drawings taken out of their lines, which stay."""
    return re.sub(r'^<div class="figures">.*</div>$', "", page, flags=re.MULTILINE)


def _plain_table(headers: Sequence[str], lines: Sequence[Sequence[str]]) -> Content:
    return _table(headers, [TableLine(cells) for cells in lines])


def _table(headers: Sequence[str], lines: Sequence[TableLine]) -> Content:
    numeric = numeric_columns(headers, [line.cells for line in lines])
    return list(zip(headers, numeric, strict=True)), numeric, lines


def with_bold(text: str) -> Markup:
    """Text with its stars as bold letters, and all else of it escaped."""
    return Markup(re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", str(escape(text))))


def drawn(plot: Plot) -> tuple[Markup, str]:
    """The drawing on one line, in the page's own text colour and without names that two drawings would share."""
    found = _SVG.search(plot.svg())
    assert found is not None, plot.name
    svg = re.sub(r"<metadata>.*?</metadata>", "", found[0], flags=re.DOTALL)
    svg = re.sub(r' id="[\w.]+_\d+"', "", svg).replace(INK, "currentColor")
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(plot.caption)}" ', 1)
    return Markup(" ".join(svg.split())), plot.caption
