"""How much of a suite's prompts stands in a training corpus: whole prompts, and 13-grams of words.

The prompts are indexed and the corpus is read past them line by line, so memory depends on the prompts alone.

Only what a user's turns themselves say is looked for: chat template, system prompt and instruction are left out, and so
are the 13-grams that many prompts of a workload share, which are its form and not its content.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from draftbench.harness.errors import WorkloadError
from draftbench.harness.suite import Suite, with_tokenizer
from draftbench.harness.workloads.conversations import load_workload
from draftbench.harness.workloads.prompts import Conversation
from draftbench.harness.workloads.render import ChatRenderer

if TYPE_CHECKING:
    from rich.console import Console

N = 13
"""Words of a gram. Source: Brown et al. 2020, Language Models are Few-Shot Learners, appendix C: lower-case words
without punctuation, 13 of them for sets of longer examples."""
SHARED = 0.1
"""A gram in more than this share of a workload's prompts, and in two at least, belongs to the workload's form."""
_WORD = re.compile(r"\w+")
_USER = "qzxjv"
"""Stands for a user's words when the template's own are looked for."""

Gram = tuple[str, ...]
Prompt = tuple[str, str]
"""Workload and prompt id."""


@dataclass(frozen=True)
class Overlap:
    """One workload against the corpus.

    Attributes:
        exact: ids of prompts of which every turn stands whole in one conversation of the corpus.
        num_overlapping: prompts of which any 13-gram is in the corpus.
        num_short: prompts without a 13-gram that counts; of these only `exact` says something.
        num_grams: different 13-grams of the prompts, without shared ones; `num_found` of them are in the corpus.
        num_shared: 13-grams that many of the workload's prompts share; they do not count.
    """

    workload: str
    num_prompts: int
    exact: tuple[str, ...]
    num_overlapping: int
    num_short: int
    num_grams: int
    num_found: int
    num_shared: int


@dataclass(frozen=True)
class Contamination:
    """A suite's workloads against one corpus.

    Attributes:
        num_skipped: lines of the corpus that hold no conversation; `first_skipped` says where and why.
    """

    corpus_sha256: str
    num_conversations: int
    num_skipped: int
    first_skipped: str | None
    overlaps: tuple[Overlap, ...]


def suite_contamination(suite: Suite, target: Path, console: Console) -> Contamination | None:
    """Of the corpus that the suite names; None where it names none, or it is not on this machine."""
    if suite.fairness.corpus is None:
        return None
    corpus = Path(suite.fairness.corpus)
    if not corpus.is_file():
        console.print(f"there is no file {corpus}: prompts are not looked for in it", highlight=False, markup=False)
        return None
    return file_contamination(suite, target, corpus, console)


def file_contamination(suite: Suite, target: Path, corpus: Path, console: Console) -> Contamination:
    """As `find_contamination`, of a file; shows how far it is.

    Raises:
        WorkloadError: the corpus cannot be read, too.
    """
    from rich.progress import Progress

    suite = with_tokenizer(suite, target)
    renderer = ChatRenderer(target, suite.rendering)
    try:
        with Progress(console=console, transient=True) as bar, bar.open(corpus, "rb", description="corpus") as lines:
            return find_contamination(suite, renderer, str(corpus), lines)
    except OSError as error:
        raise WorkloadError(f"{corpus}: cannot be read: {error.strerror}.") from error


def find_contamination(suite: Suite, renderer: ChatRenderer, name: str, lines: Iterable[bytes]) -> Contamination:
    """Look for the suite's prompts in a corpus.

    Args:
        renderer: of the target whose token ids the corpus may hold.
        lines: the corpus, one JSON object each: texts under any key, and token ids under keys that end in `_ids`.
        name: of the corpus, for messages.

    Raises:
        WorkloadError: a workload cannot be loaded, or no line of the corpus holds a conversation.
    """
    index = PromptIndex(
        {
            workload.name: load_workload(workload.model_copy(update={"instruction": ""}), suite.sampling.seed)
            for workload in suite.workloads
        }
    )
    shell = template_words(renderer)
    digest = hashlib.sha256()
    num_conversations = num_skipped = 0
    first_skipped = None
    for number, line in enumerate(lines, 1):
        digest.update(line)
        if not line.strip():
            continue
        try:
            texts = texts_of(json.loads(line), renderer)
        except (ValueError, RecursionError) as error:
            num_skipped += 1
            first_skipped = first_skipped or f"{name}:{number}: {error}"
            continue
        index.look(_without(shell, _plain(text)) for text in texts)
        num_conversations += 1
    if not num_conversations:
        reason = first_skipped or f"{name} is empty"
        raise WorkloadError(f"{reason}; no line of the corpus holds a conversation. It has to be a JSON object a line.")
    return Contamination(digest.hexdigest(), num_conversations, num_skipped, first_skipped, index.overlaps())


class PromptIndex:
    """What is looked for, and what of it was seen."""

    def __init__(self, workloads: Mapping[str, Sequence[Conversation]]) -> None:
        self._prompts = {(name, c.prompt_id): len(c.turns) for name, found in workloads.items() for c in found}
        self._by_text: dict[str, list[tuple[Prompt, int]]] = defaultdict(list)
        self._by_opening: dict[Gram, set[str]] = defaultdict(set)
        self._owners: dict[Gram, set[Prompt]] = defaultdict(set)
        self._seen: set[Gram] = set()
        self._exact: set[Prompt] = set()
        for name, found in workloads.items():
            for conversation in found:
                for turn, raw in enumerate(conversation.turns):
                    self._add((name, conversation.prompt_id), turn, _plain(raw))

    def _add(self, prompt: Prompt, turn: int, text: str) -> None:
        self._by_text[text].append((prompt, turn))
        for place, gram in enumerate(grams_of(text)):
            self._owners[gram].add(prompt)
            if place == 0:
                self._by_opening[gram].add(text)

    def look(self, messages: Iterable[str]) -> None:
        """Take in one conversation of the corpus, its messages with single spaces.

        A turn stands in it if it is one of the messages, or, from 13 words on, stands whole within one.
        """
        turns: set[tuple[Prompt, int]] = set()
        for message in messages:
            turns.update(self._by_text.get(message, ()))
            met = self._owners.keys() & set(grams_of(message))
            self._seen |= met
            for gram in met & self._by_opening.keys():
                for text in self._by_opening[gram]:
                    if text in message:
                        turns.update(self._by_text[text])
        counts = Counter(prompt for prompt, _ in turns)
        self._exact.update(prompt for prompt, count in counts.items() if count == self._prompts[prompt])

    def overlaps(self) -> tuple[Overlap, ...]:
        """What was seen, workload by workload."""
        return tuple(self._overlap(name) for name in dict.fromkeys(name for name, _ in self._prompts))

    def _overlap(self, workload: str) -> Overlap:
        ids = [prompt_id for name, prompt_id in self._prompts if name == workload]
        limit = max(1, SHARED * len(ids))
        own: dict[Gram, list[str]] = {}
        num_shared = 0
        for gram, owners in self._owners.items():
            holders = [prompt_id for name, prompt_id in owners if name == workload]
            if len(holders) > limit:
                num_shared += 1
            elif holders:
                own[gram] = holders
        return Overlap(
            workload=workload,
            num_prompts=len(ids),
            exact=tuple(prompt_id for prompt_id in ids if (workload, prompt_id) in self._exact),
            num_overlapping=len({holder for gram in own.keys() & self._seen for holder in own[gram]}),
            num_short=len(ids) - len({holder for holders in own.values() for holder in holders}),
            num_grams=len(own),
            num_found=len(own.keys() & self._seen),
            num_shared=num_shared,
        )


def grams_of(text: str) -> Iterator[Gram]:
    """Every run of 13 words, lower-case and without punctuation."""
    words = _WORD.findall(text.lower())
    return zip(*(words[start:] for start in range(N)), strict=False)


def texts_of(record: Any, renderer: ChatRenderer) -> list[str]:
    """Every text in a record of a corpus, whatever its key; token ids as the texts between special tokens.

    Raises:
        ValueError: it is no object, or there is no text in it.
    """
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    found = list(_texts(record, renderer))
    if not found:
        raise ValueError("no text and no token ids in it")
    return found


def _texts(value: Any, renderer: ChatRenderer) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, renderer)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key.endswith("_ids") and isinstance(item, list):
                yield from renderer.pieces(item)
            else:
                yield from _texts(item, renderer)


def template_words(renderer: ChatRenderer) -> tuple[str, str]:
    """What the chat template puts before and after a user's words without a special token between."""
    pieces = map(_plain, renderer.pieces(renderer.render([{"role": "user", "content": _USER}])))
    before, _, after = next((piece.partition(_USER) for piece in pieces if _USER in piece), ("", "", ""))
    return before, after


def _without(shell: tuple[str, str], text: str) -> str:
    before, after = shell
    if text.startswith(before) and text.endswith(after) and len(text) >= len(before) + len(after):
        return text[len(before) : len(text) - len(after)]
    return text


def _plain(text: str) -> str:
    """The text with single spaces between its words."""
    return " ".join(unicodedata.normalize("NFC", text).split())
