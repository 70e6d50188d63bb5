"""A whole run, from its suite to its rows.

What it needs is imported when it is called: other rooms, which import parts of this one, are among it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from draftbench.harness.suite import Suite
    from draftbench.reports.files import Run


def run_suite(
    suite: Suite | Path | str,
    out: Path | str | None = None,
    *,
    suite_folder: Path | None = None,
    suite_text: str | None = None,
    command: str = "run_suite",
    resume: bool = False,
    cold_start: bool = False,
    on: str | None = None,
    cores: int | None = None,
    console: Console | None = None,
    allow: Collection[str] = (),
) -> Run:
    """Find the models, make the reference pass, run the cells, score what differs, read the results.

    The records lie in the run's folder whatever happens; `draftbench.reports.files.write_files` writes result files.

    Args:
        suite: a file, as the command line takes it, or a suite that was read or made.
        out: the run's folder; default runs/NAME-TIME, to resume the newest one.
        suite_folder: where the suite's relative paths begin; default its file's folder, or the current one.
        suite_text: the suite as its user wrote it; default its file's.
        command: what called this, for the manifest.
        resume: go on with an interrupted run.
        cold_start: start every engine with imports of its own, as a shell would.
        on: where launches are spread over several devices (docs/scale.md); None for this host.
        cores: of each of those devices.
        allow: engine arguments that may run code, open ports or read elsewhere, and that are permitted.
        console: where progress is told; default the terminal, or a notebook's output.

    Raises:
        HarnessError: the suite, its models or this host do not allow it; nothing was started.
        KeyboardInterrupt: after the engines have ended and what was measured is kept.
    """
    from draftbench.harness.run.folder import run_folder
    from draftbench.harness.suite import load_suite
    from draftbench.harness.suite.named import find_suite
    from draftbench.harness.suite.named import suite_text as text_of_suite
    from draftbench.harness.terminal import Terminal
    from draftbench.reports.files import read_run

    console = console or Terminal()
    if isinstance(suite, Path | str):
        path = find_suite(Path(suite), console.print)
        suite = load_suite(path, allow)
        suite_folder = path.parent if suite_folder is None else suite_folder
        suite_text = text_of_suite(path) if suite_text is None else suite_text
    suite_text = suite.model_dump_json(indent=1, exclude_unset=True) if suite_text is None else suite_text
    folder = run_folder(None if out is None else Path(out), resume, suite.name)
    measure_suite(
        suite.allowing(allow), folder, suite_folder or Path(), suite_text, command, console,
        resume=resume, cold_start=cold_start, on=on, cores=cores,
    )  # fmt: skip
    return read_run(folder)


def measure_suite(
    suite: Suite, folder: Path, suite_folder: Path, suite_text: str, command: str, console: Console,
    *, resume: bool = False, cold_start: bool = False, on: str | None = None, cores: int | None = None,
) -> None:  # fmt: skip
    """All of `run_suite` but reading the results, which takes memory: what was measured lies in the folder."""
    from draftbench.drafts.api import discover
    from draftbench.harness.cluster import on_ray
    from draftbench.harness.cluster.spread import SpreadRun, check_began_alone, gather
    from draftbench.harness.corpora.contamination import suite_contamination
    from draftbench.harness.errors import EngineError
    from draftbench.harness.host.provenance import has_gpu
    from draftbench.harness.manifest import MANIFEST
    from draftbench.harness.models.fairness import check_fairness
    from draftbench.harness.run.apart import wanted_launches
    from draftbench.harness.run.folder import open_store
    from draftbench.harness.run.live import LiveRun
    from draftbench.harness.run.plan import num_launches, plan_cells
    from draftbench.harness.run.progress import Progress
    from draftbench.harness.run.scoring import check_scoring, score_run
    from draftbench.harness.runtime.fleet import find_fleet
    from draftbench.harness.suite import with_tokenizer
    from draftbench.harness.workloads.conversations import describe
    from draftbench.harness.workloads.dated import dated

    check_scoring(suite)
    if cores is not None and on is None:
        raise EngineError("--cores is of devices that --on names; leave it out, or say --on ray.")
    with ExitStack() as held:
        cluster = None if on is None else held.enter_context(on_ray.connected(on, cores))
        alone = cluster is None
        preload = alone and not (cold_start or resume)
        arms = find_fleet(suite, discover(), suite_folder, folder, alone and has_gpu(), preload=preload)
        suite = dated(suite, arms.target, folder / MANIFEST if resume else None)
        check_fairness(suite, arms.ledgers())
        contamination = suite_contamination(suite, arms.target, console)
        if not alone and arms.updated:
            raise EngineError(
                f"arm {next(iter(arms.updated))} is updated between blocks, which launches on other devices (--on) "
                "cannot be yet; leave --on out."
            )
        if resume and alone:
            check_began_alone(folder)
        ready = (
            {} if cluster is None else gather(cluster, suite, suite_folder, arms.hashes(), cold_start, console.print)
        )
        store = open_store(suite, folder, command, suite_text, resume)
        for sentence in store.mended:
            console.print(sentence, highlight=False, markup=False, soft_wrap=True)
        if arms.endpoints:
            store.note(endpoints={name: endpoint.told for name, endpoint in arms.endpoints.items()})
        suite = with_tokenizer(suite, arms.target)
        with Progress(console) as progress, loops_of_its_own():
            run = (
                LiveRun(suite, arms, store, progress, cold_start)
                if cluster is None
                else SpreadRun(suite, arms, store, progress, cluster, ready)
            )
            run.measure(plan_cells(suite, run.resident))
            if suite.auto is not None:
                first = num_launches(suite)
                run.add_launches(lambda width: wanted_launches(folder, width, first))
            run.rescore()
    score_run(suite, store, run.renderer)
    store.note(
        finished=True,
        models=arms.hashes(),
        training=arms.ledgers(),
        workloads={w.name: describe(w, suite.sampling.seed) for w in suite.workloads},
        contamination=contamination,
    )


@contextmanager
def loops_of_its_own() -> Iterator[None]:
    """Let asyncio.run work where an event loop runs already, as in a notebook: that loop waits meanwhile.

    Another thread would do too, but Ctrl-C would not reach it.
    """
    try:
        outer = asyncio.get_running_loop()
    except RuntimeError:
        yield
        return
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio.set_event_loop(outer)
        asyncio._set_running_loop(outer)
