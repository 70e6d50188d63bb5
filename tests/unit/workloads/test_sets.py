"""Every set: the right conversation from a record, from each layout in which it is published; malformed records."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import pytest

from draftbench.harness.errors import WorkloadError
from draftbench.harness.host.provenance import file_sha256
from draftbench.harness.suite import Workload
from draftbench.harness.suite.fields import SourceName
from draftbench.harness.workloads.conversations import home_of, load_set, load_workload
from draftbench.harness.workloads.prompts import Formula, Number, Program
from draftbench.harness.workloads.sets import MAKERS, PLACEHOLDER
from draftbench.harness.workloads.sources import SOURCES, HubSet, RepositoryFile

DATA = next(
    (p / "shared" / "data" for p in Path(__file__).parents[4:] if (p / "shared" / "data").exists()), Path("absent")
)
TARGET = Path("drafts/checkpoints/tiny/target")

RECORDS: dict[str, dict[str, Any]] = {
    "prompts": {"prompt": "p"},
    "chat_jsonl": {"turns": ["a", "b"], "category": "c"},
    "sharegpt": {"id": "x_0", "conversations": [{"from": "human", "value": "h"}, {"from": "gpt", "value": "g"}]},
    "gsm8k": {"question": "q", "answer": "<<1+1=2>>2\n#### 1,234"},
    "mt_bench": {"question_id": 81, "category": "writing", "turns": ["a", "b"], "reference": ["r"]},
    "spec_bench": {"question_id": 320, "category": "math_reasoning", "turns": ["m"], "reference": ["so\n#### 7"]},
    "humaneval": {
        "task_id": "HumanEval/3",
        "prompt": "def f():\n",
        "entry_point": "f",
        "test": "def check(c):\n    assert c()\n",
        "canonical_solution": "    return True\n",
    },
    "mbpp": {
        "task_id": 11,
        "text": "Write f.",
        "code": "def f(): ...",
        "test_list": ["assert f() is None"],
        "test_setup_code": "",
        "challenge_test_list": [],
    },
    "alpaca": {"instruction": "Sum.", "input": "1, 2", "output": "3", "text": "t"},
    "cnn_dm": {"article": "News.", "highlights": "N.", "id": "ab"},
    "natural_questions": {"question": "who", "answer": ["me"]},
    "math500": {"problem": "1+1?", "answer": "2", "solution": "s", "subject": "Algebra", "level": 1, "unique_id": "u"},
    "speed_bench": {"question_id": "ab", "category": "coding", "turns": ["t"], "source": "s", "multiturn": False},
}
"""One good record of each set, as it is published."""
NEEDED = {
    "prompts": "prompt",
    "chat_jsonl": "turns",
    "sharegpt": "conversations",
    "gsm8k": "question",
    "mt_bench": "turns",
    "spec_bench": "turns",
    "humaneval": "prompt",
    "mbpp": "text",
    "alpaca": "instruction",
    "cnn_dm": "article",
    "natural_questions": "question",
    "math500": "problem",
    "speed_bench": "turns",
}
"""The field of each that holds the prompt."""


def workload(source: str, path: Path | None = None, **fields: Any) -> Workload:
    return Workload(name="w", source=source, path=None if path is None else str(path), **fields)


def write(folder: Path, *lines: Any) -> Path:
    path = folder / "set.jsonl"
    path.write_bytes(b"".join((x if isinstance(x, bytes) else json.dumps(x).encode()) + b"\n" for x in lines))
    return path


def test_every_source_is_described_and_every_reading_one_has_its_maker():
    """The suite's names, the list of sources and the makers agree; public sets have a pinned home and terms."""
    assert set(get_args(SourceName)) == set(SOURCES)
    assert (
        set(MAKERS) == {name for name, source in SOURCES.items() if not source.synthetic} - {"windows"} == set(RECORDS)
    )
    for source in SOURCES.values():
        assert source.licence
        if source.home is not None:
            assert len(source.home.revision) == 40


@pytest.mark.parametrize("source", RECORDS)
def test_a_good_record_becomes_a_conversation(tmp_path, source):
    """One record, one conversation, with its text in the first turn."""
    (conversation,) = load_workload(workload(source, write(tmp_path, RECORDS[source])), 0)
    value = RECORDS[source][NEEDED[source]]
    text = value[0] if isinstance(value, list) else value
    assert (text if isinstance(text, str) else text["value"]) in conversation.turns[0]


@pytest.mark.parametrize("source", RECORDS)
@pytest.mark.parametrize(
    "bad",
    [b"{", b"[1]", b'{"turns": ["\xff"]}', {}, "missing", "wrong type", "empty", "huge"],
    ids=["not JSON", "no object", "not UTF-8", "no fields", "missing", "wrong type", "empty", "huge"],
)
def test_a_malformed_record_is_refused_with_its_place_or_skipped_and_counted(tmp_path, source, bad):
    """File and line in the error; with `malformed: skip` the good record beside it is kept and one is counted."""
    good, key = RECORDS[source], NEEDED[source]
    listed, text = isinstance(good[key], list), "x" * 3000
    if source == "sharegpt":
        text, blank = {"from": "human", "value": text}, {"from": "human", "value": " "}
    else:
        blank = " "
    record = {
        "missing": {name: value for name, value in good.items() if name != key},
        "wrong type": {**good, key: 7},
        "empty": {**good, key: [blank] if listed else "", **({"input": ""} if source == "alpaca" else {})},
        "huge": {**good, key: [text] if listed else text},
    }.get(bad if isinstance(bad, str) else "", bad)
    if source == "mbpp" and bad == "empty":
        record = {**good, "test_list": []}
    path = write(tmp_path, good, record)
    settings: dict[str, Any] = {"max_prompt_chars": 2000}
    if source in ("humaneval", "mbpp", "alpaca", "cnn_dm", "math500"):
        settings["instruction"] = ""
    with pytest.raises(WorkloadError, match=r"set\.jsonl:2"):
        load_set(workload(source, path, **settings), 0)
    loaded = load_set(workload(source, path, malformed="skip", **settings), 0)
    assert (len(loaded.conversations), loaded.num_skipped) == (1, 1)


def test_answers_are_kept_where_there_is_one(tmp_path):
    """Numbers without commas, formulas, programs with their tests; None where nothing can be checked."""

    def answer(source: str) -> Any:
        return load_workload(workload(source, write(tmp_path, RECORDS[source])), 0)[0].answer

    assert answer("gsm8k") == Number("1234")
    assert answer("spec_bench") == Number("7")
    assert answer("math500") == Formula("2")
    assert answer("humaneval") == Program("def f():\n", "f", "def check(c):\n    assert c()\n\ncheck(f)\n")
    assert answer("mbpp") == Program("", None, "\nassert f() is None\n")
    assert answer("mt_bench") is None


def test_the_instruction_is_the_sets_own_or_the_suites(tmp_path):
    """It stands straight before the record's text; an empty one leaves the text alone."""
    path = write(tmp_path, RECORDS["cnn_dm"])
    for given, turn in ((None, "Summarize: News."), ("TL;DR ", "TL;DR News."), ("", "News.")):
        assert load_workload(workload("cnn_dm", path, instruction=given), 0)[0].turns == (turn,)


def test_copies_in_fastchats_layout_are_read_too(tmp_path):
    """EAGLE and Spec-Bench pass other sets around as question.jsonl, with their instructions in the turns."""
    path = write(tmp_path, {"question_id": 5, "category": "summarization", "turns": ["Summarize: x"]})
    (conversation,) = load_workload(workload("cnn_dm", path), 0)
    assert (conversation.prompt_id, conversation.turns) == ("cnn_dm-5", ("Summarize: x",))


def test_mbpp_is_its_test_split(tmp_path):
    """Tasks outside 11 to 510 are no part of it and not counted as skipped."""
    path = write(tmp_path, {**RECORDS["mbpp"], "task_id": 10}, RECORDS["mbpp"], {**RECORDS["mbpp"], "task_id": 511})
    loaded = load_set(workload("mbpp", path), 0)
    assert ([c.prompt_id for c in loaded.conversations], loaded.num_skipped) == (["mbpp-11"], 0)


def test_a_placeholder_of_speed_bench_is_refused_even_where_records_may_be_skipped(tmp_path):
    """The message says what fills it in."""
    path = write(tmp_path, {**RECORDS["speed_bench"], "turns": [PLACEHOLDER + " USING SPECDEC_BENCH"]})
    with pytest.raises(WorkloadError, match=r"set\.jsonl:1: a turn is a placeholder.*prepare_data\.py"):
        load_set(workload("speed_bench", path, malformed="skip"), 0)


def test_a_set_that_is_too_small_is_refused(tmp_path):
    """No prompt is repeated to fill up."""
    path = write(tmp_path, *({**RECORDS["cnn_dm"], "article": str(n)} for n in range(3)))
    assert len(load_workload(workload("cnn_dm", path, num_prompts=3), 0)) == 3
    with pytest.raises(WorkloadError, match="num_prompts is 4, but there are 3"):
        load_workload(workload("cnn_dm", path, num_prompts=4), 0)


def test_an_id_that_comes_twice_is_refused(tmp_path):
    """Arms are compared by id."""
    with pytest.raises(WorkloadError, match="the id mt_bench-81 comes twice"):
        load_workload(workload("mt_bench", write(tmp_path, RECORDS["mt_bench"], RECORDS["mt_bench"])), 0)


@pytest.mark.parametrize("source", [name for name, s in SOURCES.items() if isinstance(s.home, HubSet)])
def test_a_copy_of_the_hubs_folder_is_read(tmp_path, source, monkeypatch):
    """Parquet files by configuration and split, as the hub lays them out; and one Parquet file alone."""
    import pyarrow
    import pyarrow.parquet

    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    home = SOURCES[source].home
    assert isinstance(home, HubSet)
    folder = tmp_path / "copy"
    file = folder / (home.config or "data") / f"{home.split}-00000-of-00001.parquet"
    file.parent.mkdir(parents=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([RECORDS[source]]), file)
    card = {
        "configs": [
            {
                "config_name": home.config or "default",
                "data_files": [{"split": home.split, "path": str(file.relative_to(folder))}],
            }
        ]
    }
    (folder / "README.md").write_text(f"---\n{json.dumps(card)}\n---\n")
    (from_folder,) = load_workload(workload(source, folder), 0)
    (from_file,) = load_workload(workload(source, file), 0)
    (from_lines,) = load_workload(workload(source, write(tmp_path, RECORDS[source])), 0)
    assert from_folder == from_file == from_lines


def test_text_and_json_files(tmp_path):
    """A line of text is a prompt; a .json file is one list."""
    (tmp_path / "p.txt").write_bytes("one\r\n\ntwo ü\n".encode())
    turns = [c.turns for c in load_workload(workload("prompts", tmp_path / "p.txt"), 0)]
    assert turns == [("one",), ("two ü",)]
    (tmp_path / "bad.txt").write_bytes(b"fine\n\xff\n")
    with pytest.raises(WorkloadError, match=r"bad\.txt:2: not UTF-8"):
        load_workload(workload("prompts", tmp_path / "bad.txt"), 0)
    (tmp_path / "s.json").write_text(json.dumps([RECORDS["sharegpt"]]))
    assert load_workload(workload("sharegpt", tmp_path / "s.json"), 0)[0].turns == ("h",)
    (tmp_path / "s.json").write_text('{\n"a": []}')
    with pytest.raises(WorkloadError, match="must hold one list"):
        load_workload(workload("sharegpt", tmp_path / "s.json", system="x"), 0)


def test_random_prompts_have_the_asked_count_of_tokens():
    """Counted without the template's tokens; seeded; all different."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(TARGET / "tokenizer.json"))
    random = workload("random", tokenizer=str(TARGET), prompt_tokens=64, num_prompts=5)
    texts = [c.turns[0] for c in load_workload(random, 0)]
    assert [len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts] == [64] * 5
    assert len(set(texts)) == 5
    assert texts != [c.turns[0] for c in load_workload(random, 1)]


REAL = {
    "gsm8k": ("gsm8k_test.jsonl", 1319),
    "mt_bench": ("mt_bench_question.jsonl", 80),
    "spec_bench": ("spec_bench_question.jsonl", 480),
    "humaneval": ("humaneval.jsonl", 164),
    "mbpp": ("mbpp.jsonl", 500),
}


@pytest.mark.parametrize("source", REAL)
def test_the_authors_files_load_whole(source):
    """As many conversations as the set has, from the very file whose hash `list` shows."""
    name, count = REAL[source]
    path = DATA / name
    if not path.exists():
        pytest.skip(f"needs {name} in ../shared/data")
    loaded = load_set(workload(source, path), 0)
    assert (len(loaded.conversations), loaded.num_skipped) == (count, 0)
    assert SOURCES[source].num_prompts == count
    assert SOURCES[source].sha256 == file_sha256(path)
    if source == "spec_bench":
        groups = {"multi_turn", "translation", "summarization", "qa", "math_reasoning", "rag"}
        assert Counter(c.category for c in loaded.conversations) == dict.fromkeys(groups, 80)
    if source == "gsm8k":
        assert all(isinstance(c.answer, Number) and float(c.answer.value) is not None for c in loaded.conversations)


def test_eagles_questions_are_a_subset_with_a_home_of_its_own():
    """One file of 80 at a commit, its hash checked, in place of the whole set."""
    whole = Workload.model_validate({"name": "w", "source": "gsm8k"})
    eagle = whole.model_copy(update={"subset": "eagle"})
    assert isinstance(home_of(whole), HubSet)
    home = home_of(eagle)
    assert isinstance(home, RepositoryFile)
    assert home.path == "eagle/data/gsm8k/question.jsonl"
    assert home.sha256 is not None
    assert str(home) == "SafeAILab/EAGLE@cb7e0841fe0c question.jsonl"
