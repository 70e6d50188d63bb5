"""Redaction: nothing that names people, hosts, folders or texts is left; what metrics need stays."""

from __future__ import annotations

import pytest

from draftbench.reports.publish import prepare
from draftbench.reports.redact import Redactor, names_here


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("/home/alice/models/llama", "PATH/llama"),
        ("/home/alice/My Models/llama 8b/", "PATH/llama 8b"),
        ("no /data1/x.jsonl: [Errno 2]", "no PATH/x.jsonl: [Errno 2]"),
        ("lost /home/carol", "lost PATH"),
        ("</s>", "</s>"),
        ("/workspace", "PATH/workspace"),
        ("PATH=/usr/bin:/opt/x", "PATH=PATH/bin:PATH/x"),
        ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
        ("../drafts/a and tokens/s", "../drafts/a and tokens/s"),
        ("hf_abcdefghijklmnopqrstuv", "SECRET"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer SECRET"),
        ("hf_chat_template_name", "hf_chat_template_name"),
        ("ssh gpu7 as Alice, alice@example.org", "ssh NAME as NAME, MAIL"),
        ("http://10.1.2.3:8000/v1", "URL"),
        ("http://127.0.0.1:30000/generate", "http://127.0.0.1:30000/generate"),
        ("peer 10.1.2.3", "peer ADDRESS"),
        ("malice", "malice"),
        ("g++ -I/opt/cuda/include -O3 -L/opt/lib x.cpp", "g++ -IPATH/include -O3 -LPATH/lib x.cpp"),
        (r"no C:\Users\Alice\models\llama there", "no PATH/llama there"),
        (r"on \\nas\share\llama", "on PATH/llama"),
        ("peer fe80::1ff:fe23:4567:890a, [2001:db8::1]:8000", "peer ADDRESS, [ADDRESS]:8000"),
        ("peer 2001:0db8:85a3:0000:0000:8a2e:0370:7334", "peer ADDRESS"),
        (
            "[::1]:30000 and 12:34:56 at harness.run:cell::point",
            "[::1]:30000 and 12:34:56 at harness.run:cell::point",
        ),
    ],
)
def test_text(before, after):
    """Names, secrets, addresses and absolute paths go; hub ids, relative paths and words stay."""
    assert Redactor({"alice", "gpu7", "root"}).text(before) == after


def test_secret_settings_are_blanked_by_their_name():
    """Whatever an api_key looks like; counts of tokens are no secrets."""
    value = {"api_key": "x", "hf_token": None, "max_total_tokens": 5, "nested": [{"password": "y"}]}
    redacted = {"api_key": "SECRET", "hf_token": None, "max_total_tokens": 5, "nested": [{"password": "SECRET"}]}
    assert Redactor(()).value(value) == redacted


def test_outputs_stay_equal_and_are_no_longer_the_same_tokens(request_record):
    """Equal tokens of one prompt stay equal, in order; another prompt's get other numbers; prompts go."""
    redactor = Redactor(())
    record = request_record().model_dump(mode="json") | {"output_ids": [7, 8, 7]}
    first, again = redactor.record(record), redactor.record(record)
    other = redactor.record(record | {"prompt_id": "q"})
    reference = {"workload": "w", "prompt_id": "p", "turn": 0, "prompt_ids": [1], "output_ids": [7, 8, 7]}
    a, b, c = first["output_ids"]
    assert a == c != b
    assert first == again
    assert a not in (7, other["output_ids"][0])
    assert redactor.record(reference)["output_ids"] == [a, b, a]
    assert redactor.record(reference)["prompt_ids"] == []
    assert (first["chunks"], first["rounds"]) == (record["chunks"], record["rounds"])


def test_sampled_continuations_are_renumbered_alike_for_every_arm():
    """What an arm sampled is a text too; equal beginnings stay equal between arms."""
    redactor = Redactor(())
    ours, theirs = (
        redactor.record({"arm": arm, "prompt_id": "q", "continuations": [[7, 8], [7]]})["continuations"]
        for arm in ("vanilla", "eagle")
    )
    assert ours == theirs
    assert ours[0][0] == ours[1][0] != 7


def test_names_of_home_folders_are_found():
    """A run made elsewhere names its user in its paths."""
    assert "bob" in names_here(['{"model": "/home/bob/x"}'])


def test_texts_of_answers_are_dropped(request_record):
    """Of an endpoint that gives no token ids; that there was one stays."""
    record = request_record().model_dump(mode="json")
    redactor = Redactor(())
    assert redactor.record(record | {"output_text": "a secret"})["output_text"] == ""
    assert redactor.record(record)["output_text"] is None


def test_a_person_named_like_a_field_does_not_unname_it(run, tmp_path):
    """Home folders may be called run, prompts or synthetic; the name goes where it is one, and the run is published."""
    names = ("run", "prompts", "synthetic", "load")
    redactor = Redactor(names)
    told = {
        "workloads": [{"source": "synthetic", "run_programs": False}],
        "turns": "prompts",
        "load": [],
        "by": "a run",
    }
    assert redactor.value(told) == {**told, "by": "a NAME"}
    draft = prepare(run, "mine", names, tmp_path / "published")
    assert draft.verdict.mismatches == ()
    assert draft.publish().exists()
