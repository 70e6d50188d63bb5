"""Chat templates: rendered as transformers renders them, refused where a prompt would be wrong, stopped where they do
not end."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from draftbench.harness.errors import CheckpointError, SuiteError
from draftbench.harness.suite import Rendering, load_suite
from draftbench.harness.workloads import templates
from draftbench.harness.workloads.dated import dated
from draftbench.harness.workloads.render import ChatRenderer

TARGET = Path("drafts/checkpoints/tiny/target")
CASES = {case["name"]: case for case in json.loads((Path(__file__).parent / "templates.json").read_text())}
"""Handed in with what is right; names are theirs."""
HELLO = [{"role": "user", "content": "Hello"}]
DATE = Rendering(date="2026-11-27")
RIGHT: dict[str, tuple[Rendering, str]] = {
    "strftime_now, guarded": (DATE, "27 Nov 2026|Hello"),
    "strftime_now, unguarded": (DATE, "2026-11-27|Hello"),
    "generation tag": (Rendering(), "Hello"),
    "tools is not none": (Rendering(), "Hello"),
    "tojson with arguments": (Rendering(), '{\n  "role":"user",\n  "content":"Hello"\n}'),
    "content parts loop": (Rendering(), "Hello"),
    "beginning of text only in special_tokens_map.json": (Rendering(), "<s>Hello"),
    "template in chat_template.jinja": (Rendering(), "FILE:Hello"),
    "other switches": (
        Rendering(template_arguments={"thinking": True, "reasoning_effort": "high"}), "T|high|Hello",
    ),
}  # fmt: skip
REFUSED = {
    "type error inside": "the chat template {folder} refuses a conversation: TypeError",
    "list of templates without default": "{folder} has only templates named tool_use",
    "raise_exception on system": "{folder} refuses a conversation: no system role",
    "class walk": "{folder} refuses a conversation: access to attribute '__class__' of 'list' object is unsafe",
}


def folder_of(tmp_path: Path, case: dict[str, Any]) -> Path:
    """A model folder with the case's files, and the embedded tokenizer."""
    folder = tmp_path / "model"
    folder.mkdir(exist_ok=True)
    shutil.copy(TARGET / "tokenizer.json", folder)
    config = dict(case["tokenizer_config"])
    if "special_tokens_map" in config:
        (folder / "special_tokens_map.json").write_text(json.dumps(config.pop("special_tokens_map")))
    if (file := config.pop("file", None)) is not None:
        (folder / file).write_text(case["template"])
    elif case["template"] is not None:
        config["chat_template"] = case["template"]
    config.pop("system", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def messages_of(case: dict[str, Any]) -> list[dict[str, str]]:
    system = case["tokenizer_config"].get("system")
    return ([] if system is None else [{"role": "system", "content": system}]) + HELLO


def test_every_case_has_a_value() -> None:
    assert set(CASES) == set(RIGHT) | set(REFUSED)


@pytest.mark.parametrize("name", RIGHT)
def test_templates_render_as_they_are_meant(name: str, tmp_path: Path) -> None:
    """Each with what the folder and the suite give it."""
    rendering, text = RIGHT[name]
    assert ChatRenderer(folder_of(tmp_path, CASES[name]), rendering).prompt_text(HELLO) == text


@pytest.mark.parametrize("name", REFUSED)
def test_templates_that_cannot_be_rendered_are_refused(name: str, tmp_path: Path) -> None:
    """By their place, with their own words; no traceback."""
    folder = folder_of(tmp_path, CASES[name])
    with pytest.raises(CheckpointError) as caught:
        ChatRenderer(folder).render(messages_of(CASES[name]))
    assert REFUSED[name].format(folder=folder) in str(caught.value)


SYSTEM = [{"role": "system", "content": "Be brief. é"}, *HELLO]
TALK = [*HELLO, {"role": "assistant", "content": "Hi <b>'you'</b>"}, {"role": "user", "content": 'And\n"now"?'}]
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}]
CHATML = """\
{%- if tools %}
    {{- '<|im_start|>system\\n# Tools\\n' }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "<|im_end|>\\n" }}
{%- endif %}
{%- set ns = namespace(last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if message.role == "user" %}{%- set ns.last = index %}{%- break %}{%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- if loop.index0 == ns.last %}{{- '<last>' }}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""
LLAMA = """\
{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: " + date_string + "\\n\\n" }}
{{- system_message }}{{- "<|eot_id|>" }}
{%- if tools is not none %}{{- "TOOLS" }}{%- endif %}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}
"""
MISTRAL = """\
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('roles must alternate') }}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {%- if loop.first and system_message is defined %}
            {{- ' [INST] ' + system_message + '\\n\\n' + message['content'] + ' [/INST]' }}
        {%- else %}
            {{- ' [INST] ' + message['content'] + ' [/INST]' }}
        {%- endif %}
    {%- else %}
        {%- generation %}{{- ' ' + message['content'] + eos_token }}{%- endgeneration %}
    {%- endif %}
{%- endfor %}
"""
VISION = """\
{% for message in messages %}<|{{ message['role'] }}|>
{% if message['content'] is string %}{{ message['content'] }}{% else %}\
{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>{% elif 'text' in part %}{{ part['text'] }}\
{% endif %}{% endfor %}{% endif %}<|end|>
{% endfor %}{% if add_generation_prompt %}<|assistant|>
{% endif %}"""
HARMONY = """\
{%- macro head(role, name=none) -%}<|start|>{{ role }}{% if name %} {{ name }}{% endif %}<|message|>{%- endmacro -%}
{{- head('system') }}{{ 'Reasoning: ' ~ (reasoning_effort or 'medium') }}
{{- '\\nCurrent date: ' + strftime_now("%Y-%m-%d") }}<|end|>
{%- for message in messages -%}
{%- if message.role not in ['user', 'assistant', 'system'] %}{%- continue %}{%- endif -%}
{{- head('developer' if message.role == 'system' else message.role) }}{{ message.content }}<|end|>
{%- endfor -%}
{%- if add_generation_prompt -%}<|start|>assistant{%- endif -%}
{{ messages | map(attribute='role') | list | tojson(indent=2, sort_keys=true, ensure_ascii=true) }}"""
FAMILIES = {"chatml": CHATML, "llama": LLAMA, "mistral": MISTRAL, "vision": VISION, "harmony": HARMONY}
"""Written by us in the manner of the field's families: what their templates use."""


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that transformers reads as a tokenizer, with special tokens of every layout."""
    folder = tmp_path_factory.mktemp("oracle")
    shutil.copy(TARGET / "tokenizer.json", folder)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|pad|>", "add_bos_token": True, "sep_token": None,
        "pad_token": {"__type": "AddedToken", "content": "<|pad|>", "lstrip": False, "rstrip": False,
                      "normalized": False, "single_word": False, "special": True},
        "image_token": "<image>",
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    bos = {"content": "<|system|>", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    (folder / "special_tokens_map.json").write_text(json.dumps({"bos_token": bos, "eos_token": "<|end|>"}))
    return folder


@pytest.mark.parametrize("messages", [HELLO, SYSTEM, TALK], ids=["user", "system", "talk"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "arguments", [{}, {"tools": TOOLS}, {"enable_thinking": False}, {"reasoning_effort": "high"}], ids=str
)
def test_rendering_equals_transformers(
    family: str,
    messages: list[dict[str, str]],
    arguments: dict[str, Any],
    oracle: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Text for text, with the date frozen on both sides; an argument that a template does not read is refused."""
    from transformers import AutoTokenizer
    from transformers.utils import chat_template_utils

    class Frozen(chat_template_utils.datetime):  # type: ignore[misc,name-defined]
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return cls(2026, 11, 27)

    monkeypatch.setattr(chat_template_utils, "datetime", Frozen)
    file = oracle / f"{family}.jinja"
    file.write_text(FAMILIES[family])
    rendering = Rendering(template=str(file), date="2026-11-27", template_arguments=arguments)
    if any(name not in FAMILIES[family] for name in arguments):
        with pytest.raises(CheckpointError, match=f"takes no {next(iter(arguments))} from a suite"):
            ChatRenderer(oracle, rendering)
        return
    tokenizer = AutoTokenizer.from_pretrained(oracle)
    theirs = tokenizer.apply_chat_template(
        messages, chat_template=FAMILIES[family], add_generation_prompt=True, tokenize=False, **arguments
    )
    assert ChatRenderer(oracle, rendering).prompt_text(messages) == theirs
    ids = tokenizer(theirs, add_special_tokens=False).input_ids
    assert ChatRenderer(oracle, rendering).render(messages) == tuple(ids)


def renderer(tmp_path: Path, template: str, config: dict[str, Any] | None = None, **rendering: Any) -> ChatRenderer:
    folder = folder_of(tmp_path, {"template": template, "tokenizer_config": config or {}})
    return ChatRenderer(folder, Rendering(**rendering))


@pytest.mark.parametrize(
    ("template", "messages", "said"),
    [
        ("nothing", HELLO, "leaves out message 1 (user)"),
        ("{{ messages[1].content }}", SYSTEM, "leaves out message 1 (system) of a conversation of system, user"),
        ("{{ messages[0].content }}", TALK, "leaves out message 2 (assistant), message 3 (user)"),
        ("{{ messages[0].content[:20] }}", [{"role": "user", "content": "x" * 30}], "does not keep the user's text"),
        ("{{ bos_token }}{{ messages[0].content }}", HELLO, "writes bos_token, which no file of its folder names"),
        ("{{ messages[0].content", HELLO, "is broken: line 1: "),
        ("{% for p in messages[0].content %}{{ p.image }}{% endfor %}", HELLO, "leaves out message 1 (user)"),
        ("{% include 'other' %}", HELLO, "refuses a conversation: "),
    ],
)  # fmt: skip
def test_no_prompt_is_silently_wrong(template: str, messages: list[dict[str, str]], said: str, tmp_path: Path) -> None:
    """A message that a template drops, cuts or never looks at; a token that nobody named."""
    with pytest.raises(CheckpointError) as caught:
        renderer(tmp_path, template).render(messages)
    assert said in str(caught.value)


def test_contents_that_a_template_tidies_are_kept(tmp_path: Path) -> None:
    """White space and JSON's escapes are not the text."""
    for template in (
        "{{ messages[0].content | trim }}",
        "{{ messages | tojson }}",
        "{{ messages[0].content | upper }}x",
    ):
        message = [{"role": "user", "content": ' A "B"\n\nC '}]
        assert renderer(tmp_path, template.replace(" | upper", "")).render(message)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "takes more than 1 s for"),
        ("{% for a in range(99999) %}{{ 'x' * 9999 }}{% endfor %}", "makes more than 16 million characters"),
        ("{{ 'x' * 9999999999 }}", "needs more than 1 GiB of memory"),
        ("{% set n = namespace(s='xxxx') %}{% for a in range(40) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
         "needs more than 1 GiB of memory|takes more than 1 s for"),
        ("{{ 9 ** 99999999 }}", "takes more than 1 s for"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "RecursionError"),
    ],
)  # fmt: skip
def test_templates_that_loop_or_grow_are_stopped(
    template: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In their own process, which is started again for the next one."""
    monkeypatch.setattr(templates, "RENDER_S", 1.0)
    began_s = time.monotonic()
    with pytest.raises(CheckpointError) as caught:
        renderer(tmp_path, template + "{{ messages[0].content }}").render(HELLO)
    assert re.search(said, str(caught.value))
    assert time.monotonic() - began_s < 8
    monkeypatch.setattr(templates, "RENDER_S", 10.0)
    assert renderer(tmp_path, "{{ messages[0].content }}").prompt_text(HELLO) == "Hello"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("tokenizer_config.json", "{\n\n", r"tokenizer_config.json:3: not JSON"),
        ("tokenizer_config.json", "[]", "tokenizer_config.json: not a JSON object"),
        ("special_tokens_map.json", "{", "special_tokens_map.json:1: not JSON"),
        ("tokenizer.json", "{}", "tokenizer.json is no fast tokenizer"),
        ("chat_template.jinja", "x" * (2 << 20), "at most 1048576 are read"),
    ],
)
def test_broken_files_are_named(name: str, content: str, said: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {"template": "{{ messages[0].content }}", "tokenizer_config": {}})
    (folder / name).write_text(content)
    with pytest.raises(CheckpointError, match=said):
        ChatRenderer(folder)


def test_a_template_may_stand_in_any_of_a_folders_files(tmp_path: Path) -> None:
    """The jinja file, then the configuration (a list's default, or one for tools), then a processor's."""
    folder = folder_of(tmp_path, {"template": "CONFIG{{ messages[0].content }}", "tokenizer_config": {}})
    assert ChatRenderer(folder).prompt_text(HELLO) == "CONFIGHello"
    several = [
        {"name": name, "template": name + "{{ tools }}{{ messages[0].content }}"} for name in ("default", "tool_use")
    ]
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": several}))
    assert ChatRenderer(folder).prompt_text(HELLO) == "defaultNoneHello"
    with_tools = Rendering(template_arguments={"tools": [{"a": 1}]})
    assert ChatRenderer(folder, with_tools).prompt_text(HELLO) == "tool_use[{'a': 1}]Hello"
    (folder / "chat_template.jinja").write_text("FILE{{ messages[0].content }}")
    assert ChatRenderer(folder).prompt_text(HELLO) == "FILEHello"
    (folder / "chat_template.jinja").unlink()
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": "PROCESSOR{{ messages[0].content }}"}))
    assert ChatRenderer(folder).prompt_text(HELLO) == "PROCESSORHello"


SUITE = """\
version: 1
name: dated
target: {model: tiny, dtype: float32}
arms: [{name: vanilla, architecture: vanilla}]
workloads: [{name: sums, source: synthetic, family: arithmetic, num_prompts: 1}]
sampling: {temperature: 0, max_tokens: 8, seed: 0}
load: [{concurrency: 1}]
blocks: 1
rendering: {template: dated.jinja}
"""


def test_the_day_of_a_run_is_kept(tmp_path: Path) -> None:
    """A run that goes on has the day on which it began; a suite's own day stands; other templates have none."""
    path, file = tmp_path / "dated.yaml", tmp_path / "dated.jinja"
    path.write_text(SUITE)
    file.write_text("{{ strftime_now('%Y') }}{{ messages[0].content }}")
    found = dated(load_suite(path), TARGET, None)
    assert found.rendering.date is not None
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({"suite": {"rendering": {"date": "2020-01-02"}}}))
    assert dated(load_suite(path), TARGET, manifest).rendering.date == "2020-01-02"
    assert ChatRenderer(TARGET, dated(load_suite(path), TARGET, manifest).rendering).prompt_text(HELLO) == "2020Hello"
    path.write_text(SUITE.replace("dated.jinja}", 'dated.jinja, date: "1999-12-31"}'))
    assert dated(load_suite(path), TARGET, manifest).rendering.date == "1999-12-31"
    file.write_text("{{ messages[0].content }}")
    path.write_text(SUITE)
    assert dated(load_suite(path), TARGET, manifest).rendering.date is None


@pytest.mark.parametrize(
    ("rendering", "said"),
    [
        ("{date: yesterday}", "rendering.date is 'yesterday'"),
        ("{raw: true, template_arguments: {a: 1}}", "leave rendering.template_arguments out"),
        ("{thinking: true, template_arguments: {enable_thinking: true}}", "is rendering.thinking too"),
        ("{template: /dev/zero}", "/dev/zero is not a regular file"),
    ],
)
def test_mistakes_are_told_with_file_and_line(rendering: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "dated.yaml"
    path.write_text(SUITE.replace("{template: dated.jinja}", rendering))
    with pytest.raises(SuiteError) as caught:
        load_suite(path)
    assert said in str(caught.value)
    assert f"{path}:9: " in str(caught.value)
