"""Answers that records of one's own hold: read as the suite says, refused with file and line, and scored."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from draftbench.harness.errors import WorkloadError
from draftbench.harness.suite import Workload, load_suite
from draftbench.harness.workloads.conversations import describe, load_workload
from draftbench.harness.workloads.prompts import Choice, Exact, Number, Pattern
from draftbench.harness.workloads.score import score

DATA = next(
    (p / "shared" / "data" for p in Path(__file__).parents[4:] if (p / "shared" / "data").exists()), Path("absent")
)


def workload(folder: Path, *records: Any, **settings: Any) -> Workload:
    path = folder / f"prompts-{len(list(folder.iterdir()))}.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return Workload.model_validate({"name": "own", "source": "prompts", "path": str(path), **settings})


@pytest.mark.parametrize(
    ("matching", "value", "answer", "right", "wrong"),
    [
        ("exact", " Paris ", Exact(" Paris "), "Paris\n", "Paris."),
        ("number", 18, Number("18"), "So 9 × 2 = 18.", "18 is not 19"),
        ("number", "#### 1,234", Number("1234"), "1,234.0", "1235"),
        ("number", 0.5, Number("0.5"), "one half, .5", "5"),
        ("choice", "b", Choice("B"), "The answer is (B).", "The answer is (C), not B."),
        ("choice", "(A)", Choice("A"), "A. A dog is an animal.", "A dog is D"),
        ("regex", r"\b(yes|ja)\b", Pattern(r"\b(yes|ja)\b"), "Well, yes!", "yesterday"),
    ],
)
def test_an_answer_is_read_and_held_against_the_targets(tmp_path, matching, value, answer, right, wrong):
    """Each kind of matching, on an answer that is right and on one that is not."""
    found = load_workload(workload(tmp_path, {"prompt": "?", "answer": value}, answer=matching), 0)[0]
    assert found.answer == answer
    assert score(right, found.answer) is True
    assert score(wrong, found.answer) is False


def test_an_expression_that_would_search_for_ever_scores_nothing(monkeypatch):
    """Every way to part a run of letters would be tried; an answer where it ends at once is scored."""
    monkeypatch.setattr("draftbench.harness.workloads.score.LONGEST_SEARCH_S", 0.2)
    endless = Pattern(r"(a|aa)+$")
    assert score("a" * 60 + "?", endless) is None
    assert score("aaa", endless) is True
    assert score("bbb", endless) is False


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The answer is (C).", "C"),
        ("Answer: D", "D"),
        ("**Answer:** B because A is wrong", "B"),
        ("The correct answer is **A**", "A"),
        ("It follows that \\boxed{B}", "B"),
        ("\\boxed{\\text{(C)}}", "C"),
        ("A is out, so is B.\n\nC", "C"),
        ("(D)", "D"),
        ("I think it is B", "B"),
        ("A cat sat.", None),
        ("I would say so", None),
        ("", None),
        ("The answer is Because", None),
        ("Between A) and B) I take A)", "A"),
    ],
)
def test_the_letter_that_a_text_chooses(text, letter):
    """As people and models write it; words that are letters are none."""
    assert score(text, Choice(letter or "Z")) is (letter is not None)


@pytest.mark.parametrize(
    ("record", "matching", "said"),
    [
        ({"prompt": "?"}, "number", "there is no answer in it, but the workload says answer: number"),
        ({"prompt": "?", "answer": "many"}, "number", "answer is 'many'; with answer: number it must be a number"),
        ({"prompt": "?", "answer": True}, "number", "answer is True"),
        ({"prompt": "?", "answer": "AB"}, "choice", "it must be one letter, A to Z"),
        ({"prompt": "?", "answer": "("}, "regex", "it must be a regular expression"),
        ({"prompt": "?", "answer": ["x"]}, "exact", "it must be a text"),
        ({"prompt": "?", "answer": " "}, "exact", "it must be a text"),
    ],
)
def test_an_answer_that_is_none_is_told_with_file_and_line(tmp_path, record, matching, said):
    """The second line of the file; with malformed: skip it is left out."""
    good = {"exact": "x", "number": 1, "choice": "A", "regex": "x"}[matching]
    records = ({"prompt": "first", "answer": good}, record)
    with pytest.raises(WorkloadError) as error:
        load_workload(workload(tmp_path, *records, answer=matching), 0)
    assert ".jsonl:2: " in str(error.value)
    assert said in str(error.value)
    assert len(load_workload(workload(tmp_path, *records, answer=matching, malformed="skip"), 0)) == 1


def test_null_is_an_answer_that_is_not_scored(tmp_path):
    """Others of the file are."""
    found = load_workload(
        workload(tmp_path, {"prompt": "a", "answer": None}, {"prompt": "b", "answer": 2}, answer="number"), 0
    )
    assert [each.answer for each in found] == [None, Number("2")]


def test_answers_that_nothing_is_held_against_are_counted(tmp_path):
    """A file that has them, in a suite that does not say how they match; silent where there are none."""
    records = ({"prompt": "a", "answer": "1"}, {"prompt": "b"})
    assert describe(workload(tmp_path, *records), 0).num_unscored == 1
    assert describe(workload(tmp_path, {"prompt": "a"}), 0).num_unscored == 0
    scored = describe(workload(tmp_path, {"prompt": "a", "answer": "1"}, answer="exact"), 0)
    assert (scored.num_answers, scored.num_unscored) == (1, 0)


@pytest.mark.parametrize("reference", ["He has 9 left. #### 1,109", ["He has 9 left.\n#### 1109"], "1109"])
def test_gsm8k_in_eagles_layout_is_scored(tmp_path, reference):
    """question_id, category, turns and reference, a text or a list of one."""
    record = {"question_id": 81, "category": "math", "turns": ["How many?"], "reference": reference}
    found = load_workload(workload(tmp_path, record, source="gsm8k"), 0)[0]
    assert found.prompt_id == "gsm8k-81"
    assert found.answer == Number("1109")


def test_gsm8k_without_a_number_is_refused_with_its_line(tmp_path):
    """Every answer would count as wrong."""
    with pytest.raises(WorkloadError, match=r"jsonl:1: 'some' holds no number"):
        load_workload(workload(tmp_path, {"question_id": 1, "turns": ["?"], "reference": ["some"]}, source="gsm8k"), 0)
    assert load_workload(workload(tmp_path, {"question_id": 1, "turns": ["?"]}, source="gsm8k"), 0)[0].answer is None


@pytest.mark.skipif(not DATA.exists(), reason="needs the shared files")
def test_spec_benchs_gsm8k_questions_as_a_file_of_their_own_are_scored(tmp_path):
    """Its mathematical group is in EAGLE's layout: as `source: gsm8k` each question has the answer it has there."""
    records = [json.loads(line) for line in (DATA / "spec_bench_question.jsonl").read_text().splitlines()]
    maths = [record for record in records if record["category"] == "math_reasoning"]
    found = load_workload(workload(tmp_path, *maths, source="gsm8k"), 0)
    whole = {
        each.prompt_id.split("-")[-1]: each.answer
        for each in load_workload(
            Workload.model_validate(
                {"name": "s", "source": "spec_bench", "path": str(DATA / "spec_bench_question.jsonl")}
            ),
            0,
        )
    }
    assert len(found) == 80
    assert all(each.answer is not None and each.answer == whole[each.prompt_id.split("-")[-1]] for each in found)
    others = describe(workload(tmp_path, *records, source="mt_bench"), 0)
    assert others.num_unscored == sum(bool(record.get("reference")) for record in records)


def test_answer_means_nothing_for_sets_that_know_their_own(tmp_path):
    """The suite is refused with its line."""
    text = Path("suites/gsm8k-tiny.yaml").read_text()
    (tmp_path / "suite.yaml").write_text(text.replace("source: gsm8k,", "source: gsm8k, answer: number,", 1))
    assert "answer: number" in (tmp_path / "suite.yaml").read_text()
    with pytest.raises(Exception, match=r"workloads\[0\]\.answer means nothing for gsm8k; leave it out"):
        load_suite(tmp_path / "suite.yaml")


def test_what_the_documentation_shows_is_so(tmp_path):
    """Every workload of its example is one, and its record is scored as it says."""
    text = Path("docs/suites.md").read_text()
    shown = re.findall(r"^```yaml\n(workloads:.*?)^```", text, re.DOTALL | re.MULTILINE)[0]
    workloads = [Workload.model_validate(each) for each in yaml.safe_load(shown)["workloads"]]
    assert [each.answer for each in workloads if each.answer] == ["choice"]
    assert [each.window_tokens for each in workloads if each.source == "windows"] == [512]
    record = json.loads(re.findall(r"^\{.*\"answer\".*\}$", text, re.MULTILINE)[0])
    answer = load_workload(workload(tmp_path, record, answer="choice"), 0)[0].answer
    assert score("23 has no divisors, so the answer is (B).", answer)
    assert not score("The answer is C.", answer)
