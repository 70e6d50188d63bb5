"""Workloads: the right turns from each layout, errors with their place, prompts as transformers would render them."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest

from draftbench.harness.errors import CheckpointError, WorkloadError
from draftbench.harness.models.find import EMBEDDED
from draftbench.harness.suite import Rendering, Workload
from draftbench.harness.workloads.conversations import load_workload
from draftbench.harness.workloads.prompts import Number
from draftbench.harness.workloads.render import ChatRenderer, prompt_sha256
from draftbench.harness.workloads.synthetic import FAMILIES, generate, is_correct, split_of

TARGET = EMBEDDED / "tiny" / "target"


@pytest.mark.parametrize("family", FAMILIES)
def test_splits_are_disjoint_and_seeded(family):
    """The same seed gives the same tasks; no prompt is in both splits."""
    train = [task.prompt for task in islice(generate(family, "train", 3), 200)]
    assert train == [task.prompt for task in islice(generate(family, "train", 3), 200)]
    heldout = [task.prompt for task in islice(generate(family, "heldout", 3), 50)]
    assert not set(train) & set(heldout)
    assert {split_of(prompt) for prompt in train} == {"train"}
    assert len(set(train)) == len(train)


def test_arithmetic_answers_are_sums():
    """The last line of a worked sum states the sum of the numbers asked for."""
    for task in islice(generate("arithmetic", "heldout", 1), 30):
        numbers = [int(word.strip("?.,")) for word in task.prompt.split() if word.strip("?.,").isdigit()]
        assert task.answer.endswith(f"The answer is {sum(numbers)}.")
        assert is_correct(task.answer, task.answer + "\n")


def test_mt_bench_has_two_turns_and_gsm8k_its_number(tmp_path):
    """The layouts of FastChat's and OpenAI's files."""
    mt = tmp_path / "mt.jsonl"
    mt.write_text(json.dumps({"question_id": 81, "category": "writing", "turns": ["a", "b"]}) + "\n")
    (conversation,) = load_workload(Workload(name="m", source="mt_bench", path=str(mt)), 0)
    assert (conversation.prompt_id, conversation.category, conversation.turns) == ("mt_bench-81", "writing", ("a", "b"))
    gsm = tmp_path / "gsm.jsonl"
    gsm.write_text(json.dumps({"question": "q", "answer": "so\n#### 1,234"}) + "\n")
    (conversation,) = load_workload(Workload(name="g", source="gsm8k", path=str(gsm)), 0)
    assert (conversation.turns, conversation.answer) == (("q",), Number("1234"))


def test_chat_jsonl_takes_turns_or_messages(tmp_path):
    """Recorded answers are left out, a system message is kept."""
    path = tmp_path / "chat.jsonl"
    messages = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "x"},
        {"role": "user", "content": "b"},
    ]
    path.write_text(json.dumps({"messages": messages}) + "\n\n" + json.dumps({"id": 7, "turns": ["c"]}) + "\n")
    first, second = load_workload(Workload(name="c", source="chat_jsonl", path=str(path)), 0)
    assert (first.system, first.turns) == ("s", ("a", "b"))
    assert (second.prompt_id, second.turns) == ("7", ("c",))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "chat.jsonl:2: not JSON"),
        ("[]", "chat.jsonl:2: not a JSON object"),
        ("{}", "chat.jsonl:2: a record needs `prompt`"),
        ('{"turns": []}', "chat.jsonl:2: turns must be a list of texts"),
        ('{"messages": [{"role": "bot", "content": ""}]}', "one of system, user, assistant"),
        ('{"messages": [{"role": "user"}]}', "content is missing"),
    ],
)
def test_bad_lines_are_told_with_their_place(tmp_path, line, said):
    """File, line and what is wrong."""
    path = tmp_path / "chat.jsonl"
    path.write_text('{"turns": ["fine"]}\n' + line + "\n")
    with pytest.raises(WorkloadError, match=said.replace("[", r"\[")):
        load_workload(Workload(name="c", source="chat_jsonl", path=str(path)), 0)


def test_an_unreachable_set_names_path(monkeypatch, tmp_path):
    """Offline and not cached: the error says to give a local file."""
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr("datasets.config.HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True, raising=False)
    with pytest.raises(WorkloadError, match="give a local file with `path:`"):
        load_workload(Workload(name="g", source="gsm8k", num_prompts=1), 0)


def test_the_seed_chooses_prompts(tmp_path):
    """The same seed chooses the same ones, in the file's order."""
    path = tmp_path / "chat.jsonl"
    path.write_text("".join(json.dumps({"id": n, "turns": [str(n)]}) + "\n" for n in range(50)))
    workload = Workload(name="c", source="chat_jsonl", path=str(path), num_prompts=5)
    chosen = [c.prompt_id for c in load_workload(workload, 1)]
    assert chosen == [c.prompt_id for c in load_workload(workload, 1)]
    assert chosen == sorted(chosen, key=int)
    assert chosen != [c.prompt_id for c in load_workload(workload, 2)]


def test_prompts_are_rendered_as_transformers_would():
    """Token ids equal apply_chat_template's for a conversation of several turns."""
    from draftbench.drafts.training import hf  # noqa: F401  (prepares torchvision before transformers)

    transformers = pytest.importorskip("transformers")
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is 12 + 30?"},
        {"role": "assistant", "content": "42."},
        {"role": "user", "content": "  Is <|end|> a token? \n"},
    ]
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(str(TARGET))
    expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
    rendered = ChatRenderer(TARGET).render(messages)
    assert list(rendered) == list(expected)
    assert len(prompt_sha256(rendered)) == 64


def test_the_suites_template_and_thinking_reach_the_prompt(tmp_path):
    """A template of the suite's replaces the target's; thinking is the template's enable_thinking."""
    template = tmp_path / "chat.jinja"
    template.write_text("{{ messages[0].content }}{% if enable_thinking is defined %}{{ enable_thinking }}{% endif %}")
    message = [{"role": "user", "content": "hello "}]

    def rendered(**fields) -> str:
        renderer = ChatRenderer(TARGET, Rendering(template=str(template), **fields))
        return renderer.decode(renderer.render(message))

    assert rendered() == "hello "
    assert rendered(thinking=False) == "hello False"


def test_raw_text_is_tokenized_alone():
    """No template; a conversation of several messages is refused."""
    renderer = ChatRenderer(TARGET, Rendering(raw=True))
    assert renderer.decode(renderer.render([{"role": "user", "content": "def f(x):"}])) == "def f(x):"
    with pytest.raises(WorkloadError, match="sends one text, but a conversation has 2 messages"):
        renderer.render([{"role": "system", "content": "s"}, {"role": "user", "content": "u"}])


def test_a_model_without_a_template_is_refused(tmp_path: Path):
    """The message says where a template belongs."""
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is missing"):
        ChatRenderer(tmp_path)
    (tmp_path / "tokenizer.json").write_text((TARGET / "tokenizer.json").read_text())
    with pytest.raises(CheckpointError, match="has no chat template"):
        ChatRenderer(tmp_path)
