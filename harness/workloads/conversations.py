"""From a suite's workload to its conversations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from itertools import islice
from pathlib import Path

from draftbench.harness.errors import WorkloadError
from draftbench.harness.facts import WorkloadFacts
from draftbench.harness.host.provenance import file_sha256
from draftbench.harness.suite import Workload
from draftbench.harness.workloads import synthetic
from draftbench.harness.workloads.own_answers import own_answer
from draftbench.harness.workloads.prompts import Conversation, Exact, chosen
from draftbench.harness.workloads.published import home_rows, local_rows, record_of
from draftbench.harness.workloads.random_words import random_prompts
from draftbench.harness.workloads.sets import MAKERS, UnresolvedError, question
from draftbench.harness.workloads.sources import EAGLE, EAGLE_QUESTIONS, SOURCES, HubSet, RepositoryFile
from draftbench.harness.workloads.user_files import PlacedValue, layout_of
from draftbench.harness.workloads.windows import windows_of

QUESTION_COPIES = frozenset({"gsm8k", "humaneval", "mbpp", "alpaca", "cnn_dm", "natural_questions", "math500"})
"""Sets that are also passed around in FastChat's layout."""

ANSWERS = ("answer", "reference")
"""Keys under which records say what is right."""


@dataclass(frozen=True)
class LoadedSet:
    """A workload's conversations, and what became of the records that were none."""

    conversations: tuple[Conversation, ...]
    num_skipped: int
    """Malformed or too long records that the suite lets pass."""

    @property
    def sha256(self) -> str:
        """Hash over the ids, systems and turns, in their order."""
        digest = sha256()
        for conversation in self.conversations:
            parts = (conversation.prompt_id, conversation.system, conversation.turns, *conversation.later)
            digest.update(repr(parts).encode())
        return digest.hexdigest()


def load_workload(workload: Workload, seed: int) -> tuple[Conversation, ...]:
    """A workload's conversations, chosen by the seed.

    Raises:
        WorkloadError: as `load_set`.
    """
    return load_set(workload, seed).conversations


@cache
def load_set(workload: Workload, seed: int) -> LoadedSet:
    """A workload's conversations, chosen by the seed, with the count of skipped records.

    Raises:
        WorkloadError: a file or set cannot be read, a record is malformed and not to be skipped, an id comes twice,
            or there are not enough.
    """
    found, num_skipped = _generated(workload, seed), 0
    if found is None:
        found, num_skipped = _read(workload)
    seen: set[str] = set()
    for conversation in found:
        if conversation.prompt_id in seen:
            raise WorkloadError(
                f"workload {workload.name}: the id {conversation.prompt_id} comes twice; make it unique."
            )
        seen.add(conversation.prompt_id)
    if not found:
        raise WorkloadError(f"workload {workload.name}: {workload.path or workload.source} holds no prompts.")
    if workload.system is not None:
        found = [replace(conversation, system=workload.system) for conversation in found]
    try:
        return LoadedSet(_picked(found, workload, seed), num_skipped)
    except WorkloadError as error:
        raise WorkloadError(f"workload {workload.name}: {error}") from error


def _picked(found: list[Conversation], workload: Workload, seed: int) -> tuple[Conversation, ...]:
    """The conversations that the suite tests, or, for `tune_prompts`, as many that share no text with those."""
    made_here = SOURCES[workload.source].synthetic
    tested = tuple(found[: workload.num_prompts]) if made_here else chosen(found, workload.num_prompts, seed)
    if workload.tune_prompts is None:
        return tested
    texts = {conversation.turns for conversation in tested}
    others = [conversation for conversation in found if conversation.turns not in texts]
    if workload.tune_prompts > len(others):
        raise WorkloadError(
            f"it has {len(found)} prompts and {len(tested)} are the test's; {len(others)} are left to tune on, "
            f"{workload.tune_prompts} are asked for. Lower num_prompts or tune.prompts."
        )
    return chosen(others, workload.tune_prompts, seed)


def describe(workload: Workload, seed: int) -> WorkloadFacts:
    """What a manifest says of a workload."""
    source, home, loaded = SOURCES[workload.source], home_of(workload), load_set(workload, seed)
    path = None if workload.path is None else Path(workload.path)
    digest = file_sha256(path) if path is not None and path.is_file() else None
    return WorkloadFacts(
        source=workload.source,
        synthetic=source.synthetic,
        home=None if home is None or path is not None else str(home),
        file_sha256=digest,
        licence=source.licence if path is None or (digest and digest == source.sha256) else None,
        num_prompts=len(loaded.conversations),
        num_skipped=loaded.num_skipped,
        num_answers=sum(conversation.answer is not None for conversation in loaded.conversations),
        num_unscored=sum(conversation.unscored for conversation in loaded.conversations),
        prompts_sha256=loaded.sha256,
    )


def home_of(workload: Workload) -> HubSet | RepositoryFile | None:
    """Where a workload's set comes from if no path is given, at the suite's revision and subset if it names them."""
    home = SOURCES[workload.source].home
    if workload.subset == EAGLE and workload.source in EAGLE_QUESTIONS:
        return EAGLE_QUESTIONS[workload.source]
    if isinstance(home, HubSet):
        home = replace(home, revision=workload.revision or home.revision, config=workload.subset or home.config)
    return home


def _generated(workload: Workload, seed: int) -> list[Conversation] | None:
    """The test's prompts first, then those to tune on; None for sources that are read."""
    count = (workload.num_prompts or 0) + (workload.tune_prompts or 0)
    if workload.source == "synthetic":
        assert workload.family is not None, "load_suite checks that"
        tasks = islice(synthetic.generate(workload.family, workload.split, seed), count)
        return [
            Conversation(f"{workload.family}-{number}", workload.family, (task.prompt,), answer=Exact(task.answer))
            for number, task in enumerate(tasks)
        ]
    if workload.source == "random":
        assert workload.prompt_tokens is not None, "load_suite checks that"
        assert workload.tokenizer is not None, "with_tokenizer has set it"
        folder = Path(workload.tokenizer)
        texts = random_prompts(folder, workload.prompt_tokens, count, seed)
        return [Conversation(f"random-{number}", "random", (text,)) for number, text in enumerate(texts)]
    if workload.source == "windows":
        assert workload.path is not None, "load_suite checks that"
        assert workload.window_tokens is not None, "load_suite checks that"
        assert workload.tokenizer is not None, "with_tokenizer has set it"
        stride = workload.stride_tokens or workload.window_tokens
        cut = windows_of(Path(workload.path), Path(workload.tokenizer), workload.window_tokens, stride)
        before = workload.instruction or ""
        return [Conversation(f"windows-{start}", "windows", (before + text,)) for start, text in cut]
    return None


def _read(workload: Workload) -> tuple[list[Conversation], int]:
    found, num_skipped = [], 0
    for number, (place, row) in enumerate(rows_of(workload)):
        try:
            conversation = _conversation(workload, place, number, row)
        except UnresolvedError:
            raise
        except WorkloadError:
            if workload.malformed == "refuse":
                raise
            num_skipped += 1
            continue
        if conversation is not None:
            found.append(conversation)
    return found, num_skipped


def rows_of(workload: Workload) -> Iterator[PlacedValue]:
    """The records of a workload's file or set, each with its place."""
    home = home_of(workload)
    if workload.path is not None:
        column = workload.field if isinstance(workload.field, int) else None
        return local_rows(Path(workload.path), home, column)
    assert home is not None, "load_suite asks for a path"
    return home_rows(home)


def _conversation(workload: Workload, place: str, number: int, row: object) -> Conversation | None:
    instruction = SOURCES[workload.source].instruction if workload.instruction is None else workload.instruction
    record = record_of(row, place, is_text(workload))
    if isinstance(workload.field, str):
        record = {**record, "prompt": _named(record, workload.field, place)}
    make = MAKERS[workload.source]
    # Spec-Bench's and EAGLE's copies of other sets are in FastChat's layout, with their instructions in the turns.
    if "turns" in record and workload.source in QUESTION_COPIES:
        make, instruction = question(workload.source), workload.instruction or ""
    conversation = make(record, place, number, instruction)
    if conversation is None:
        return None
    if workload.answer is not None:
        conversation = replace(conversation, answer=own_answer(record, workload.answer, place))
    elif conversation.answer is None and any(record.get(key) for key in ANSWERS):
        conversation = replace(conversation, unscored=True)
    longest = max(map(len, conversation.turns))
    if not all(turn.strip() for turn in conversation.turns):
        raise WorkloadError(f"{place}: a turn is empty.")
    _check_text(conversation, place)
    if workload.max_prompt_chars is not None and longest > workload.max_prompt_chars:
        raise WorkloadError(
            f"{place}: a turn has {longest} characters, max_prompt_chars is {workload.max_prompt_chars}."
        )
    return conversation


def is_text(workload: Workload) -> bool:
    """Whether each line of its file is a prompt."""
    return workload.source == "prompts" and workload.path is not None and layout_of(Path(workload.path)) == "text"


def _named(record: dict[str, object], field: str, place: str) -> object:
    if field not in record:
        raise WorkloadError(f"{place}: there is no {field} in it; its keys are {', '.join(record)}.")
    return record[field]


def _check_text(conversation: Conversation, place: str) -> None:
    """Half a surrogate is no character, and nothing could be written down of it."""
    texts = (conversation.prompt_id, conversation.category, conversation.system, *conversation.turns)
    for text in (*texts, *(later for _, later in conversation.later)):
        try:
            (text or "").encode()
        except UnicodeEncodeError as error:
            raise WorkloadError(f"{place}: {text!r:.60} holds {error.object[error.start]!r}, no character.") from error
