"""A training's corpus as token ids: answered by the target through its engine, or with its own answers.

Written as JSONL in the order of the sources, so that the same recipe gives the same file. Answers are kept as they
come, so that an interrupted run asks only what is missing.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO

from draftbench.drafts.api import discover
from draftbench.drafts.layout import context_tokens
from draftbench.drafts.training.settings import Corpus, Training
from draftbench.harness.engine import Engine
from draftbench.harness.errors import EngineError, SuiteError, WorkloadError
from draftbench.harness.host.provenance import file_sha256, has_gpu
from draftbench.harness.load.requests import Prompt
from draftbench.harness.models.find import read_target
from draftbench.harness.records import CellKey, RequestRecord
from draftbench.harness.run.rendered import check_fit, converse
from draftbench.harness.run.send import run_loop, sampling_parameters, why
from draftbench.harness.runtime.fleet import find_fleet
from draftbench.harness.suite import Arm, LoadPoint, Sampling, Suite, with_tokenizer
from draftbench.harness.workloads.conversations import describe, load_set
from draftbench.harness.workloads.dialogues import dialogues, learnable
from draftbench.harness.workloads.render import ChatRenderer

Announce = Callable[[str], None]
Keep = Callable[[Prompt, RequestRecord], None]
Ask = Callable[[Sequence[Prompt], Keep], None]
"""Lets the target answer prompts of one turn; each answer is handed over as it comes."""


@contextmanager
def asking(suite: Suite, suite_folder: Path, announce: Announce) -> Iterator[tuple[Ask, ChatRenderer, Suite]]:
    """What asks a suite's target, on an engine that is started with the first question; what renders for it; the suite
    with the target's tokenizer.

    Raises:
        SuiteError: the suite has no arm that an engine could be started for.
        WorkloadError, EngineError: as `answer_prompts`.
    """
    with TemporaryDirectory() as folder, ExitStack() as stack:
        arms = find_fleet(suite, discover(), suite_folder, Path(folder), has_gpu())
        if arms.reference is None:
            raise SuiteError(f"{suite.name} has endpoints alone; outputs are made by an engine. Add a vanilla arm.")
        reference, resolved = arms.reference, with_tokenizer(suite, arms.target)
        engines: list[Engine] = []

        def ask(prompts: Sequence[Prompt], keep: Keep) -> None:
            if not engines:
                started = arms.forking(announce).pool(lambda name: announce(f"starting {name}"))
                pool = stack.enter_context(started)
                engines.append(pool.get(reference))
            answer_prompts(resolved, engines[0], arms.context_tokens, prompts, keep)

        yield ask, ChatRenderer(arms.target, resolved.rendering), resolved


def answer_prompts(
    suite: Suite,
    engine: Engine,
    context_tokens: int,
    prompts: Sequence[Prompt],
    keep: Callable[[Prompt, RequestRecord], None],
) -> None:
    """The target's own answers to one turn of a workload's conversations, as many at once as an engine runs.

    Raises:
        WorkloadError: a prompt does not fit.
        EngineError: a request failed.
    """
    check_fit(prompts, context_tokens, suite)
    by_id = {prompt.prompt_id: prompt for prompt in prompts}

    def pair(record: RequestRecord) -> None:
        if record.error is not None:
            raise EngineError(f"{record.prompt_id} failed: {why(engine, record)}")
        keep(by_id[record.prompt_id], record)

    if prompts:
        cell = CellKey(
            launch=0, block=0, arm="outputs", workload=prompts[0].workload, concurrency=suite.running_requests
        )
        run_loop(engine, cell, prompts, sampling_parameters(suite), pair)


def write_outputs(suite: Suite, suite_folder: Path, out: TextIO, announce: Announce) -> None:
    """The target's answers to every turn of a suite's workloads, as they come.

    Raises:
        SuiteError, WorkloadError, EngineError: as `asking`.
    """
    with asking(suite, suite_folder, announce) as (ask, renderer, resolved):

        def answers(batch: list[Prompt]) -> dict[str, tuple[int, ...]]:
            found: dict[str, tuple[int, ...]] = {}

            def keep(prompt: Prompt, record: RequestRecord) -> None:
                found[prompt.prompt_id] = record.output_ids
                _write_line(out, {"prompt_ids": prompt.prompt_ids, "output_ids": record.output_ids})

            ask(batch, keep)
            return found

        for workload in resolved.workloads:
            for _ in converse(resolved, workload, renderer, answers):
                pass


def prepare_corpus(
    training: Training, corpus: Corpus, name: str, target: Path, folder: Path, announce: Announce
) -> tuple[Path, dict[str, Any]]:
    """The corpus as JSONL of token ids, and what a ledger says of it; what is there already is not made again.

    Args:
        name: of its files in `folder`.
        target: the target's folder.

    Raises:
        WorkloadError: it cannot be read, or holds nothing.
        EngineError: the engine failed; answers so far are kept.
    """
    facts: dict[str, Any] = {"responses": corpus.responses, "sampling": None}
    if corpus.sampling is not None:
        facts["sampling"] = corpus.sampling.model_dump(mode="json")
    if corpus.tokens is not None:
        return Path(corpus.tokens), facts
    assert corpus.sources is not None, "the recipe was checked"
    out, about = folder / f"{name}.jsonl", folder / f"{name}.json"
    asked = corpus.model_dump(mode="json")
    if about.exists() and out.exists():
        found = json.loads(about.read_text())
        if found["corpus"] == asked and found["sha256"] == file_sha256(out):
            return out, found["facts"]
    suite = with_tokenizer(_suite(training, corpus, target), target)
    make = _answered if corpus.responses == "target" else _as_it_is
    counts: dict[str, int] = defaultdict(int)
    part = folder / f"{name}.jsonl.part"
    with part.open("w") as file:
        for line in make(suite, corpus, target, folder / f"{name}-answers.jsonl", counts, announce):
            file.write(json.dumps(line) + "\n")
    if not part.stat().st_size:
        raise WorkloadError(f"the {name} holds nothing to learn from; left out: {dict(counts) or 'nothing'}.")
    part.replace(out)
    seed = suite.sampling.seed
    if corpus.responses == "target":
        facts["sources"] = {workload.name: describe(workload, seed).said() for workload in suite.workloads}
    else:
        facts["sources"] = {workload.name: {"source": workload.source} for workload in suite.workloads}
    facts["left_out"] = dict(counts)
    for reason, count in counts.items():
        announce(f"{name}: left out {count} {reason}")
    saved = {"corpus": asked, "sha256": file_sha256(out), "facts": facts}
    _write(about, json.dumps(saved, indent=1) + "\n")
    return out, facts


def _suite(training: Training, corpus: Corpus, target: Path) -> Suite:
    """The suite that asks the target; malformed records are left out and counted."""
    assert corpus.sources is not None
    return Suite.model_validate(
        {
            "version": 1,
            "name": training.name,
            "target": training.target.model_copy(update={"model": str(target), "revision": None}),
            "arms": (Arm.model_validate({"name": "vanilla", "architecture": "vanilla"}),),
            "workloads": tuple(source.model_copy(update={"malformed": "skip"}) for source in corpus.sources),
            "sampling": corpus.sampling or Sampling(temperature=0, max_tokens=1, seed=0),
            "load": (LoadPoint.model_validate({"concurrency": corpus.concurrency}),),
            "blocks": 1,
            "max_total_tokens": corpus.max_total_tokens,
        }
    )


def _answered(
    suite: Suite, corpus: Corpus, target: Path, kept: Path, counts: dict[str, int], announce: Announce
) -> Iterator[dict[str, Any]]:
    """Every turn of every conversation with the target's answer, as long as the conversation fits."""
    room = min(context_tokens(read_target(target)), suite.max_total_tokens, corpus.longest or suite.max_total_tokens)
    known: dict[tuple[int, ...], list[list[int]]] = defaultdict(list)
    for line in kept.read_text().splitlines() if kept.exists() else []:
        if line.endswith("}"):  # the last one may be half written
            record = json.loads(line)
            known[tuple(record["prompt_ids"])].append(record["output_ids"])
    with kept.open("a") as file, asking(suite, target, announce) as (ask, renderer, _):

        def answers(batch: list[Prompt]) -> dict[str, Sequence[int]]:
            fitting = [prompt for prompt in batch if len(prompt.prompt_ids) + prompt.max_tokens <= room]
            if len(fitting) < len(batch):
                limit = batch[0].max_tokens
                reason = f"prompts of {batch[0].workload} that leave no room for {limit} tokens in {room}"
                counts[reason] += len(batch) - len(fitting)
            found: dict[str, Sequence[int]] = {
                prompt.prompt_id: known[prompt.prompt_ids].pop(0) for prompt in fitting if known[prompt.prompt_ids]
            }
            missing = [prompt for prompt in fitting if prompt.prompt_id not in found]
            if missing:
                title = f"{batch[0].workload}, turn {batch[0].turn + 1}"
                announce(f"{title}: {len(missing)} of {len(fitting)} prompts are to be answered by the target")
                ask(missing, kept_in(found, title, len(fitting)))
            return found

        def kept_in(found: dict[str, Sequence[int]], title: str, count: int) -> Keep:
            def keep(prompt: Prompt, record: RequestRecord) -> None:
                found[prompt.prompt_id] = record.output_ids
                _write_line(file, {"prompt_ids": prompt.prompt_ids, "output_ids": record.output_ids})
                if len(found) % max(1, count // 10) == 0:
                    announce(f"{title}: {len(found)} of {count} prompts answered")

            return keep

        for workload in suite.workloads:
            skipped = load_set(workload, suite.sampling.seed).num_skipped
            if skipped:
                counts[f"malformed records of {workload.name}"] += skipped
            for prompt, output in converse(suite, workload, renderer, answers):
                yield {"group": prompt.workload, "prompt_ids": prompt.prompt_ids, "output_ids": output}


def _as_it_is(
    suite: Suite, corpus: Corpus, target: Path, kept: Path, counts: dict[str, int], announce: Announce
) -> Iterator[dict[str, Any]]:
    """Every conversation or text with the answers that it has."""
    renderer = ChatRenderer(target, suite.rendering)
    for workload in suite.workloads:
        for place, dialogue in dialogues(workload, suite.sampling.seed):
            try:
                if isinstance(dialogue, WorkloadError):
                    raise dialogue
                found = learnable(dialogue, renderer)
            except WorkloadError as error:
                reason = f"malformed records of {workload.name}"
                if not counts[reason]:
                    announce(f"left out: {error if place in str(error) else f'{place}: {error}'}")
                counts[reason] += 1
                continue
            yield {"group": workload.name, "ids": found.ids, "spans": found.spans}


def _write_line(file: TextIO, line: Mapping[str, Any]) -> None:
    file.write(json.dumps(line) + "\n")
    file.flush()


def _write(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    os.replace(part, path)
