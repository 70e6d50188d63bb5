"""Workload sources by name: from a suite's workload to its conversations."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from harness.errors import WorkloadError
from harness.suite import Workload
from harness.workloads import synthetic
from harness.workloads.jsonl import hub_rows, read_jsonl, text_of, texts_of
from harness.workloads.prompts import Conversation, chosen

SOURCES = {
    "synthetic": "this project: arithmetic, recall, dialogue, code, rewrite; train and held-out splits",
    "chat_jsonl": "a file of yours: one object a line with `messages` or `turns`",
    "gsm8k": "GSM8K test split (Cobbe et al. 2021), openai/gsm8k, or its JSONL by path",
    "mt_bench": "MT-Bench (Zheng et al. 2023), HuggingFaceH4/mt_bench_prompts, or FastChat's question.jsonl by path",
}
GSM8K_REVISION = "main"
MT_BENCH_REVISION = "main"
"""Revisions of the public sets when the suite names none. Suites that are published should pin a commit."""

Records = Iterator[tuple[str, dict[str, Any]]]


def load_workload(workload: Workload, seed: int) -> tuple[Conversation, ...]:
    """A workload's conversations, chosen by the seed.

    Raises:
        WorkloadError: a file or set cannot be read, a record is not as it should be, or there is none.
    """
    loaders = {"synthetic": _synthetic, "chat_jsonl": _chat_jsonl, "gsm8k": _gsm8k, "mt_bench": _mt_bench}
    conversations = loaders[workload.source](workload, seed)
    if not conversations:
        raise WorkloadError(f"workload {workload.name}: {workload.path or workload.source} holds no prompts.")
    return chosen(conversations, workload.num_prompts, seed)


def _synthetic(workload: Workload, seed: int) -> list[Conversation]:
    assert workload.family is not None, "load_suite checks that"
    assert workload.num_prompts is not None, "load_suite checks that"
    tasks = islice(synthetic.generate(workload.family, workload.split, seed), workload.num_prompts)
    return [
        Conversation(f"{workload.family}-{number}", workload.family, (task.prompt,), answer=task.answer)
        for number, task in enumerate(tasks)
    ]


def _chat_jsonl(workload: Workload, seed: int) -> list[Conversation]:
    assert workload.path is not None
    return [_chat(record, place, number) for number, (place, record) in enumerate(read_jsonl(Path(workload.path)))]


def _chat(record: dict[str, Any], place: str, number: int) -> Conversation:
    prompt_id = str(record.get("id", record.get("question_id", number)))
    category = record.get("category")
    category = None if category is None else str(category)
    if "turns" in record:
        return Conversation(prompt_id, category, texts_of(record, "turns", place))
    messages = record.get("messages")
    if not isinstance(messages, list) or not messages:
        raise WorkloadError(f"{place}: a record needs `turns` (user texts) or `messages` (role and content).")
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
    return Conversation(prompt_id, category, tuple(turns), system)


def _gsm8k(workload: Workload, seed: int) -> list[Conversation]:
    records: Records
    if workload.path is not None:
        records = read_jsonl(Path(workload.path))
    else:
        records = hub_rows("openai/gsm8k", "main", "test", workload.revision or GSM8K_REVISION)
    return [
        Conversation(
            f"gsm8k-{number}",
            "math",
            (text_of(record, "question", place),),
            answer=text_of(record, "answer", place).rpartition("####")[2].strip().replace(",", ""),
        )
        for number, (place, record) in enumerate(records)
    ]


def _mt_bench(workload: Workload, seed: int) -> list[Conversation]:
    if workload.path is not None:
        return [
            Conversation(
                f"mt_bench-{record.get('question_id', number)}",
                text_of(record, "category", place),
                texts_of(record, "turns", place),
            )
            for number, (place, record) in enumerate(read_jsonl(Path(workload.path)))
        ]
    rows = hub_rows("HuggingFaceH4/mt_bench_prompts", None, "train", workload.revision or MT_BENCH_REVISION)
    return [
        Conversation(
            f"mt_bench-{row.get('prompt_id', number)}",
            text_of(row, "category", place),
            texts_of(row, "prompt", place),
        )
        for number, (place, row) in enumerate(rows)
    ]
