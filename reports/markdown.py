"""report.md: the answer first, then the tables, what was invalid, the host, and how to repeat it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tabulate import tabulate

from draftbench.harness.facts import EndpointFacts
from draftbench.harness.host.devices import labels
from draftbench.harness.host.draft_packages import package_text
from draftbench.harness.manifest import Manifest
from draftbench.harness.metrics.row import Row
from draftbench.harness.suite import Limits, Suite
from draftbench.harness.suite.device_arguments import gpus_in_use, shared_arguments
from draftbench.harness.suite.engine_arguments import risky
from draftbench.harness.workloads.sources import SYNTHETIC
from draftbench.reports.answer import answer
from draftbench.reports.arms_tables import TRAINING_MEANING, arms_table, training_table
from draftbench.reports.foreign import markdown_text, with_strings
from draftbench.reports.sections import ReportSection, first_sections, sections
from draftbench.reports.table import (
    DEVICE_HEADERS,
    MAIN_HEADERS,
    clear_rows,
    main_headers,
    main_row,
    meanings,
    numeric_columns,
    place,
)

REPRODUCE = (
    "`python bench.py verify` on this file makes every number here again from the records beside it; `python bench.py "
    "rerun` runs the same suite on another machine and says row by row what is reproduced."
)
SHOWN_BROKEN = 5
"""Broken lines of the records that are told one by one."""


def render_markdown(rows: Sequence[Row], manifest: Manifest, records_sha256: str, broken: Sequence[str] = ()) -> str:
    """The whole report as markdown; the same input gives the same bytes.

    Args:
        broken: Lines of the records that were left out, each with file, line and reason.
    """
    rows = with_strings(tuple(rows), markdown_text)
    manifest = with_strings(manifest, markdown_text)
    suite = manifest.suite
    parts = [
        f"# {suite.name}",
        answer(rows, manifest),
        *_sections(first_sections(rows, manifest)),
        "## Results",
        _main(rows),
        meanings(rows),
        "\n".join(f"- {note}" for note in notes(rows, with_strings(broken, markdown_text))),
    ]
    parts += _sections(sections(rows, manifest))
    parts += [
        "## Arms",
        _table(*arms_table(suite.arms, manifest.engines)),
        "Depth: draft steps of a round; width: children that a node may have; nodes: verified ones, the root included.",
    ]
    headers, lines = training_table(manifest)
    if lines:
        parts += ["## Training", _table(headers, lines), TRAINING_MEANING]
    parts += ["## Conditions", _table(("what", "value"), conditions(manifest, records_sha256)), REPRODUCE]
    return "\n\n".join(part for part in parts if part) + "\n"


def _sections(found: Sequence[ReportSection]) -> list[str]:
    each = [(f"## {section.title}", _table(section.headers, section.lines), section.meaning) for section in found]
    return [part for parts in each for part in parts]


def _main(rows: Sequence[Row]) -> str:
    best, headers = clear_rows(rows), main_headers(rows)
    moved = len(DEVICE_HEADERS) if DEVICE_HEADERS[0] in headers else 0
    lines = []
    for index, row in enumerate(rows):
        cells = main_row(row, rows)
        if not row.valid:
            cells = [f"~~{cell}~~" for cell in cells]
        elif index in best:
            bold = (4, 5) if row.concurrency is not None else (5, len(MAIN_HEADERS))
            for place_ in bold:
                cells[moved + place_] = f"**{cells[moved + place_]}**"
        lines.append(cells)
    return _table(headers, lines)


def notes(rows: Sequence[Row], broken: Sequence[str]) -> list[str]:
    """Why rows are invalid, what failed, what to be careful with, which lines of the records were left out."""
    lines = []
    for row in rows:
        name = f"{row.arm} on {place(row, ', ')}"
        if not row.valid:
            lines.append(f"**Invalid**: {name}: {row.reason.rstrip('.')}.")
        if row.num_failed:
            lines.append(f"{name}: {row.num_failed} of {row.num_requests} requests failed.")
        for found in row.findings:
            if found.gate.severity == "warning":
                lines.append(f"Warning: {name}: {found.gate.name}: {found.evidence.rstrip('.')}.")
    lines += [f"Left out: {text}." for text in broken[:SHOWN_BROKEN]]
    if len(broken) > SHOWN_BROKEN:
        lines.append(f"Left out: {len(broken) - SHOWN_BROKEN} more lines of the records.")
    return lines


def _devices(manifest: Manifest) -> str:
    """How many launches ran on which kind of device."""
    counted = Counter(labels(manifest.devices).values())
    return "; ".join(f"{device}: {count}" for device, count in sorted(counted.items()))


def _told(facts: EndpointFacts) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(facts.said().items())) or "tells nothing of itself"


def conditions(manifest: Manifest, records_sha256: str) -> list[list[str]]:
    """What a number here depends on, and the hashes that tie it to its records: what, and the value."""
    suite = manifest.suite
    sampling = suite.sampling.model_dump(exclude_unset=True)
    synthetic = [workload.name for workload in suite.workloads if workload.source in SYNTHETIC]
    facts = [
        ("target", f"{suite.target.model}, {suite.target.dtype}"),
        *_spread(suite),
        *((("limits", _limits(suite.limits)),) if suite.limits is not None else ()),
        ("sampling", ", ".join(f"{name} {sampling[name]}" for name in sorted(sampling))),
        ("design", _design(suite)),
        *((("engines", manifest.engine_starts),) if manifest.engine_starts is not None else ()),
        *((("date in prompts", suite.rendering.date),) if suite.rendering.date is not None else ()),
        ("synthetic workloads", ", ".join(synthetic) or "none"),
        *_unscored(manifest),
        *_required(suite),
        ("prefix cache", "on" if suite.prefix_cache else "off"),
        *((("launches on", _devices(manifest)),) if manifest.devices else ()),
        *((name, str(value)) for name, value in sorted(manifest.host.said().items())),
        *sorted(manifest.packages.items()),
        *((f"draft package of {name}", package_text(facts)) for name, facts in manifest.draft_packages.items()),
        ("draftbench commit", manifest.git_commit),
        ("started", manifest.started_at),
        ("command", f"`{manifest.command}`"),
        ("suite SHA-256", manifest.suite_sha256),
        *((f"endpoint {name}", _told(told)) for name, told in sorted(manifest.endpoints.items())),
        *_permitted(suite),
        *((f"{name} SHA-256", value) for name, value in sorted(manifest.models.items())),
        ("manifest SHA-256", manifest.sha256),
        ("records SHA-256", records_sha256),
    ]
    return [list(fact) for fact in facts]


def _unscored(manifest: Manifest) -> list[tuple[str, str]]:
    """Workloads whose records say what is right in a way that nothing is held against."""
    found = {name: facts.num_unscored or 0 for name, facts in manifest.workloads.items()}
    told = [
        f"{name}: {count} prompts with an answer that nothing is held against" for name, count in found.items() if count
    ]
    return [("not scored", "; ".join(told))] if told else []


def _required(suite: Suite) -> list[tuple[str, str]]:
    required = suite.fairness.require
    return [("required to be alike", ", ".join(required))] if required else []


def _spread(suite: Suite) -> list[tuple[str, str]]:
    """How an engine is spread over devices, where it is."""
    ranks = suite.target.tensor_parallel
    said = [f"tensor parallel {ranks}"] if ranks > 1 else []
    said += [f"{name} {value}" for name, value in shared_arguments(suite).items()]
    count = len(gpus_in_use(suite))
    return [("devices of each engine", f"{count}: {', '.join(said)}")] if said else []


def _permitted(suite: Suite) -> list[tuple[str, str]]:
    found = [f"{arm.name}: {name} {arm.engine[name]}" for arm in suite.arms for name in risky(arm.engine)]
    return [("permitted by --allow", ", ".join(found))] if found else []


def _limits(limits: Limits) -> str:
    found = (("TPOT", limits.tpot_ms), ("TTFT", limits.ttft_ms))
    return ", ".join(f"{name} {value:g} ms" for name, value in found if value)


def _design(suite: Suite) -> str:
    order = "arms in random, balanced order"
    if suite.turns == "prompts" and any(point.concurrency == 1 for point in suite.load):
        order += "; at concurrency 1 they take turns prompt by prompt where their engines fit side by side"
    if suite.auto is not None:
        wanted = f"±{suite.auto.half_width:.1%} or {suite.auto.time_limit_s} s"
        return f"blocks and launches added until {wanted}; {order}"
    return f"{suite.launches} launches of {suite.blocks} blocks; {order}"


def _table(headers: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    align = ["right" if numeric else "left" for numeric in numeric_columns(headers, lines)]
    return str(tabulate(lines, headers, "github", colalign=align, disable_numparse=True))
