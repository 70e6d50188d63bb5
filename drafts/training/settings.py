"""What a recipe file says: target, corpus, drafts, budget; strict, errors name file and line. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from draftbench.drafts.api import Tree
from draftbench.harness.suite import Name, Positive, Sampling, Target, Workload, resolved_workloads
from draftbench.harness.suite.problems import workload_problems
from draftbench.harness.suite.strict_yaml import Section, load_strict, refuse, spelled
from draftbench.harness.suite.yaml_lines import Path_

Share = Annotated[float, Field(gt=0, lt=1)]
NonNegative = Annotated[int, Field(ge=0)]


class Corpus(Section):
    """Text to learn from: sources as in suites, or token ids that are there already."""

    responses: Literal["target", "corpus"] = Field(
        description="Who answers: the target itself, through the engine, or the corpus's own text."
    )
    sources: Annotated[tuple[Workload, ...] | None, Field(strict=False, min_length=1)] = None
    tokens: str | None = Field(None, description="JSONL of prompt_ids and output_ids, as `bench.py outputs` writes it.")
    sampling: Sampling | None = Field(None, description="For responses: target. Greedy at temperature 0.")
    concurrency: Positive = Field(8, description="Answers that the engine makes at once.")
    max_total_tokens: Positive = Field(8192, description="Slots of the engine's KV pool.")
    longest: Positive | None = Field(None, description="Samples of more tokens are left out; the target's context.")

    @model_validator(mode="after")
    def _one_origin(self) -> Corpus:
        if (self.sources is None) == (self.tokens is None):
            raise ValueError("give either sources or tokens")
        if self.sources is not None and (self.responses == "target") != (self.sampling is not None):
            raise ValueError("responses: target needs sampling, and only it does")
        return self


class Validation(Section):
    """Samples that are not learned from."""

    share: Annotated[Share, Field(description="Of the corpus: losses and learning rates are judged on it.")] = 0.05


class Budget(Section):
    """What is equal for all drafts."""

    axis: Literal["tokens", "steps", "flops"]
    amount: Annotated[float, Field(gt=0, strict=False)] = Field(description="Of the axis; every draft stops there.")
    tokens_per_batch: Positive = Field(6144, description="Most tokens of a batch, padding included.")
    row_tokens: Positive | None = Field(
        None,
        description="Pack samples into rows of so many tokens; left out, rows hold one sample of like length each.",
    )
    gradient_accumulation: Positive = Field(1, description="Batches of an optimiser step.")
    learning_rates: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(strict=False, min_length=1)] = Field(
        description="Tried on a tenth of the data with a tenth of the amount; with one there is no search."
    )
    warmup: Annotated[float, Field(ge=0, lt=1)] = Field(0.1, description="Share of the amount with a rising rate.")
    decay: Annotated[float, Field(ge=0, le=1)] = Field(0.5, description="Share of the amount with a falling rate.")
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    clip_norm: Annotated[float, Field(gt=0)] = 1.0


class DraftEntry(Section):
    """One draft: a recipe, with settings of its own."""

    name: Name
    recipe: str = Field(description="One of the installed recipes: standalone, medusa, eagle, hass, prism, …")
    options: dict[str, Any] = Field(default_factory=dict, description="The recipe's own settings.")
    objective: dict[str, Any] = Field(default_factory=dict, description="Other values for its objective.")
    seeds: Annotated[tuple[NonNegative, ...] | None, Field(strict=False, min_length=1)] = Field(
        None, description="Instead of the recipe's."
    )
    num_samples: Positive | None = Field(None, description="Learn from the first so many, in a fixed random order.")
    share: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="Of the budget: below 1 a control that is trained less, as HASS before PRISM's second phase."
    )
    search_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.1, description="Of budget and samples, for the search of its learning rate; 1 tries each at full length."
    )


class TreeSize(Section):
    """The tree on which acceptance is measured."""

    num_steps: Positive = 5
    topk: Positive = 4
    num_draft_tokens: Annotated[int, Field(ge=2)] = 16

    @property
    def tree(self) -> Tree:
        """As the drafts' simulation takes it."""
        return Tree(self.num_steps, self.topk, self.num_draft_tokens)


class Training(Section):
    """One recipe file."""

    version: Literal[1]
    name: Name
    target: Target
    corpus: Corpus
    validation: Validation = Validation()
    heldout: Corpus | None = Field(None, description="Acceptance is measured on it; left out, on the validation split.")
    tree: TreeSize = TreeSize()
    drafts: Annotated[tuple[DraftEntry, ...], Field(min_length=1, strict=False)]
    budget: Budget
    seeds: Annotated[tuple[NonNegative, ...], Field(strict=False, min_length=1)] = (0,)
    dtype: Literal["float32", "bfloat16"] = Field(description="In which drafts compute; weights are kept in float32.")
    out: str | None = Field(None, description="The folder, relative to the recipe; --out takes its place.")
    checkpoint_every: Positive = Field(50, description="Steps after which the state of a training is saved.")

    @model_validator(mode="after")
    def _names_are_unique(self) -> Training:
        names = [draft.name for draft in self.drafts]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise ValueError(f"drafts[{index}].name is {name}, as an earlier one; give each a name of its own")
        return self


def load_training(path: Path) -> tuple[Training, dict[Path_, int]]:
    """Read and check a recipe file; its paths become independent of where it lies.

    Returns:
        The settings, and the line of each key.

    Raises:
        SuiteError: anything wrong with it, with file, line, what was found and what is allowed.
    """
    training, lines = load_strict(path, Training, "recipe")
    folder = path.parent
    update: dict[str, Any] = {}
    problems: list[tuple[Path_, str]] = []
    for key in ("corpus", "heldout"):
        corpus = getattr(training, key)
        if corpus is None:
            continue
        if corpus.sources is not None:
            problems += workload_problems(corpus.sources, folder, (key, "sources"))
            sources = resolved_workloads(corpus.sources, folder)
            update[key] = corpus.model_copy(update={"sources": sources})
        else:
            at = (key, "tokens")
            if not (folder / corpus.tokens).is_file():
                text = f"there is no file {folder / corpus.tokens}; paths are relative to the recipe."
                problems.append((at, f"{spelled(at)}: {text}"))
            update[key] = corpus.model_copy(update={"tokens": str(folder / corpus.tokens)})
    refuse(path, lines, problems)
    if training.out is not None:
        update["out"] = str(folder / training.out)
    return training.model_copy(update=update), lines
