"""The tables below the main one: what they hold, and a line on what it means. Text only; others lay it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from draftbench.harness.corpora.contamination import Contamination
from draftbench.harness.manifest import Manifest
from draftbench.harness.metrics.overall import overall
from draftbench.harness.metrics.row import Row
from draftbench.harness.models.fairness import LedgerFacts, Ledgers
from draftbench.harness.units import MISSING, fixed
from draftbench.reports.acceptance_tables import (
    ACCEPTANCE_MEANING,
    CHANGING_MEANING,
    SERVED_MEANING,
    SPREAD_MEANING,
    STEPS_MEANING,
    acceptance_table,
    changing_table,
    overall_acceptance_table,
    served_table,
    spread_table,
)
from draftbench.reports.table import (
    Table,
    arm_text,
    load_heading,
    load_text,
    milliseconds,
    overall_table,
    share_text,
    whole_percent,
    workload_text,
)
from draftbench.reports.update_tables import UPDATES_MEANING, UPDATING_MEANING, updates_table, updating_table


@dataclass(frozen=True)
class ReportSection:
    """One table with its title and meaning; `figures` are the kinds of plots that belong to it."""

    title: str
    headers: list[str]
    lines: list[list[str]]
    meaning: str
    figures: tuple[str, ...] = ()


def sections(rows: Sequence[Row], manifest: Manifest) -> list[ReportSection]:
    """All of them that have something to say, in the report's order."""
    found = [
        ReportSection("Verdicts", *verdict_table(rows), VERDICT_MEANING),
        ReportSection("Under load", *load_table(rows), LOAD_MEANING),
        ReportSection("Acceptance by step over all workloads", *overall_acceptance_table(rows), STEPS_MEANING),
        ReportSection("Acceptance by step", *acceptance_table(rows), ACCEPTANCE_MEANING, ("acceptance", "survival")),
        ReportSection(
            "Acceptance length by kind of prompt, turn and place in the output", *spread_table(rows), SPREAD_MEANING
        ),
        ReportSection("Drafts of a round", *changing_table(rows), CHANGING_MEANING),
        ReportSection("A draft updated between blocks", *updating_table(rows), UPDATING_MEANING),
        ReportSection("Its updates", *updates_table(rows), UPDATES_MEANING),
        ReportSection("Acceptance that servers count", *served_table(rows), SERVED_MEANING),
        ReportSection("Gain and cost", *why_table(rows), WHY_MEANING),
        ReportSection("Where a round's time goes", *round_table(rows), ROUND_MEANING, ("round",)),
        ReportSection("CUDA graphs", *graph_table(rows), GRAPH_MEANING),
        ReportSection("Losslessness", *lossless_table(rows), LOSSLESS_MEANING),
        ReportSection("Answers", *answer_table(rows), ANSWER_MEANING),
        contamination_section(manifest.contamination, manifest.training),
    ]
    heading = load_heading(rows)
    return [
        replace(section, headers=[heading if header == "conc." else header for header in section.headers])
        for section in found
        if section.lines
    ]


def first_sections(rows: Sequence[Row], manifest: Manifest) -> list[ReportSection]:
    """What stands before the rows: the answer's own table."""
    table = overall_table(overall(rows, manifest.suite.first_stage))
    found = ReportSection("Over all workloads", *table, OVERALL_MEANING, ("overall",))
    return [found] if found.lines else []


OVERALL_MEANING = (
    "Workloads weighted alike, those whose row and vanilla's are valid: τ is their mean, the speedup their geometric "
    "mean. The workloads of a launch share its engines, so the interval is over launches where there are three or "
    "more, each with its workloads' mean, and else over blocks."
)
VERDICT_MEANING = (
    "On throughput; in an open loop on a request's mean latency. Intervals hold the ratio in 95% of such runs: over "
    "launches (every engine started anew) where there are three or more, else only within the launches that there were."
)
LOAD_MEANING = (
    "Requests/s: those finished, over the whole cell; in an open loop of those that arrived. Steady: tokens/s while "
    "the load was steady, ramp-up and drain cut; – where it never was. p50, p95: over requests; latency: from sending "
    "(or arriving, in an open loop) to the last token; gap: between two chunks, of one token or more. Late: by "
    "how much the client sent after the arrival, on average; latencies hold it."
)
WHY_MEANING = (
    "At concurrency 1 the gain is τ / c: tokens a round over what a round costs in vanilla steps; below 1 a draft "
    "costs more than it saves. Crossover: the concurrency at which the arm's throughput "
    "and vanilla's cross."
)
ROUND_MEANING = (
    "Wall clock inside the engine on a CPU, CUDA events on a GPU. Step: mean time of one round at the client. Verify "
    "utilisation: emitted tokens over verified nodes."
)
GRAPH_MEANING = (
    "Of the decode passes or rounds, the share in which the target's pass, the draft's passes and its extension were "
    "CUDA graphs; –: none was captured."
)
LOSSLESS_MEANING = (
    "Identical: greedy outputs equal to vanilla's, token for token; control: vanilla itself at another batch shape. "
    "Outputs that differ are scored again by the target: deficit is how far, in nats, a token was from the best one, "
    "δ how far rounding can put it; gap is between the best two tokens where the outputs part."
)
ANSWER_MEANING = (
    "Right: share of scored answers. Only here, only vanilla: prompts that one of the two alone got right; p: "
    "McNemar's exact test, 1 where they do not differ."
)
CONTAMINATION_MEANING = (
    "In the corpus: prompts of which every turn stands there whole, but for white space. 13-grams: runs of 13 words, "
    "lower-case and without punctuation, of users' turns alone, each counted once; shared ones, in more than a tenth "
    "of the workload's prompts, are its form and do not count. Too short: prompts without a 13-gram that counts."
)


def verdict_table(rows: Sequence[Row]) -> Table:
    """Every pair of valid arms at each point, once."""
    lines: list[list[str]] = []
    told: set[tuple[str, str, str, str, str | None]] = set()
    for row in rows:
        for other, found in row.against.items():
            point = (row.workload, row.load, row.device)
            if (other, row.arm, *point) not in told:
                told.add((row.arm, other, *point))
                lines.append([workload_text(row), load_text(row), found.verdict, found.scope])
    return ["workload", "conc.", "verdict", "interval"], lines


def load_table(rows: Sequence[Row]) -> Table:
    """What a user of a server under load sees, for every row above concurrency 1, in an open loop or with limits."""
    headers = ["arm", "workload", "conc.", "requests/s", "steady", "TTFT ms p50, p95", "TPOT ms p50, p95"]
    headers += ["latency ms p50, p95", "gap ms p50, p95", "late ms"]
    lines = []
    for row in rows:
        if row.concurrency == 1 and row.within_limits is None:
            continue
        spread = row.speed.percentiles
        told = ((spread.ttft_s, 1), (spread.tpot_s, 2), (spread.latency_s, 0), (spread.itl_chunk_s, 1))
        served = fixed(row.speed.served_per_s, 2)
        lines.append(
            [
                arm_text(row),
                workload_text(row),
                load_text(row),
                served if row.offered_per_s is None else f"{served} of {row.offered_per_s:.2f}",
                fixed(row.steady_tokens_per_s, 1),
                *(f"{milliseconds(of.p50, digits)}, {milliseconds(of.p95, digits)}" for of, digits in told),
                milliseconds(row.speed.mean_lateness_s, 1),
            ]
        )
    return headers, lines


def why_table(rows: Sequence[Row]) -> Table:
    """Acceptance length against cost, and where load ends the gain, for every row that has one of them."""
    headers = ["arm", "workload", "conc.", "τ", "c", "τ / c", "crossover"]
    lines = [
        [
            arm_text(row),
            workload_text(row),
            load_text(row),
            fixed(row.acceptance_length, 2),
            fixed(row.step_cost_ratio, 2),
            fixed(row.speed.gain_over_cost, 2),
            fixed(row.crossover_concurrency, 1),
        ]
        for row in rows
        if row.valid and (row.step_cost_ratio is not None or row.crossover_concurrency is not None)
    ]
    return headers, lines


def round_table(rows: Sequence[Row]) -> Table:
    """Where a round's time goes, for every row whose engine measured it."""
    headers = ["arm", "workload", "conc.", "step ms", "draft", "verify", "extend", "other", "verify utilisation"]
    lines = []
    for row in rows:
        split, step_s = row.rounds.round_split, row.rounds.decode_step_s
        if split is None:
            continue
        lines.append(
            [arm_text(row), workload_text(row), load_text(row), milliseconds(step_s, 1)]
            + [f"{share:.0%}" for share in (split.draft, split.verify, split.extend, split.other)]
            + [fixed(row.acceptance.verify_utilisation, 2)]
        )
    return headers, lines


def graph_table(rows: Sequence[Row]) -> Table:
    """Which passes ran in CUDA graphs, for every row whose engine had some."""
    lines = []
    for row in rows:
        shares = row.rounds.graphs
        if shares is not None:
            found = (shares.target, shares.draft, shares.extend)
            texts = [MISSING if share is None else f"{share:.0%}" for share in found]
            lines.append([arm_text(row), workload_text(row), str(row.concurrency), *texts])
    return ["arm", "workload", "conc.", "target", "draft", "extend"], lines


def lossless_table(rows: Sequence[Row]) -> Table:
    """Greedy outputs against vanilla's, for every row that has them."""
    headers = ["arm", "workload", "conc.", "identical", "control", "different"]
    headers += ["first at", "gap", "deficit", "δ", "wrong"]
    lines = []
    for row in rows:
        found = row.lossless
        if found is None:
            continue
        first = found.first_difference
        numbers = [found.largest_gap, found.largest_deficit, found.delta]
        lines.append(
            [
                arm_text(row),
                workload_text(row),
                load_text(row),
                whole_percent(found.share),
                share_text(found.control_share),
                str(found.num_different),
                MISSING if first is None else f"token {first + 1}",
                *(MISSING if number is None else f"{number:.2g}" for number in numbers),
                str(found.num_wrong),
            ]
        )
    return headers, lines


def answer_table(rows: Sequence[Row]) -> Table:
    """Scores of answers beside the speeds, for every row that has them."""
    headers = ["arm", "workload", "conc.", "answers", "right", "only here", "only vanilla", "p"]
    lines = []
    for row in rows:
        found = row.answers
        if found is None:
            continue
        test = found.against_baseline
        against = [MISSING] * 3
        if test is not None:
            against = [str(test.num_only_arm), str(test.num_only_baseline), f"{test.p_value:.2g}"]
        lines.append(
            [
                arm_text(row),
                workload_text(row),
                load_text(row),
                str(found.num_answers),
                f"{found.accuracy:.0%}",
                *against,
            ]
        )
    return headers, lines


def contamination_section(found: Contamination | None, ledgers: Ledgers) -> ReportSection:
    """What of each workload stands in the training corpus; no lines where none was looked at."""
    headers = ["workload", "prompts", "in the corpus", "with a 13-gram", "too short", "13-grams", "found", "shared"]
    if found is None:
        return ReportSection("Contamination", headers, [], "")
    lines = [
        [
            overlap.workload,
            str(overlap.num_prompts),
            str(len(overlap.exact)),
            str(overlap.num_overlapping),
            str(overlap.num_short),
            f"{overlap.num_grams:,}",
            MISSING if not overlap.num_grams else f"{overlap.num_found / overlap.num_grams:.1%}",
            f"{overlap.num_shared:,}",
        ]
        for overlap in found.overlaps
    ]
    corpus = found.corpus_sha256
    own = [arm for arm, ledger in ledgers.items() if ledger and LedgerFacts.of(ledger).corpus_sha256 == corpus]
    whose = f"the ledgers of {', '.join(own)} name it" if own else "no arm's ledger names it"
    skipped = f", {found.num_skipped:,} lines skipped ({found.first_skipped})" if found.num_skipped else ""
    text = f"Corpus {corpus[:8]}, {found.num_conversations:,} conversations{skipped}; {whose}. {CONTAMINATION_MEANING}"
    return ReportSection("Contamination", headers, lines, text)
