"""Prompts looked for in a training corpus: hand-worked overlaps, and what does not count."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from draftbench import bench
from draftbench.harness.corpora.contamination import Contamination, Overlap, find_contamination, grams_of
from draftbench.harness.errors import SuiteError, WorkloadError
from draftbench.harness.models.find import EMBEDDED
from draftbench.harness.suite import Rendering, Suite, load_suite
from draftbench.harness.workloads.render import ChatRenderer
from draftbench.reports.sections import contamination_section

LONG = "One two three four five six seven eight nine ten eleven twelve thirteen fourteen."
OTHER = "Red orange yellow green blue indigo violet black white grey brown pink gold silver."
TARGET = EMBEDDED / "tiny/target"
SUITE = """\
version: 1
name: look
target: {{model: tiny, dtype: float32}}
arms:
  - {{name: vanilla, architecture: vanilla}}
workloads:
  - {{name: own, source: {source}, path: prompts.jsonl{more}}}
sampling: {{temperature: 0, max_tokens: 8, seed: 0}}
load: [{{concurrency: 1}}]
blocks: 1
"""


def suite(folder: Path, *prompts: str | list[str], source: str = "prompts", more: str = "", end: str = "") -> Suite:
    records = [{"id": str(n), "turns": [p] if isinstance(p, str) else p} for n, p in enumerate(prompts)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "look.yaml").write_text(SUITE.format(source=source, more=more) + end)
    return load_suite(folder / "look.yaml")


def look(found: Suite, *corpus: Any, rendering: Rendering | None = None) -> Overlap:
    return scan(found, (json.dumps(record).encode() for record in corpus), rendering).overlaps[0]


def scan(found: Suite, lines: Iterable[bytes], rendering: Rendering | None = None) -> Contamination:
    return find_contamination(found, ChatRenderer(TARGET, rendering), "corpus.jsonl", lines)


def test_a_gram_is_13_words_in_lower_case_without_punctuation():
    """14 words have two, 12 have none."""
    assert [gram[0] + " " + gram[-1] for gram in grams_of("A, b-c d e f g h i j k l m 14!")] == ["a m", "b 14"]
    assert list(grams_of("a b c d e f g h i j k l")) == []


def test_a_part_of_a_prompt_counts_by_its_grams(tmp_path):
    """The first 13 of 14 words, otherwise spelled, are one of two grams and no whole prompt."""
    text = "so: ONE two three four five six seven eight nine ten eleven twelve thirteen. The end"
    found = look(suite(tmp_path, LONG, OTHER), {"text": text})
    assert (found.num_overlapping, found.num_found, found.num_grams) == (1, 1, 4)
    assert found.exact == ()


def test_a_long_prompt_is_exact_within_a_longer_message(tmp_path):
    """Line breaks do not matter, letters' case does."""
    assert look(suite(tmp_path, LONG), {"text": f"Say:\n{LONG.replace(' ', chr(10))} Thanks."}).exact == ("0",)
    assert look(suite(tmp_path, LONG), {"text": LONG.lower()}).exact == ()


def test_a_short_prompt_is_exact_only_as_a_whole_message(tmp_path):
    """It has no 13-gram, and within a longer text it means nothing."""
    found = look(
        suite(tmp_path, "Why?", "How?"), {"text": "Tell me: Why? Because."}, {"messages": [{"content": "How?"}]}
    )
    assert found.exact == ("1",)
    assert (found.num_short, found.num_grams, found.num_overlapping) == (2, 0, 0)


@pytest.mark.parametrize("template", [None, "A chat.\nUSER: {{ messages[0].content }} ASSISTANT:"])
@pytest.mark.parametrize("text", [LONG, "Why is that so?"])
def test_token_ids_are_found_under_any_template(tmp_path, template, text):
    """Rendered with special tokens or with words around it, short or long, a prompt is found; its answer is not it."""
    if template is not None:
        (tmp_path / "t.jinja").write_text(template)
    rendering = Rendering(template=None if template is None else str(tmp_path / "t.jinja"))
    ids = ChatRenderer(TARGET, rendering).render([{"role": "user", "content": text}])
    found = look(suite(tmp_path, text, "USER"), {"prompt_ids": ids, "output_ids": ids[:3]}, rendering=rendering)
    assert found.exact == ("0",)


def test_what_the_harness_adds_to_prompts_does_not_count(tmp_path):
    """System prompt and instruction, however long, are in the corpus; the text itself is not."""
    words = "Please read all of the following text with care and then sum it up in brief: "
    record = tmp_path / "prompts.jsonl"
    found = suite(tmp_path, LONG, source="cnn_dm", more=f', instruction: "{words}", system: "{words}"')
    record.write_text(json.dumps({"id": "a", "article": LONG}) + "\n")
    overlap = look(found, {"text": words + OTHER}, {"text": words + "one two"})
    assert (overlap.num_grams, overlap.num_found) == (2, 0)
    assert look(found, {"text": words + LONG}).exact == ("cnn_dm-0",)


def test_the_form_that_prompts_share_does_not_count(tmp_path):
    """13 words with which two of three prompts begin are told apart from the words of their own."""
    form = "Read this passage and answer the question that stands at its end please"
    found = look(suite(tmp_path, f"{form} Apples.", f"{form} Pears.", OTHER), {"text": f"{form} Plums."})
    assert (found.num_shared, found.num_grams, found.num_found, found.num_overlapping) == (1, 4, 0, 0)


def test_a_conversation_is_exact_if_one_conversation_holds_all_its_turns(tmp_path):
    """Its turns in two conversations of the corpus are not."""
    talk = suite(tmp_path, [LONG, "Why?"])
    assert look(talk, {"turns": [LONG]}, {"turns": ["Why?"]}).exact == ()
    assert look(talk, {"turns": [LONG, "Because.", "Why?"]}).exact == ("0",)


def test_lines_that_hold_no_conversation_are_counted(tmp_path):
    """The first is told with its place; a corpus of nothing else is refused."""
    found = scan(suite(tmp_path, LONG), [b"{\n", b"\n", b'{"prompt_ids": [-1]}\n', b"[1]\n", b'{"text": "x"}\n'])
    assert (found.num_conversations, found.num_skipped) == (1, 3)
    assert str(found.first_skipped).startswith("corpus.jsonl:1: ")
    with pytest.raises(WorkloadError, match=r"corpus\.jsonl:1: not a JSON object; no line of the corpus"):
        scan(suite(tmp_path, LONG), [b"7\n"])


def test_memory_does_not_grow_with_the_corpus(tmp_path):
    """Five megabytes of new words need less than half of one."""
    found = suite(tmp_path, LONG)
    lines = (json.dumps({"text": " ".join(f"w{n}x{k}" for k in range(200))}).encode() for n in range(3000))
    tracemalloc.start()
    assert scan(found, lines).num_conversations == 3000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000


def test_a_corpus_that_is_not_there_is_told_with_its_line(tmp_path):
    """Paths are relative to the suite."""
    with pytest.raises(SuiteError, match=r"look\.yaml:11: fairness.corpus: there is no file .*gone\.jsonl"):
        suite(tmp_path, LONG, end="fairness: {corpus: gone.jsonl}\n")


def test_the_report_says_whose_corpus_it_is(tmp_path):
    """By the hash in the arms' ledgers; a share of no grams is none."""
    overlap = Overlap(
        "w", num_prompts=8, exact=("p",), num_overlapping=2, num_short=1, num_grams=40, num_found=10, num_shared=3
    )
    found = Contamination("ab" * 32, num_conversations=3500, num_skipped=0, first_skipped=None, overlaps=(overlap,))
    ledgers = {
        "eagle": {"data": {"corpus_sha256": "ab" * 32}},
        "hass": {"data": {"corpus_sha256": "cd" * 32}},
        "x": None,
    }
    section = contamination_section(found, ledgers)
    assert section.lines == [["w", "8", "1", "2", "1", "40", "25.0%", "3"]]
    assert section.meaning.startswith("Corpus abababab, 3,500 conversations; the ledgers of eagle name it.")
    assert contamination_section(None, {}).lines == []


def test_the_command_names_the_prompts_that_are_in_the_corpus(tmp_path, capsys):
    """And says so by its exit code."""
    suite(tmp_path, LONG, OTHER)
    corpus = tmp_path / "corpus.jsonl"
    for text, code in ((LONG, 1), ("nothing of it", 0)):
        corpus.write_text(json.dumps({"text": text}) + "\n")
        assert bench.main(["contamination", str(corpus), str(tmp_path / "look.yaml")]) == code
        assert ("in the corpus: own: 0" in capsys.readouterr().out) == bool(code)
    assert bench.main(["contamination", str(tmp_path / "gone"), str(tmp_path / "look.yaml")]) == 2
