#!/usr/bin/env python
"""draftbench: compares draft architectures for speculative decoding, all verified by SGLang's own runtime."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from draftbench.harness.metrics.row import Row
    from draftbench.harness.store import RunStore
    from draftbench.harness.suite import Suite
    from draftbench.reports.files import Run

COMMANDS = (
    "run", "plan", "list", "doctor", "report", "explain", "verify", "rerun", "compare", "publish", "selftest",
    "outputs", "contamination", "tune", "train", "schema",
)  # fmt: skip
USAGE = """\
python bench.py SUITE.yaml [--out DIR] [--only ARM,…] [--resume] [--cold-start]   run a suite
python bench.py plan SUITE.yaml     cells, models and sets to download, estimated time, memory; starts nothing
python bench.py list                architectures, workloads, embedded models and their origin
python bench.py doctor [SUITE.yaml] what this host can run, what is missing, and what mends it
python bench.py report RUN          write a run's results again from its records
python bench.py explain [GATE]      what a check looks at, why, and what to do about a finding
python bench.py verify REPORT       make a report again from the records beside it and name what does not match
python bench.py rerun REPORT [--folder DIR] [--out DIR]   run its suite here; verdict for each row: reproduced or not
python bench.py compare RUN_A RUN_B [--fail-on-regression 5%%]   which rows moved, by how much, what differs
python bench.py publish RUN [--name NAME] [--redact WORD] [--yes]   redact it into reports/published/NAME
python bench.py selftest            what the harness itself costs, and whether two equal engines come out equal
python bench.py outputs SUITE.yaml --out FILE   the target's own answers as JSONL, to train drafts on
python bench.py tune SUITE.yaml [--out TUNED.yaml] [--only ARM,…] [--resume]   find each draft's best tree
python bench.py contamination CORPUS.jsonl SUITE.yaml   which prompts and 13-grams stand in a training corpus
python bench.py train RECIPE.yaml [--out DIR] [--resume]   train drafts on one corpus and one budget
python bench.py schema              the suites' JSON Schema, for editors
"""


def main(words: list[str]) -> int:
    """Run one command; errors that a user can mend become a message and exit code 2."""
    args = parse(words)
    from draftbench.harness.errors import HarnessError
    from draftbench.harness.terminal import Terminal

    console = Terminal(width=None if sys.stdout.isatty() else 120)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return int(globals()[f"command_{args.command}"](args, console))
    except HarnessError as error:
        Terminal(stderr=True, soft_wrap=True).print(f"error: {error}", style="red", markup=False, highlight=False)
        return 2
    except KeyboardInterrupt:
        print("interrupted; what was measured is kept, go on with --resume", file=sys.stderr)
        return 130


def parse(words: list[str]) -> argparse.Namespace:
    """Arguments; a first word that is no command is the suite to run."""
    if words and words[0] not in COMMANDS and not words[0].startswith("-"):
        words = ["run", *words]
    parser = argparse.ArgumentParser("bench.py", description=__doc__, usage="\n" + USAGE)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run a suite (the word can be left out)")
    run.add_argument("suite", type=Path)
    run.add_argument("--out", type=Path, help="the run's folder; default runs/NAME-TIME, with --resume the newest one")
    run.add_argument("--only", help="names of arms, separated by commas; the baseline is always kept")
    run.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    run.add_argument(
        "--cold-start", action="store_true", help="start every engine as a shell would, each with imports of its own"
    )
    plan = commands.add_parser("plan", help="show the cells")
    plan.add_argument("suite", type=Path)
    commands.add_parser("list", help="what can be named in a suite")
    doctor = commands.add_parser("doctor", help="check this host")
    doctor.add_argument("suite", type=Path, nargs="?", help="and what this suite needs")
    commands.add_parser("report", help="write the report again").add_argument("run", type=Path)
    explain = commands.add_parser("explain", help="what the checks of a report mean")
    explain.add_argument("gate", nargs="*", help="a gate's name, as the report has it; all of them if left out")
    selftest = commands.add_parser("selftest", help="measure the harness itself")
    selftest.add_argument("--out", type=Path, help="the run's folder; default runs/selftest-TIME")
    selftest.add_argument("--cold-start", action="store_true", help="start every engine as a shell would, slowly")
    commands.add_parser("verify", help="check a report against its records").add_argument("report", type=Path)
    rerun = commands.add_parser("rerun", help="run a report's suite here and compare")
    rerun.add_argument("report", type=Path)
    rerun.add_argument("--folder", type=Path, default=Path(), help="where its models and files are; default here")
    rerun.add_argument("--out", type=Path, help="the new run's folder")
    compare = commands.add_parser("compare", help="compare two runs")
    compare.add_argument("run_a", type=Path)
    compare.add_argument("run_b", type=Path)
    compare.add_argument(
        "--fail-on-regression", type=percentage, metavar="PERCENT", help="exit code 1 for a larger fall"
    )
    publish = commands.add_parser("publish", help="redact a run and publish it")
    publish.add_argument("run", type=Path)
    publish.add_argument("--name", help="under which it is published; default the folder's name")
    publish.add_argument("--redact", action="append", default=[], help="a further name to replace; may be repeated")
    publish.add_argument("--yes", action="store_true", help="publish without asking")
    outputs = commands.add_parser("outputs", help="write the target's own answers")
    outputs.add_argument("suite", type=Path)
    outputs.add_argument("--out", type=Path, required=True, help="JSONL of prompt_ids and output_ids")
    tune = commands.add_parser("tune", help="find each draft's best tree")
    tune.add_argument("suite", type=Path)
    tune.add_argument("--out", type=Path, help="the tuned suite; default SUITE-tuned.yaml beside the suite")
    tune.add_argument("--only", help="names of arms, separated by commas; the baseline is always kept")
    tune.add_argument("--runs", type=Path, help="the folder of its runs; default runs/tune-NAME-TIME")
    tune.add_argument("--resume", action="store_true", help="go on with an interrupted one")
    contamination = commands.add_parser("contamination", help="look for a suite's prompts in a training corpus")
    contamination.add_argument("corpus", type=Path)
    contamination.add_argument("suite", type=Path)
    for reader in (run, plan, doctor, outputs, tune, contamination):
        reader.add_argument(
            "--allow", action="append", default=[], metavar="NAME",
            help="permit an engine argument that may run code, open ports or read elsewhere; may be repeated",
        )  # fmt: skip
    train = commands.add_parser("train", help="train drafts on one corpus and one budget")
    train.add_argument("recipe", type=Path)
    train.add_argument("--out", type=Path, help="the folder of the drafts; default the recipe's, or runs/train-NAME")
    train.add_argument("--resume", action="store_true", help="go on with an interrupted training, or with more drafts")
    commands.add_parser("schema", help="print the suites' JSON Schema")
    return parser.parse_args(words)


def command_run(args: argparse.Namespace, console: Console) -> int:
    """Load a suite, run it, write the report."""
    from draftbench.harness.suite import load_suite

    suite = only(load_suite(args.suite, args.allow), args.only)
    folder = run_folder(args.out, args.resume, suite.name)
    command = "python bench.py " + args.suite.name + (f" --only {args.only}" if args.only else "")
    text, cold = args.suite.read_text(), args.cold_start
    return show(run_suite(suite, args.suite.parent, folder, command, text, args.resume, console, cold), console)


def run_suite(
    suite: Suite,
    suite_folder: Path,
    folder: Path,
    command: str,
    suite_text: str,
    resume: bool,
    console: Console,
    cold: bool = False,
) -> Run:
    """Find the models, make the reference pass, run the cells, score what differs, read the results."""
    from draftbench.drafts.api import discover
    from draftbench.harness.corpora.contamination import suite_contamination
    from draftbench.harness.host.provenance import has_gpu
    from draftbench.harness.metrics.rows import wanted_launches
    from draftbench.harness.models.fairness import check_fairness
    from draftbench.harness.run.live import LiveRun
    from draftbench.harness.run.plan import num_launches, plan_cells
    from draftbench.harness.run.progress import Progress
    from draftbench.harness.run.scoring import check_scoring, score_run
    from draftbench.harness.runtime.arms import find_arms
    from draftbench.harness.suite import with_tokenizer
    from draftbench.harness.workloads.conversations import describe
    from draftbench.reports.files import read_run, rows_of_run

    check_scoring(suite)
    arms = find_arms(suite, discover(), suite_folder, folder, has_gpu())
    check_fairness(suite, arms.ledgers())
    contamination = suite_contamination(suite, arms.target, console)
    store = open_store(suite, folder, command, suite_text, resume)
    if arms.endpoints:
        store.note(endpoints={name: endpoint.told for name, endpoint in arms.endpoints.items()})
    suite = with_tokenizer(suite, arms.target)
    with Progress(console) as progress:
        run = LiveRun(suite, arms, store, progress, cold)
        run.measure(plan_cells(suite, run.resident))
        if suite.auto is not None:
            first = num_launches(suite)
            run.add_launches(lambda width: wanted_launches(rows_of_run(folder, store.manifest()), width, first))
        run.rescore()
    score_run(suite, store, run.renderer)
    store.note(
        finished=True,
        models=arms.hashes(),
        training=arms.ledgers(),
        workloads={w.name: describe(w, suite.sampling.seed) for w in suite.workloads},
        contamination=contamination,
    )
    return read_run(store.folder)


def command_plan(args: argparse.Namespace, console: Console) -> int:
    """Print the cells in their order and what they will cost."""
    from draftbench.harness.models.required import needs_of
    from draftbench.harness.run.plan import estimate, plan_cells
    from draftbench.harness.suite import load_suite

    suite = load_suite(args.suite, args.allow)
    for cell in plan_cells(suite):
        console.print(
            f"launch {cell.launch} block {cell.block} {cell.workload} {cell.load} {cell.arm}", highlight=False
        )
    for line in (*needs_of(suite, args.suite.parent), str(estimate(suite))):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return 0


def command_list(args: argparse.Namespace, console: Console) -> int:
    """Print what a suite can name."""
    from tabulate import tabulate

    from draftbench.drafts.api import broken, discover
    from draftbench.harness.models.find import embedded_names
    from draftbench.harness.workloads.sources import SOURCES

    specs = discover().values()
    rows = [
        (spec.name, spec.title, spec.capabilities if spec.drafts else "–", spec.sglang_algorithm or "–", spec.origin)
        for spec in specs
    ]
    heads = ("architecture", "what it is", "reads; has", "SGLang algorithm", "origin")
    print(tabulate(rows, heads, "simple", maxcolwidths=(None, 44, 36, None, 40)))
    for name, why in broken().items():
        print(f"left out: {name}: {why}")
    print()
    sources = [
        (name, s.title, s.num_prompts, s.home or "–", (s.sha256 or "–")[:12], s.licence) for name, s in SOURCES.items()
    ]
    columns = ("workload source", "what it is", "prompts", "home, pinned", "SHA-256 of the file", "licence")
    print(tabulate(sources, columns, "simple", maxcolwidths=(None, 34, None, 46, None, 24), missingval="–"))
    print()
    print("embedded models:", ", ".join(embedded_names()))
    return 0


def command_doctor(args: argparse.Namespace, console: Console) -> int:
    """Check this host, and what a suite needs; exit code 1 if something is missing."""
    from draftbench.harness.host.doctor import diagnose, diagnose_suite
    from draftbench.harness.suite import load_suite

    findings = diagnose()
    if args.suite is not None:
        findings += diagnose_suite(load_suite(args.suite, args.allow), args.suite.parent)
    for finding in findings:
        console.print(("ok      " if finding.ok else "MISSING ") + finding.text, highlight=False, markup=False)
    return 0 if all(finding.ok for finding in findings) else 1


def command_report(args: argparse.Namespace, console: Console) -> int:
    """Write results.csv, results.json and report.md from a run's records."""
    from draftbench.reports.files import read_run

    return show(read_run(args.run), console)


def command_verify(args: argparse.Namespace, console: Console) -> int:
    """Make a report again from the records beside it; exit code 1 if a number does not match."""
    from draftbench.reports.verify import verify

    verdict = verify(args.report)
    for mismatch in verdict.mismatches:
        console.print(mismatch, highlight=False, markup=False, soft_wrap=True)
    result = f"{len(verdict.mismatches)} do not match" if verdict.mismatches else "all match"
    console.print(f"{verdict.num_numbers} numbers in {', '.join(verdict.files)}: {result}", highlight=False)
    return 1 if verdict.mismatches else 0


def command_rerun(args: argparse.Namespace, console: Console) -> int:
    """Run a report's suite again, from its manifest alone; exit code 1 if a row is not reproduced."""
    from draftbench.harness.suite import check_recorded, relocated
    from draftbench.reports.compare import HEADERS, NOTE, compare
    from draftbench.reports.files import read_run

    folder = args.report if args.report.is_dir() else args.report.parent
    before = read_run(folder)
    suite = relocated(before.manifest.suite, args.folder)
    check_recorded(suite)
    out = args.out or Path("runs") / f"rerun-{suite.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    after = run_suite(suite, args.folder, out, "python bench.py rerun", before.manifest.suite_text, False, console)
    show(after, console)
    moved = compare(before, after)
    rows = [row.cells(row.reproduction()) for row in moved]
    print_table("A: the report, B: here", HEADERS, rows, console)
    console.print(NOTE, highlight=False)
    return 1 if any(row.reproduction().startswith("not reproduced") for row in moved) else 0


def command_compare(args: argparse.Namespace, console: Console) -> int:
    """Show which rows moved between two runs; exit code 1 if one fell by more than is allowed."""
    from draftbench.reports.compare import HEADERS, NOTE, compare, manifest_differences
    from draftbench.reports.files import read_run

    before, after = read_run(args.run_a), read_run(args.run_b)
    moved = compare(before, after)
    print_table(f"A: {args.run_a}, B: {args.run_b}", HEADERS, [row.cells(row.verdict()) for row in moved], console)
    console.print(NOTE, highlight=False)
    for difference in manifest_differences(before.manifest.recorded, after.manifest.recorded):
        console.print(f"differs: {difference}", highlight=False, markup=False, soft_wrap=True)
    if args.fail_on_regression is None:
        return 0
    fallen = [row for row in moved if row.regressed(args.fail_on_regression)]
    for row in fallen:
        console.print(
            f"regression beyond {args.fail_on_regression:.1%}: {', '.join(map(str, row.name))}", highlight=False
        )
    return 1 if fallen else 0


def print_table(title: str, headers: Sequence[str], rows: Sequence[Sequence[str]], console: Console) -> None:
    """Print a table of strings that others chose."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(*headers, title=escape(title))
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)


def percentage(text: str) -> float:
    """`5%` as 0.05."""
    try:
        share = float(text.removesuffix("%")) / 100
    except ValueError:
        share = -1.0
    if not text.endswith("%") or not 0 <= share < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: a percentage from 0% to 99%, for example 5%")
    return share


def command_publish(args: argparse.Namespace, console: Console) -> int:
    """Redact a run, show what was replaced, and put it into reports/published once that is agreed to."""
    from draftbench.reports.publish import prepare
    from draftbench.reports.secrets_in import has_detector

    draft = prepare(args.run, args.name or args.run.resolve().name, tuple(args.redact))
    try:
        for before, after, count in draft.replaced:
            console.print(f"{count:6} × {before} → {after}", highlight=False, markup=False, soft_wrap=True)
        console.print(
            f"{draft.num_prompts} prompts are left out (ids and hashes stay); the token ids of {draft.num_outputs} "
            "outputs are renumbered, prompt by prompt. Arm, workload and category names and all numbers stay.",
            highlight=False,
        )
        if not has_detector():
            console.print("detect-secrets is not installed (make setup): keys were looked for by our own list alone.")
        for mismatch in draft.verdict.mismatches:
            console.print(mismatch, highlight=False, markup=False, soft_wrap=True)
        agreed = args.yes or (sys.stdin.isatty() and input(f"publish as {draft.target}? [y/N] ").lower() == "y")
        if not agreed or draft.verdict.mismatches:
            console.print("nothing was published; --yes publishes without asking.", highlight=False)
            return 1
        console.print(f"published: {draft.publish()}", highlight=False, markup=False)
        return 0
    finally:
        if draft.folder.exists():
            draft.drop()


def command_explain(args: argparse.Namespace, console: Console) -> int:
    """Say what a gate looks at, why, and what to do; or list them."""
    from draftbench.harness.errors import HarnessError
    from draftbench.harness.metrics.gates import GATES
    from draftbench.harness.suite.strict_yaml import nearest

    name = " ".join(args.gate)
    if name and name not in GATES:
        raise HarnessError(f"there is no gate {name}; {nearest(name, sorted(GATES))}")
    for gate, about in GATES.items():
        if gate == name or not name:
            console.print(f"{gate} ({about.severity}, {about.scope})", style="bold", highlight=False, markup=False)
            for text in (about.looks_at, about.why, about.remedy) if name else (about.looks_at,):
                console.print(f"  {text}", highlight=False, markup=False)
    return 0


def command_selftest(args: argparse.Namespace, console: Console) -> int:
    """Measure the client against a null server and two equal engines against each other; exit code 1 if they differ."""
    from draftbench.harness.load.null_server import client_cost
    from draftbench.reports.files import read_run
    from draftbench.reports.sections import verdict_table

    for concurrency in (1, 8, 64):
        cost = client_cost(concurrency)
        console.print(
            f"client at concurrency {concurrency}: {1e6 * cost.per_chunk_s:.0f} µs of processor time a chunk, "
            f"{1e3 * cost.per_request_s:.2f} ms a request",
            highlight=False,
        )
    suite = Path(__file__).parent / "suites" / "selftest.yaml"
    out = args.out or Path("runs") / f"selftest-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    command_run(
        argparse.Namespace(suite=suite, out=out, only=None, resume=False, cold_start=args.cold_start, allow=[]), console
    )
    rows = read_run(out).rows
    print_table("verdicts", *verdict_table(rows), console)
    findings = [f"{row.arm}: {found.gate.name}: {found.evidence}" for row in rows for found in row.findings]
    for finding in findings:
        console.print(finding, highlight=False, markup=False)
    sound = bool(rows) and not findings
    differ = any(found.is_clear for row in rows for found in row.against.values())
    if differ:
        console.print("equal engines came out different: chance alone does that once in twenty; repeat the selftest")
    elif sound:
        console.print("selftest passed: equal engines, no difference")
    return 0 if sound and not differ else 1


def command_outputs(args: argparse.Namespace, console: Console) -> int:
    """Let the target alone answer every turn of a suite's workloads and write token ids, one object a line."""
    from draftbench.harness.corpora.answers import write_outputs
    from draftbench.harness.errors import SuiteError
    from draftbench.harness.suite import load_suite

    suite = load_suite(args.suite, args.allow)
    suite = suite.model_copy(update={"arms": tuple(arm for arm in suite.arms if not arm.is_endpoint)})
    try:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.open("a").close()
    except OSError as error:
        raise SuiteError(f"--out is {args.out}, which cannot be written ({error.strerror}); give a file.") from error
    with args.out.open("w") as file:
        write_outputs(suite, args.suite.parent, file, console.print)
    console.print(f"outputs: {args.out}", highlight=False, markup=False)
    return 0


def command_tune(args: argparse.Namespace, console: Console) -> int:
    """Try trees for every draft on prompts that are not the suite's, and write a suite with the best of them."""
    from draftbench.harness.errors import RecordError
    from draftbench.harness.manifest import MANIFEST
    from draftbench.harness.suite import load_suite
    from draftbench.harness.tune.search import tune_suite

    suite = only(load_suite(args.suite, args.allow), args.only)
    out = args.out or args.suite.with_name(f"{args.suite.stem}-tuned.yaml")
    folder = run_folder(args.runs, args.resume, f"tune-{suite.name}")
    if not args.resume and any(folder.rglob(MANIFEST)):
        raise RecordError(f"{folder} already holds runs; give another --runs, or --resume to go on with them.")

    def measure(stage: Suite, name: str) -> Sequence[Row]:
        command, resume = f"python bench.py tune {args.suite.name}", (folder / name / MANIFEST).exists()
        text = stage.model_dump_json(indent=1, exclude_unset=True)
        run = run_suite(stage, args.suite.parent, folder / name, command, text, resume, console)
        show(run, console)
        return run.rows

    headers, lines = tune_suite(suite, args.suite, out, folder.name, measure, console.print)
    print_table("tuned", headers, lines, console)
    console.print(f"tuned suite: {out}; its runs: {folder}", highlight=False, markup=False, soft_wrap=True)
    return 0


def command_contamination(args: argparse.Namespace, console: Console) -> int:
    """Print how much of a suite's prompts stands in a corpus; exit code 1 if a whole prompt does."""
    from draftbench.harness.corpora.contamination import file_contamination
    from draftbench.harness.models.find import model_folder
    from draftbench.harness.models.required import ledgers_here
    from draftbench.harness.suite import load_suite
    from draftbench.reports.sections import contamination_section

    suite = load_suite(args.suite, args.allow)
    target = model_folder(suite.target.model, args.suite.parent, suite.target.revision)
    found = file_contamination(suite, target, args.corpus, console)
    section = contamination_section(found, ledgers_here(suite, args.suite.parent)[0])
    print_table(section.title, section.headers, section.lines, console)
    console.print(section.meaning, highlight=False, markup=False)
    exact = [f"{overlap.workload}: {prompt}" for overlap in found.overlaps for prompt in overlap.exact]
    for prompt in exact:
        console.print(f"in the corpus: {prompt}", highlight=False, markup=False, soft_wrap=True)
    return 1 if exact else 0


def command_train(args: argparse.Namespace, console: Console) -> int:
    """Train the drafts of a recipe; exit code 1 if one of them failed."""
    from draftbench.harness.train import train

    return train(args.recipe, args.out, args.resume, console)


def command_schema(args: argparse.Namespace, console: Console) -> int:
    """Print the JSON Schema of suites."""
    from draftbench.harness.suite import suite_schema

    print(json.dumps(suite_schema(), indent=2))
    return 0


def only(suite: Suite, names: str | None) -> Suite:
    """The suite with the named arms and the baseline."""
    from draftbench.harness.errors import SuiteError

    if names is None:
        return suite
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    known = [arm.name for arm in suite.arms]
    for name in wanted:
        if name not in known:
            raise SuiteError(f"--only names {name}, which is no arm of {suite.name}; its arms are {', '.join(known)}.")
    kept = tuple(arm for arm in suite.arms if arm.name in wanted or arm.architecture == "vanilla")
    return suite.model_copy(update={"arms": kept})


def run_folder(folder: Path | None, resume: bool, name: str) -> Path:
    """Where the run's files go: named, the newest one to resume, or a new name."""
    from draftbench.harness.errors import RecordError
    from draftbench.harness.manifest import MANIFEST

    if folder is not None:
        return folder
    if not resume:
        return Path("runs") / f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    folders = sorted(Path("runs").glob(f"{name}-{'[0-9]' * 8}-{'[0-9]' * 6}"))
    runs = [path for path in folders if any(path.rglob(MANIFEST))]
    if not runs:
        raise RecordError(f"there is no run of {name} in runs/ to resume; leave --resume out.")
    return runs[-1]


def open_store(suite: Suite, folder: Path, command: str, suite_text: str, resume: bool) -> RunStore:
    """The run's records: new ones, or those to go on with."""
    from draftbench.harness.host.provenance import git_commit, host, package_versions, suite_sha256
    from draftbench.harness.manifest import Manifest
    from draftbench.harness.records import SCHEMA_VERSION
    from draftbench.harness.store import RunStore

    resolved = suite.model_dump(mode="json")
    if resume:
        return RunStore.reopen(folder, suite_sha256(resolved))
    manifest = Manifest(
        version=SCHEMA_VERSION,
        suite=suite,
        suite_text=suite_text,
        suite_sha256=suite_sha256(resolved),
        command=command,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        git_commit=git_commit(),
        host=host(),
        packages=package_versions(),
        finished=False,
    )
    return RunStore.create(folder, manifest)


def show(run: Run, console: Console) -> int:
    """Write a run's result files, print the main table and the report's path; exit code 1 if no row is valid."""
    from draftbench.reports.files import write_files
    from draftbench.reports.terminal import print_rows

    report = write_files(run)
    valid = print_rows(run, console)
    console.print(f"report: {report}", highlight=False, markup=False)
    return 0 if valid else 1


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
