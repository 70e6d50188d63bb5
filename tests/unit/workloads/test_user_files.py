"""Files of prompts as people have them: read as they are meant, or refused with the way to say it."""

from __future__ import annotations

import base64
import bz2
import gzip
import json
import lzma
import os
import time
from pathlib import Path
from typing import Any

import pyarrow
import pytest

from draftbench.harness.errors import SuiteError, WorkloadError
from draftbench.harness.suite import Workload, load_suite
from draftbench.harness.workloads import regular, user_files
from draftbench.harness.workloads.conversations import load_set
from draftbench.harness.workloads.prompts import Conversation

CASES = {case["name"]: case for case in json.loads((Path(__file__).parent / "data.json").read_text())}
"""Handed in with what is right; names are theirs."""
TURNS: dict[str, list[tuple[str, ...]]] = {
    "byte order mark in .txt": [("Hello",), ("World",)],
    "two system messages": [("hi", "b")],
    "ShareGPT with a system turn": [("hi",)],
    "list in .jsonl": [("a",)],
    "lines in .json": [("a",), ("b",)],
    "compressed": [("packed",)],
    "content parts": [("hi",)],
    "prompt as messages": [("hi",)],
    "conversations": [("hi",)],
    "id null": [("a",)],
    "line separator inside a text": [("a\u2028b",)],
}
REFUSED = {
    "instruction and input": "data.jsonl:1: a record needs .* source: alpaca reads it",
    "question and answer": "data.jsonl:1: .* its keys are question, answer: .* field: question",
    "half a surrogate": r"data.jsonl:1: .* holds '\\ud800', no character",
    "doubled key": "data.jsonl:1: not JSON: prompt stands twice in one object",
    "UTF-16": r"data.jsonl:1: UTF-16; save it as UTF-8 \(iconv -f UTF-16",
    "tab-separated questions and answers": "data.tsv:2: .* a column's number, where a table has no heading",
}
HERE = {"MBPP, sanitised layout", "pipe in place of a file"}
"""Cases with tests of their own."""


def load(tmp_path: Path, content: bytes, name: str, source: str = "prompts", **fields: Any) -> list[Conversation]:
    path = tmp_path / name
    path.write_bytes(content)
    return list(load_set(Workload(name="w", source=source, path=str(path), **fields), 0).conversations)  # type: ignore[arg-type]


def loaded(tmp_path: Path, case: dict[str, Any], **fields: Any) -> list[Conversation]:
    text = case["content"]
    content = base64.b64decode(text.removeprefix("base64:")) if text.startswith("base64:") else text.encode()
    return load(tmp_path, content, "data" + case["suffix"], case["source"], **fields)


def test_every_case_has_a_value() -> None:
    assert set(CASES) == set(TURNS) | set(REFUSED) | HERE


@pytest.mark.parametrize("name", TURNS)
def test_files_are_read_as_they_are_meant(name: str, tmp_path: Path) -> None:
    if name == "compressed":
        TURNS[name] = [(json.loads(gzip.decompress(base64.b64decode(CASES[name]["content"][7:])))["prompt"],)]
    assert [found.turns for found in loaded(tmp_path, CASES[name])] == TURNS[name]


@pytest.mark.parametrize("name", REFUSED)
def test_files_that_cannot_be_meant_are_refused(name: str, tmp_path: Path) -> None:
    """With file, line, and how to say it."""
    with pytest.raises(WorkloadError, match=REFUSED[name]):
        loaded(tmp_path, CASES[name])


def test_system_messages_are_kept_where_they_stand(tmp_path: Path) -> None:
    """The first one at the front, where it stood there; a later one with the turn that it stands before."""
    (found,) = loaded(tmp_path, CASES["two system messages"])
    assert (found.system, found.later) == (None, ((1, "s2"),))
    assert [message["role"] for turn in (0, 1) for message in found.asked(turn)] == ["user", "system", "user"]
    (found,) = loaded(tmp_path, CASES["ShareGPT with a system turn"])
    assert found.asked(0) == [{"role": "system", "content": "SYS"}, {"role": "user", "content": "hi"}]
    two = [{"role": "system", "content": text} for text in "ab"]
    both = json.dumps({"messages": [*two, {"role": "user", "content": "u"}]}).encode()
    (found,) = load(tmp_path, both, "two.jsonl", system="c")
    assert [message["content"] for message in found.asked(0)] == ["c", "b", "u"]
    late = json.dumps({"messages": [{"role": "user", "content": "u"}, *two]}).encode()
    with pytest.raises(WorkloadError, match="a system message stands after the user's last one"):
        load(tmp_path, late, "late.jsonl")


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([{"role": "tool", "content": "x"}], "each message needs a role, one of system, user, .* found 'tool'"),
        ([{"from": "observation", "value": "x"}], "each message needs a from, .* found 'observation'"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}], "only texts can be sent"),
        ([{"role": "user", "content": []}], "content is \\[\\]; it must be a text"),
        (["hi"], "a message is 'hi'; it must be an object"),
        ([{"role": "assistant", "content": "x"}], "no message is the user's"),
    ],
)
def test_messages_that_cannot_be_sent_are_refused(messages: list[Any], said: str, tmp_path: Path) -> None:
    """Roles, pictures: nothing is left out in silence."""
    with pytest.raises(WorkloadError, match="m.jsonl:1: .*" + said):
        load(tmp_path, json.dumps({"messages": messages}).encode(), "m.jsonl")


def test_mbpps_sanitised_layout_is_read(tmp_path: Path) -> None:
    (found,) = loaded(tmp_path, CASES["MBPP, sanitised layout"], instruction="")
    assert found.turns == ("w Your code should pass these tests:\n\nassert 1",)


PACKED = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress,
          ".zst": lambda data: pyarrow.compress(data, codec="zstd", asbytes=True)}  # fmt: skip


@pytest.mark.parametrize("suffix", PACKED)
def test_packed_files_are_read(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines, a list, a table, text; what grows beyond the limit is refused, and what is cut short."""
    for name, content in {"a.jsonl": b'{"prompt": "p"}\n', "a.json": b'[{"prompt": "p"}]', "a.csv": b"prompt\np\n",
                          "a.txt": b"p\n"}.items():  # fmt: skip
        assert load(tmp_path, PACKED[suffix](content), name + suffix)[0].turns == ("p",)
    with pytest.raises(WorkloadError, match="cannot be unpacked"):
        load(tmp_path, PACKED[suffix](b'{"prompt": "p"}\n' * 999)[:-9], "cut.jsonl" + suffix)
    monkeypatch.setattr(user_files, "DATA_BYTES", 100_000)
    with pytest.raises(WorkloadError, match="unpacked it has more than 100000 bytes"):
        load(tmp_path, PACKED[suffix](b" " * 1_000_000), "bomb.jsonl" + suffix)


@pytest.mark.parametrize(
    ("name", "content", "field", "turns"),
    [
        ("a.jsonl", '{"question": "q", "prompt": "p"}', "question", ["q"]),
        ("a.json", '[{"q": [{"role": "user", "content": "x"}]}]', "q", ["x"]),
        ("a.csv", 'id,question\n1,"two\nlines, and ""quotes"""\n2,b\n', "question", ['two\nlines, and "quotes"', "b"]),
        ("a.tsv", "How many?\t12\nAnd then?\t7\n", 1, ["How many?", "And then?"]),
        ("a.tsv", "12\tHow many?\n", 2, ["How many?"]),
        ("a.csv", "\ufeffprompt,category\na,b\n", None, ["a"]),
    ],
)
def test_a_field_names_the_prompt(name: str, content: str, field: Any, turns: list[str], tmp_path: Path) -> None:
    """A key of objects, a column by its heading, or by its number where there is none."""
    assert [found.turns[0] for found in load(tmp_path, content.encode(), name, field=field)] == turns


@pytest.mark.parametrize(
    ("name", "content", "field", "said"),
    [
        ("a.jsonl", '{"a": "q"}', "b", "a.jsonl:1: there is no b in it; its keys are a"),
        ("a.csv", "a,b\n1,2\n3\n", "a", "a.csv:3: it has 1 columns, the heading 2"),
        ("a.tsv", "a\tb\nc\n", 2, "a.tsv:2: it has 1 columns; field is 2"),
        ("a.csv", 'a,b\n1,"2\n', "a", "a.csv:2: no table"),
        ("a.csv", b"a\nx\n\xff\n", "a", "a.csv:3: not UTF-8"),
        ("a.json", '{"data": [{"prompt": "p"}],\n "version": 1}', None, "one object with the keys data, version"),
        ("a.json", "[" * 100_000, None, "a.json: not JSON: "),
        ("a.jsonl", '{"a": ' * 100_000, None, "a.jsonl:1: not JSON"),
        ("a.jsonl", '{"id": {"a": 1}, "prompt": "p"}', None, "id is {'a': 1}; it must be a text or a number"),
        ("a.jsonl", b"PK\x03\x04zip", None, "a zip file; unpack it"),
        ("a.jsonl", '{"prompt": "p"}\n'.encode("utf-16-le"), None, "a.jsonl:1: UTF-16 or UTF-32; save it as UTF-8"),
    ],
)
def test_what_is_not_there_is_told(name: str, content: str | bytes, field: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match=said):
        load(tmp_path, content if isinstance(content, bytes) else content.encode(), name, field=field)


SUITE = """\
version: 1
name: own
target: {model: tiny, dtype: float32}
arms: [{name: vanilla, architecture: vanilla}]
workloads: [{name: own, source: prompts, path: PATH}]
sampling: {temperature: 0, max_tokens: 8, seed: 0}
load: [{concurrency: 1}]
blocks: 1
"""


@pytest.mark.parametrize("kind", ["pipe", "device", "large", "link"])
def test_only_regular_files_are_opened(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pipes and devices do not end, or do not begin: refused with the suite's line, before anything is read."""
    path = tmp_path / "p.jsonl"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "large":
        path.write_text("x" * 100)
        monkeypatch.setattr("draftbench.harness.suite.problems.DATA_BYTES", 99)
    elif kind == "link":
        path.symlink_to("/dev/zero")
    else:
        path = Path("/dev/zero")
    suite = tmp_path / "own.yaml"
    suite.write_text(SUITE.replace("PATH", str(path)))
    began_s = time.monotonic()
    said = "has 100 bytes; at most 99 are read" if kind == "large" else "is not a regular file; copy what it gives into"
    with pytest.raises(SuiteError, match=rf"own.yaml:5: workloads\[0\].path: .* {said}"):
        load_suite(suite)
    assert time.monotonic() - began_s < 2
    if kind != "large":
        with pytest.raises(WorkloadError, match="is not a regular file"):
            regular.read_bytes(path, 100, WorkloadError)


def test_a_field_is_a_name_or_a_number(tmp_path: Path) -> None:
    (tmp_path / "p.tsv").write_text("a\tb\n")
    path = tmp_path / "own.yaml"
    for field, said in (("0", "field is 0; the name of a key"), ("true", "field is True; the name of a key")):
        path.write_text(SUITE.replace("PATH", f"p.tsv, field: {field}"))
        with pytest.raises(SuiteError, match=said):
            load_suite(path)
    path.write_text(SUITE.replace("PATH", "p.tsv, field: 1"))
    assert load_suite(path).workloads[0].field == 1
    path.write_text(SUITE.replace("prompts, path: PATH", "gsm8k, field: a, path: p.tsv"))
    with pytest.raises(SuiteError, match="field means nothing for gsm8k"):
        load_suite(path)
