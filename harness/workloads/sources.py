"""What a suite can name as a source of prompts: where each set comes from, its pinned revision, its terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class HubSet:
    """A data set on Hugging Face's hub; the revision is a commit, so it fixes the content too."""

    dataset: str
    config: str | None
    split: str
    revision: str

    def __str__(self) -> str:
        return f"{self.dataset}@{self.revision[:12]}"


@dataclass(frozen=True)
class RepositoryFile:
    """One file of a repository at a commit, on GitHub or the hub; the hash is checked where one is known."""

    host: Literal["github", "hub"]
    repository: str
    revision: str
    path: str
    sha256: str | None

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision[:12]} {Path(self.path).name}"

    @property
    def url(self) -> str:
        """Where `datasets` downloads it from."""
        if self.host == "hub":
            return f"hf://datasets/{self.repository}@{self.revision}/{self.path}"
        return f"https://raw.githubusercontent.com/{self.repository}/{self.revision}/{self.path}"


@dataclass(frozen=True)
class Source:
    """One kind of workload."""

    title: str
    licence: str
    home: HubSet | RepositoryFile | None = None
    """Where it is loaded from when the suite gives no path; None for generated prompts and files of the user's."""
    num_prompts: int | None = None
    sha256: str | None = None
    """Of the authors' own file, for those who load that one by path."""
    instruction: str = ""
    """Put straight before each record's text, unless the suite gives another."""
    synthetic: bool = False
    """Not written by people: a table has to say so."""


OWN = "yours"
EAGLE = "eagle"
"""The subset of sets whose 80 questions EAGLE's, HASS's and PRISM's papers are measured on."""


def _questions(folder: str, sha256: str) -> RepositoryFile:
    """A question file of SafeAILab/EAGLE, in FastChat's layout; its MT-Bench is FastChat's own file."""
    revision = "cb7e0841fe0c206c6ed74a197ad5e2a1f13f5a2b"
    return RepositoryFile("github", "SafeAILab/EAGLE", revision, f"eagle/data/{folder}/question.jsonl", sha256)


EAGLE_QUESTIONS: Mapping[str, RepositoryFile] = {
    "humaneval": _questions("humaneval", "ce0244e2b228339e9a11afc63a151719beede1e389fdaec7cd9751d33902180e"),
    "gsm8k": _questions("gsm8k", "a55920b2f2aac724241124c59e5b8e8168dbbeb2ab0fdbee17d5b0ab6db5ff27"),
    "alpaca": _questions("alpaca", "8ad3e5a7fc61b88d8e25edb81a52a2ce00a04494d5694c122cb11a5cc26a00df"),
    "cnn_dm": _questions("sum", "916876f0c42f938a944de96eed16e51425f29f27438cca5c9ef4737c0fedf771"),
    "natural_questions": _questions("qa", "04252e41ab00bcc03b11940b4a3766cf40ae0b76a09c4f56968ba952f0b029f3"),
}

SOURCES: Mapping[str, Source] = {
    "synthetic": Source(
        "this project's arithmetic, recall, dialogue, code, rewrite; train and held-out splits", "Apache-2.0",
        synthetic=True,
    ),
    "random": Source("random words, so many tokens a prompt", "none", synthetic=True),
    "windows": Source("a text file of yours, cut into prompts of so many of the target's tokens", OWN),
    "prompts": Source("a file of yours: a prompt a line (.txt), or objects with `prompt`, `turns` or `messages`", OWN),
    "chat_jsonl": Source("a file of yours: one object a line with `messages` or `turns`", OWN),
    "sharegpt": Source(
        "ShareGPT conversations (V3, unfiltered, cleaned), or a file with `conversations`",
        "Apache-2.0 by its card; the conversations' own terms are open",
        RepositoryFile(
            "hub", "anon8231489123/ShareGPT_Vicuna_unfiltered", "192ab2185289094fc556ec8ce5ce1e8e587154ca",
            "ShareGPT_V3_unfiltered_cleaned_split.json", None,
        ),
    ),
    "gsm8k": Source(
        "GSM8K, test split (Cobbe et al. 2021)", "MIT",
        HubSet("openai/gsm8k", "main", "test", "740312add88f781978c0658806c59bc2815b9866"), 1319,
        "3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14",
    ),
    "mt_bench": Source(
        "MT-Bench, both turns (Zheng et al. 2023)", "Apache-2.0",
        RepositoryFile(
            "github", "lm-sys/FastChat", "0e6d3e4beaab66f4d3f93db72541a4abab8af28d",
            "fastchat/llm_judge/data/mt_bench/question.jsonl",
            "119565adbab82227089cefdb44c8d7e2cf04dc0a0ec233634c82e7d4e2a944f7",
        ), 80, "119565adbab82227089cefdb44c8d7e2cf04dc0a0ec233634c82e7d4e2a944f7",
    ),
    "spec_bench": Source(
        "Spec-Bench, its six groups as categories (Xia et al. 2024)", "Apache-2.0; its texts keep their own terms",
        RepositoryFile(
            "github", "hemingkx/Spec-Bench", "fd2c1cd7d2201ef71db4c5f4e455008f017967bf",
            "data/spec_bench/question.jsonl",
            "4b6d33e79484f9841c487ee87d1cf6aa8c6066f61d5d482ff09e5a007fafdf04",
        ), 480, "4b6d33e79484f9841c487ee87d1cf6aa8c6066f61d5d482ff09e5a007fafdf04",
    ),
    "humaneval": Source(
        "HumanEval (Chen et al. 2021)", "MIT",
        HubSet("openai/openai_humaneval", "openai_humaneval", "test", "7dce6050a7d6d172f3cc5c32aa97f52fa1a2e544"), 164,
        "1d49078ba3e2b196b9344535bef34a43021f038fad9561d6ee7c53450609a6a2",
        "Complete the code I provided.\n\n",
    ),
    "mbpp": Source(
        "MBPP, tasks 11 to 510 (Austin et al. 2021)", "CC BY 4.0",
        HubSet("google-research-datasets/mbpp", "full", "test", "4bb6404fdc6cacfda99d4ac4205087b89d32030c"), 500,
        "ccf64ceae9c5403bf50a044cb6d505bfd2a2963ee58338ba268fd65beab92a9f",
        "You are an expert Python programmer, and here is your task: ",
    ),
    "alpaca": Source(
        "Alpaca's instructions (Taori et al. 2023)", "CC BY-NC 4.0",
        HubSet("tatsu-lab/alpaca", None, "train", "dce01c9b08f87459cf36a430d809084718273017"), 52002,
    ),
    "cnn_dm": Source(
        "CNN/DailyMail 3.0.0, test split, to be summarised (See et al. 2017)", "Apache-2.0",
        HubSet("abisee/cnn_dailymail", "3.0.0", "test", "96df5e686bee6baa90b8bee7c28b81fa3fa6223d"), 11490,
        instruction="Summarize: ",
    ),
    "natural_questions": Source(
        "Natural Questions, open, validation split (Lee et al. 2019)", "CC BY-SA 3.0",
        HubSet("google-research-datasets/nq_open", None, "validation", "5dd9790a83002ad084ddeb7c420dc716852c6f28"),
        3610,
    ),
    "math500": Source(
        "MATH-500 (Hendrycks et al. 2021; Lightman et al. 2023)", "MIT (MATH); its card states none",
        HubSet("HuggingFaceH4/MATH-500", None, "test", "6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be"), 500,
        instruction="Solve the problem step by step and put the final answer in \\boxed{}.\n\n",
    ),
    "speed_bench": Source(
        "SPEED-Bench, qualitative or throughput splits (Abramovich et al. 2026)", "NVIDIA Evaluation Dataset License",
        HubSet("nvidia/SPEED-Bench", "qualitative", "test", "454f88454792dfa3ccfd7ef15fff248efde44cd1"),
    ),
}  # fmt: skip
COUNTED = frozenset({"random", "windows"})
"""Sources whose prompts are counted in the target's tokens."""
SYNTHETIC = frozenset(name for name, source in SOURCES.items() if source.synthetic)
"""Sources whose rows a table has to mark."""
