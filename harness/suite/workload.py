"""What is asked, and how it is rendered and sampled."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from draftbench.harness.suite.fields import Count, Name, PathText, Positive, SourceName, Text, Tokens, name_or_number
from draftbench.harness.suite.strict_yaml import Section
from draftbench.harness.workloads.synthetic import FAMILIES


class Workload(Section):
    """Where prompts come from."""

    name: Name
    source: SourceName
    family: str | None = Field(None, description=f"For synthetic: one of {', '.join(FAMILIES)}.")
    split: Literal["heldout", "train"] = Field("heldout", description="For synthetic.")
    subset: str | None = Field(
        None,
        description="For speed_bench: qualitative (default), throughput_1k to _32k. For humaneval, gsm8k, alpaca, "
        "cnn_dm, natural_questions: eagle, the 80 questions of EAGLE's files, which PRISM's paper takes.",
    )
    prompt_tokens: Annotated[int, Field(ge=1, le=10_000_000)] | None = Field(
        None, description="For random: tokens of each prompt."
    )
    tokenizer: PathText | None = Field(
        None, description="For random, windows: folder of the tokenizer that counts; the target's if left out."
    )
    window_tokens: Tokens | None = Field(None, description="For windows: tokens of the text in each prompt.")
    stride_tokens: Tokens | None = Field(
        None,
        description="For windows: tokens from one prompt's beginning to the next one's; window_tokens if left out.",
    )
    answer: Literal["exact", "number", "choice", "regex"] | None = Field(
        None,
        description="For prompts, chat_jsonl: how the target's last answer is held against what each record has under "
        "`answer`: the same text, the same last number, the same letter, or found by it as a regular expression.",
    )
    path: PathText | None = Field(None, description="Local file or folder, relative to the suite, instead of the home.")
    field: Annotated[
        str | Positive | None,
        BeforeValidator(name_or_number),
        Field(description="For prompts: the key or column that holds the prompt; a number in a table without heading."),
    ] = None
    revision: PathText | None = Field(None, description="Another commit of the public data set than the pinned one.")
    num_prompts: Count | None = Field(None, description="How many, chosen by the seed; all if left out.")
    tune_prompts: Count | None = Field(
        None,
        description="Send so many of the source's other prompts, none of those that num_prompts and the seed choose: "
        "what `bench.py tune` runs on.",
    )
    max_tokens: Tokens | None = Field(None, description="Longest output, instead of sampling's.")
    prompts: Literal["population", "sample"] = Field(
        "population",
        description="Whether verdicts are about these prompts, or about prompts like them: the spread between prompts "
        "then widens the intervals (at concurrency 1).",
    )
    system: Text | None = Field(None, description="System prompt of every conversation, instead of the record's.")
    instruction: Text | None = Field(None, description="Text straight before each record's, instead of the set's own.")
    malformed: Literal["refuse", "skip"] = Field("refuse", description="What a malformed or too long record does.")
    max_prompt_chars: Positive | None = Field(None, description="A longer turn makes a record too long.")
    run_programs: bool = Field(False, description="For humaneval, mbpp: run the answers' code, in a sandbox.")


class Rendering(Section):
    """How a conversation becomes the target's tokens."""

    template: Annotated[
        PathText | None, Field(description="Jinja file, relative to the suite, not the target's own.")
    ] = None
    thinking: Annotated[bool | None, Field(description="The template's enable_thinking; its default if left out.")] = (
        None
    )
    template_arguments: dict[str, Any] = Field(
        default_factory=dict, description="Further arguments of the template, for example {reasoning_effort: high}."
    )
    date: Annotated[
        str | None,
        Field(
            pattern=r"^\d{4}-\d{2}-\d{2}$",
            description='What a template takes for today, in quotes: "2026-11-27"; the date of the run if left out.',
        ),
    ] = None
    raw: Annotated[bool, Field(description="Send the text alone, for base models: no template, no instruction.")] = (
        False
    )

    @property
    def arguments(self) -> dict[str, Any]:
        """What the suite gives to the template."""
        thinking = {} if self.thinking is None else {"enable_thinking": self.thinking}
        return {**thinking, **self.template_arguments}


class Sampling(Section):
    """How tokens are chosen, alike for every arm."""

    temperature: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]
    max_tokens: Tokens
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)]
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=-1, le=1_000_000_000)] = -1
