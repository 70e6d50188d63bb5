"""One function for each set: from a record as it is published to a conversation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from draftbench.harness.errors import WorkloadError
from draftbench.harness.workloads.prompts import Answer, Conversation, Formula, Number, Program
from draftbench.harness.workloads.published import text_of, texts_of

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
    """FastChat's layout, in which several sets are passed around: question_id, category, turns."""

    def make(record: Record, place: str, number: int, instruction: str) -> Conversation:
        turns = texts_of(record, "turns", place)
        return Conversation(
            f"{name}-{record.get('question_id', number)}",
            _category(record, "category", place),
            (instruction + turns[0], *turns[1:]),
        )

    return make


def spec_bench(record: Record, place: str, number: int, instruction: str) -> Conversation:
    """Spec-Bench: MT-Bench's categories become one, math_reasoning keeps GSM8K's answer."""
    category, turns = text_of(record, "category", place), texts_of(record, "turns", place)
    answer = None
    if category == "math_reasoning" and "reference" in record:
        answer = _final_number(texts_of(record, "reference", place)[0])
    group = category if category in SPEC_BENCH_GROUPS else "multi_turn"
    prompt_id = f"spec_bench-{record.get('question_id', number)}"
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
    return Conversation(f"gsm8k-{number}", "math", (text,), answer=_final_number(text_of(record, "answer", place)))


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
    """MBPP: a task in words with its asserts; only the tasks of the test split."""
    task, tests = record.get("task_id"), "\n".join(texts_of(record, "test_list", place))
    if not isinstance(task, int) or isinstance(task, bool):
        raise WorkloadError(f"{place}: task_id is {task!r:.60}; it must be a number.")
    if task not in MBPP_TEST_TASKS:
        return None
    text = f"{instruction}{text_of(record, 'text', place)} Your code should pass these tests:\n\n{tests}"
    setup = record.get("test_setup_code") or ""
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
    """ShareGPT: the human's turns; what the other side said is left to the target."""
    messages = record.get("conversations")
    if not isinstance(messages, list):
        raise WorkloadError(f"{place}: conversations must be a list of objects with `from` and `value`.")
    turns = [text_of(m, "value", place) for m in messages if isinstance(m, dict) and m.get("from") in ("human", "user")]
    if not turns:
        raise WorkloadError(f"{place}: no message is from human or user.")
    return Conversation(f"sharegpt-{number}", None, (instruction + turns[0], *turns[1:]))


def own(record: Record, place: str, number: int, instruction: str) -> Conversation:
    """A record of the user's: `prompt` (one text), `turns` (user texts) or `messages` (role and content)."""
    prompt_id = str(record.get("id", record.get("question_id", number)))
    category = _category(record, "category", place)
    if "prompt" in record:
        return Conversation(prompt_id, category, (instruction + text_of(record, "prompt", place),))
    if "turns" in record:
        turns = texts_of(record, "turns", place)
        return Conversation(prompt_id, category, (instruction + turns[0], *turns[1:]))
    system, turns = _from_messages(record, place)
    return Conversation(prompt_id, category, (instruction + turns[0], *turns[1:]), system)


def _from_messages(record: Record, place: str) -> tuple[str | None, tuple[str, ...]]:
    messages = record.get("messages")
    if not isinstance(messages, list) or not messages:
        raise WorkloadError(
            f"{place}: a record needs `prompt` (a text), `turns` (user texts) or `messages` (role and content)."
        )
    system, turns = None, []
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in ("system", "user", "assistant"):
            raise WorkloadError(f"{place}: each message needs a role, one of system, user, assistant.")
        content = text_of(message, "content", place)
        if message["role"] == "system":
            system = content
        elif message["role"] == "user":
            turns.append(content)
        # Recorded assistant turns are left out: the target answers, and its answers become the history.
    if not turns:
        raise WorkloadError(f"{place}: no message has the role user.")
    return system, tuple(turns)


def _category(record: Record, key: str, place: str) -> str | None:
    return text_of(record, key, place) if record.get(key) is not None else None


def _final_number(solution: str) -> Answer:
    return Number(solution.rpartition("####")[2].strip().replace(",", ""))


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
