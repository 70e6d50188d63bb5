"""One function for each set: from a record as it is published to a conversation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from draftbench.harness.errors import WorkloadError
from draftbench.harness.workloads.messages import content_of, conversation_of, messages_of
from draftbench.harness.workloads.prompts import Answer, Conversation, Formula, Number, Program
from draftbench.harness.workloads.published import text_of, texts_of
from draftbench.harness.workloads.score import final_number

Record = dict[str, Any]
Maker = Callable[[Record, str, int, str], Conversation | None]
"""Record, its place, its number and the instruction to the conversation; None for a record outside the test split."""

PLACEHOLDER = "FULL BENCHMARK DATA SHOULD BE FETCHED FROM THE SOURCE"
"""How SPEED-Bench's turns begin whose text must be filled in from another set. Source: its data card."""
SPEC_BENCH_GROUPS = frozenset({"translation", "summarization", "qa", "math_reasoning", "rag"})
"""Spec-Bench's groups; its other categories are MT-Bench's and are reported as one. Source: Spec-Bench, table 1."""
MBPP_TEST_TASKS = range(11, 511)
"""Source: Austin et al. 2021, section 2.1."""


class UnresolvedError(WorkloadError):
    """A set that is not complete as it is published; never skipped."""


def question(name: str) -> Maker:
    """FastChat's layout, in which several sets are passed around: question_id, category, turns, GSM8K's reference."""

    def make(record: Record, place: str, number: int, instruction: str) -> Conversation:
        turns = texts_of(record, "turns", place)
        answer = None
        if name == "gsm8k" and record.get("reference"):
            answer = _final_number(_first(record, "reference", place), place)
        return Conversation(
            f"{name}-{_number(record, number)}",
            _category(record, "category", place),
            (instruction + turns[0], *turns[1:]),
            answer=answer,
        )

    return make


def spec_bench(record: Record, place: str, number: int, instruction: str) -> Conversation:
    """Spec-Bench: MT-Bench's categories become one, math_reasoning keeps GSM8K's answer."""
    category, turns = text_of(record, "category", place), texts_of(record, "turns", place)
    answer = None
    if category == "math_reasoning" and "reference" in record:
        answer = _final_number(_first(record, "reference", place), place)
    group = category if category in SPEC_BENCH_GROUPS else "multi_turn"
    prompt_id = f"spec_bench-{_number(record, number)}"
    return Conversation(prompt_id, group, (instruction + turns[0], *turns[1:]), answer=answer)


def speed_bench(record: Record, place: str, number: int, instruction: str) -> Conversation:
    """SPEED-Bench: turns that are only placeholders are refused."""
    turns = texts_of(record, "turns", place)
    if any(turn.startswith(PLACEHOLDER) for turn in turns):
        raise UnresolvedError(
            f"{place}: a turn is a placeholder; SPEED-Bench is complete only after NVIDIA's prepare_data.py "
            "(Model-Optimizer, examples/specdec_bench) has filled it in. Run that and give its Parquet file as `path:`."
        )
    prompt_id = f"speed_bench-{text_of(record, 'question_id', place)}"
    return Conversation(prompt_id, text_of(record, "category", place), (instruction + turns[0], *turns[1:]))


def gsm8k(record: Record, place: str, number: int, instruction: str) -> Conversation:
    """GSM8K: the answer is the number after ####."""
    text = instruction + text_of(record, "question", place)
    answer = _final_number(text_of(record, "answer", place), place)
    return Conversation(f"gsm8k-{number}", "math", (text,), answer=answer)


def math500(record: Record, place: str, number: int, instruction: str) -> Conversation:
    """MATH-500: one category a subject."""
    text = instruction + text_of(record, "problem", place)
    answer = Formula(text_of(record, "answer", place))
    return Conversation(f"math500-{number}", _category(record, "subject", place), (text,), answer=answer)


def humaneval(record: Record, place: str, number: int, instruction: str) -> Conversation:
    """HumanEval: a function to complete, and tests that call it."""
    prompt, entry_point = text_of(record, "prompt", place), text_of(record, "entry_point", place)
    tests = f"{text_of(record, 'test', place)}\ncheck({entry_point})\n"
    prompt_id = text_of(record, "task_id", place).replace("HumanEval/", "humaneval-")
    return Conversation(prompt_id, "code", (instruction + prompt,), answer=Program(prompt, entry_point, tests))


def mbpp(record: Record, place: str, number: int, instruction: str) -> Conversation | None:
    """MBPP: a task in words with its asserts; only the tasks of the test split. The sanitised layout says `prompt`."""
    task, tests = record.get("task_id"), "\n".join(texts_of(record, "test_list", place))
    if not isinstance(task, int) or isinstance(task, bool):
        raise WorkloadError(f"{place}: task_id is {task!r:.60}; it must be a number.")
    if task not in MBPP_TEST_TASKS:
        return None
    task_text = text_of(record, "prompt" if "text" not in record and "prompt" in record else "text", place)
    text = f"{instruction}{task_text} Your code should pass these tests:\n\n{tests}"
    imports = texts_of(record, "test_imports", place) if record.get("test_imports") else ()
    setup = record.get("test_setup_code") or "\n".join(imports)
    return Conversation(f"mbpp-{task}", "code", (text,), answer=Program("", None, f"{setup}\n{tests}\n"))


def alpaca(record: Record, place: str, number: int, instruction: str) -> Conversation:
    """Alpaca: an instruction, with its input below where there is one."""
    text, given = text_of(record, "instruction", place), record.get("input")
    whole = f"{text}\n\n{given}" if given else text
    return Conversation(f"alpaca-{number}", "instruction", (instruction + whole,))


def cnn_dm(record: Record, place: str, number: int, instruction: str) -> Conversation:
    """CNN/DailyMail: an article to be summarised."""
    return Conversation(f"cnn_dm-{number}", "summarization", (instruction + text_of(record, "article", place),))


def natural_questions(record: Record, place: str, number: int, instruction: str) -> Conversation:
    """Natural Questions: the question alone, without a document."""
    return Conversation(f"natural_questions-{number}", "qa", (instruction + text_of(record, "question", place),))


def sharegpt(record: Record, place: str, number: int, instruction: str) -> Conversation:
    """ShareGPT: the human's turns and the system's; what the other side said is left to the target."""
    messages = messages_of(record.get("conversations"), "conversations", place)
    return conversation_of(messages, f"sharegpt-{number}", None, instruction, place)


def own(record: Record, place: str, number: int, instruction: str) -> Conversation:
    """A record of the user's: `prompt` (a text, or messages), `turns` (user texts), `messages` or `conversations`."""
    prompt_id, category = _own_id(record, number, place), _category(record, "category", place)
    if "turns" in record and "prompt" not in record:
        turns = texts_of(record, "turns", place)
        return Conversation(prompt_id, category, (instruction + turns[0], *turns[1:]))
    key = next((key for key in ("prompt", "messages", "conversations") if key in record), None)
    if key is None:
        raise WorkloadError(f"{place}: {_what_to_name(record)}")
    if key == "prompt" and not _is_messages(record[key]):
        return Conversation(prompt_id, category, (instruction + content_of(record, key, place),))
    return conversation_of(messages_of(record[key], key, place), prompt_id, category, instruction, place)


def _is_messages(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and "type" not in value[0]


def _own_id(record: Record, number: int, place: str) -> str:
    found = next((record[key] for key in ("id", "question_id") if record.get(key) is not None), number)
    if isinstance(found, bool) or not isinstance(found, str | int | float):
        raise WorkloadError(f"{place}: id is {found!r:.60}; it must be a text or a number.")
    return str(found)


def _what_to_name(record: Record) -> str:
    """What a record needs, and how to say it of one that has other keys."""
    needs = "a record needs `prompt` (a text), `turns` (user texts) or `messages` (role and content)"
    if "instruction" in record:
        return f"{needs}; this is Alpaca's layout: source: alpaca reads it."
    texts = [key for key, value in record.items() if isinstance(value, str)]
    if not texts:
        return f"{needs}."
    return (
        f"{needs}; its keys are {', '.join(record)}: name the one that holds the prompt, for example field: {texts[0]} "
        "(or a column's number, where a table has no heading)."
    )


def _number(record: Record, number: int) -> Any:
    """A question's own number; its place where it has none."""
    found = record.get("question_id")
    return number if found is None else found


def _category(record: Record, key: str, place: str) -> str | None:
    return text_of(record, key, place) if record.get(key) is not None else None


def _first(record: Record, key: str, place: str) -> str:
    """A text, or the first of a list of texts."""
    return text_of(record, key, place) if isinstance(record[key], str) else texts_of(record, key, place)[0]


def _final_number(solution: str, place: str) -> Answer:
    found = final_number(solution)
    if found is None:
        raise WorkloadError(f"{place}: {solution!r:.60} holds no number that an answer could be held against.")
    return Number(found)


MAKERS: Mapping[str, Maker] = {
    "prompts": own,
    "chat_jsonl": own,
    "sharegpt": sharegpt,
    "gsm8k": gsm8k,
    "mt_bench": question("mt_bench"),
    "spec_bench": spec_bench,
    "humaneval": humaneval,
    "mbpp": mbpp,
    "alpaca": alpaca,
    "cnn_dm": cnn_dm,
    "natural_questions": natural_questions,
    "math500": math500,
    "speed_bench": speed_bench,
}
"""Every source that reads records."""
