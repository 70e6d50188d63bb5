"""A training's corpus as token ids: answered by the target through its engine, or with its own answers.

Written as JSONL in the order of the sources, so that the same recipe gives the same file. Answers are kept as they
come, so that an interrupted run asks only what is missing.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from drafts.api import discover
from drafts.layout import context_tokens
from drafts.training.settings import Corpus, Training
from harness.errors import SuiteError, WorkloadError
from harness.load.prompts import Prompt
from harness.models import read_config
from harness.provenance import file_sha256, has_gpu
from harness.records import RequestRecord
from harness.reference import collect_outputs, first_prompts
from harness.runtime.arms import find_arms
from harness.suite import Arm, LoadPoint, Sampling, Suite, with_tokenizer
from harness.workloads.dialogues import dialogues, learnable
from harness.workloads.load import describe, load_set
from harness.workloads.render import ChatRenderer

Announce = Callable[[str], None]


def answer(
    suite: Suite,
    suite_folder: Path,
    announce: Announce,
    keep: Callable[[Prompt, RequestRecord], None],
    wanted: Callable[[Prompt], bool] = lambda prompt: True,
) -> None:
    """Let a suite's target answer the first turn of every wanted conversation, on an engine of its own.

    Raises:
        SuiteError: the suite has no arm that an engine could be started for.
        WorkloadError, EngineError: as `collect_outputs`.
    """
    with TemporaryDirectory() as folder:
        arms = find_arms(suite, discover(), suite_folder, Path(folder), has_gpu())
        if arms.reference is None:
            raise SuiteError(f"{suite.name} has endpoints alone; outputs are made by an engine. Add a vanilla arm.")
        suite = with_tokenizer(suite, arms.target)
        with arms.pool(lambda name: announce(f"starting {name}")) as pool:
            renderer = ChatRenderer(arms.target, suite.rendering)
            collect_outputs(suite, pool.get(arms.reference), renderer, arms.context_tokens, keep, wanted)


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
        facts["sources"] = {workload.name: describe(workload, seed) for workload in suite.workloads}
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
    """Every prompt that fits with the target's answer."""
    renderer = ChatRenderer(target, suite.rendering)
    room = min(context_tokens(read_config(target)), suite.max_total_tokens, corpus.longest or suite.max_total_tokens)
    prompts = []
    for workload in suite.workloads:
        skipped = load_set(workload, suite.sampling.seed).num_skipped
        if skipped:
            counts[f"malformed records of {workload.name}"] += skipped
        for prompt in first_prompts(suite, workload, renderer):
            if len(prompt.prompt_ids) + prompt.max_tokens > room:
                counts[f"prompts of {workload.name} that leave no room for {prompt.max_tokens} tokens in {room}"] += 1
            else:
                prompts.append(prompt)
    known: dict[tuple[int, ...], list[list[int]]] = defaultdict(list)
    for line in kept.read_text().splitlines() if kept.exists() else []:
        if line.endswith("}"):  # the last one may be half written
            record = json.loads(line)
            known[tuple(record["prompt_ids"])].append(record["output_ids"])
    answers: dict[tuple[str, str], list[int]] = {}
    for prompt in prompts:
        if known[prompt.prompt_ids]:
            answers[prompt.workload, prompt.prompt_id] = known[prompt.prompt_ids].pop(0)
    missing = {(p.workload, p.prompt_id) for p in prompts} - answers.keys()
    if missing:
        announce(f"{len(missing)} of {len(prompts)} prompts are to be answered by the target")
        with kept.open("a") as file:

            def keep(prompt: Prompt, record: RequestRecord) -> None:
                answers[prompt.workload, prompt.prompt_id] = list(record.output_ids)
                file.write(json.dumps({"prompt_ids": prompt.prompt_ids, "output_ids": record.output_ids}) + "\n")
                file.flush()
                if len(answers) % max(1, len(prompts) // 10) == 0:
                    announce(f"{len(answers)} of {len(prompts)} prompts answered")

            answer(suite, target, announce, keep, lambda prompt: (prompt.workload, prompt.prompt_id) in missing)
    for prompt in prompts:
        output = answers[prompt.workload, prompt.prompt_id]
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


def _write(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    os.replace(part, path)
