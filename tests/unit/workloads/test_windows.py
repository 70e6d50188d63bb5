"""Windows of a text: whole, in order, so many of the target's tokens, the same each time."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from draftbench.harness.errors import SuiteError, WorkloadError
from draftbench.harness.suite import Workload, load_suite, with_tokenizer
from draftbench.harness.workloads.conversations import load_workload
from draftbench.harness.workloads.random_words import tokenizer_of
from draftbench.harness.workloads.windows import windows_of

TARGET = Path("drafts/checkpoints/tiny/target")
TEXT = "".join(f"Sentence {number} says that the sum of {number} and 1 is {number + 1}.\n" for number in range(60))


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "book.txt"
    path.write_text(TEXT)
    return path


def test_windows_follow_each_other_and_are_the_text(book: Path) -> None:
    """Side by side they are its beginning again, each of the length that was asked for."""
    found = windows_of(book, TARGET, 32, 32)
    assert TEXT.startswith("".join(text for _, text in found))
    assert [start for start, _ in found] == list(range(0, 32 * len(found), 32))
    tokenizer = tokenizer_of(TARGET)
    lengths = [len(tokenizer.encode(text, add_special_tokens=False).ids) for _, text in found]
    assert all(31 <= length <= 34 for length in lengths)


def test_a_stride_lets_windows_overlap_or_leaves_text_out(book: Path) -> None:
    """Half a window: twice as many; two windows: half."""
    each, half, double = (len(windows_of(book, TARGET, 32, stride)) for stride in (32, 16, 64))
    assert half in (2 * each - 1, 2 * each)
    assert double == (each + 1) // 2


def test_they_are_prompts_chosen_by_the_seed(book: Path, tmp_path: Path) -> None:
    """In their order, named by the token at which they begin; packed files too, and returns are no text."""
    packed = tmp_path / "packed.txt.gz"
    packed.write_bytes(gzip.compress(TEXT.replace("\n", "\r\n").encode()))
    settings = {"name": "w", "source": "windows", "window_tokens": 24, "num_prompts": 5, "tokenizer": str(TARGET)}
    found = load_workload(Workload.model_validate({**settings, "path": str(book)}), 3)
    assert len(found) == 5
    starts = [int(each.prompt_id.removeprefix("windows-")) for each in found]
    assert starts == sorted(starts)
    assert all(start % 24 == 0 for start in starts)
    assert load_workload(Workload.model_validate({**settings, "path": str(packed)}), 3) == found
    others = load_workload(Workload.model_validate({**settings, "path": str(book), "tune_prompts": 3}), 3)
    assert not {each.turns for each in others} & {each.turns for each in found}


def test_texts_that_give_no_window_are_told(book: Path, tmp_path: Path) -> None:
    """Too short, not UTF-8 with its line, no tokenizer."""
    path = tmp_path / "short.txt"
    path.write_text("Three words only.")
    with pytest.raises(WorkloadError, match=r"tokens, window_tokens is 100; lower it"):
        windows_of(path, TARGET, 100, 100)
    path.write_bytes(b"fine\nnot \xff so\n")
    with pytest.raises(WorkloadError, match=r"short\.txt:2: not UTF-8"):
        windows_of(path, TARGET, 2, 2)
    with pytest.raises(WorkloadError, match=r"tokenizer\.json is missing"):
        windows_of(book, tmp_path, 2, 2)


def test_a_suite_names_them(book: Path, tmp_path: Path) -> None:
    """The target's tokenizer counts; what is missing or means nothing is told with its line."""
    text = Path("suites/gsm8k-tiny.yaml").read_text()
    own = "- {name: book, source: windows, path: book.txt, window_tokens: 64, num_prompts: 4}"
    lines = [f"  {own}" if "source: gsm8k" in line else line for line in text.splitlines()]
    suite = tmp_path / "suite.yaml"
    suite.write_text("\n".join(lines))
    workload = with_tokenizer(load_suite(suite), TARGET).workloads[0]
    assert len(load_workload(workload, 0)) == 4
    suite.write_text("\n".join(lines).replace(", window_tokens: 64", ""))
    with pytest.raises(SuiteError, match=r"suite\.yaml:\d+: workloads\[0\]\.window_tokens is missing"):
        load_suite(suite)
    suite.write_text(text.replace("source: gsm8k,", "source: gsm8k, stride_tokens: 4,", 1))
    with pytest.raises(SuiteError, match=r"stride_tokens means nothing for gsm8k"):
        load_suite(suite)
