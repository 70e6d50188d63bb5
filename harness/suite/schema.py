"""Suites: what is run, as strict frozen models, read from YAML with errors that name file and line."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, PrivateAttr, Tag, model_validator

from draftbench.drafts.api import Tree
from draftbench.harness.errors import SuiteError
from draftbench.harness.records import ENDPOINT
from draftbench.harness.suite.engine_arguments import risky
from draftbench.harness.suite.problems import suite_problems
from draftbench.harness.suite.profiles import curves_for
from draftbench.harness.suite.strict_yaml import UNSPELLED, Section, line_of, load_strict, refuse, spelled
from draftbench.harness.suite.yaml_lines import Path_
from draftbench.harness.workloads.synthetic import FAMILIES

_RISK = "may run code, open ports, or read and write elsewhere"
_NOT_TAKEN = "that is taken from no manifest. Look at the suite, save it as a file, and run that"
AnySection = TypeVar("AnySection", bound=Section)
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=60)]
Positive = Annotated[int, Field(ge=1, le=1_000_000_000)]
Count = Annotated[int, Field(ge=1, le=100_000)]
Tokens = Annotated[int, Field(ge=1, le=10_000_000)]
Repeats = Annotated[int, Field(ge=1, le=1000)]
Finite = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
Text = Annotated[str, Field(max_length=100_000)]
Share = Annotated[float, Field(ge=0, le=1)]
Alphas = Annotated[tuple[Share, ...], Field(strict=False)]
SimulatedAcceptance = Annotated[
    Annotated[Alphas, Tag(UNSPELLED + "shares")]
    | Annotated[dict[str, Alphas], Tag(UNSPELLED + "by workload")]
    | Annotated[str, Tag(UNSPELLED + "file")],
    Discriminator(
        lambda value: UNSPELLED + {dict: "by workload", str: "file"}.get(type(value), "shares"),
    ),
]
MOST_CELLS, MOST_REQUESTS = 10_000, 2_000_000
"""Of a whole run; what is more is a slip of the pen."""
CONTROL_CONCURRENCY = 4
"""Requests at once in the control pass, whose batches must have another shape than the reference pass's."""
OPEN_LOOP_REQUESTS = 48
"""Requests that an engine may run at once in an open loop where the suite does not say it; SGLang's own limit with a
draft."""
FIRST_STAGE, AUTO_BLOCKS = 5, 2
"""Launches before `blocks: auto` looks at the spread, and blocks of each of its launches."""
SourceName = Literal[
    "synthetic", "random", "prompts", "chat_jsonl", "sharegpt", "gsm8k", "mt_bench", "spec_bench", "humaneval", "mbpp",
    "alpaca", "cnn_dm", "natural_questions", "math500", "speed_bench",
]  # fmt: skip


def _count_or_auto(value: Any) -> Any:
    """One message for both kinds."""
    if value == "auto" or (type(value) is int and 1 <= value <= 1000):
        return value
    raise ValueError("a number from 1 to 1000, or auto")


def _is_path(text: str) -> str:
    """What systems take as a file's path, a hub id among them."""
    if len(text) > 1000 or any(len(part.encode(errors="replace")) > 255 for part in text.split("/")):
        raise ValueError("a path has at most 1000 characters, and each name in it 255 bytes")
    if not text.isprintable():
        raise ValueError("a path has no control characters")
    return text


PathText = Annotated[str, AfterValidator(_is_path)]


def _name_or_number(value: Any) -> Any:
    """One message for both kinds."""
    if value is None or (isinstance(value, str) and value) or (type(value) is int and value >= 1):
        return value
    raise ValueError("the name of a key or column, or a column's number from 1")


class Target(Section):
    """The model that decides."""

    model: PathText = Field(description="Embedded name (tiny), hub id (owner/name), or path relative to the suite.")
    revision: PathText | None = Field(None, description="Revision of a hub id.")
    dtype: Literal["float32", "bfloat16", "float16"]
    random_weights: bool = Field(
        False,
        description="Make the weights of target and drafts on the device, at random: for times at a shape. Every draft "
        "then needs simulated_acceptance.",
    )


class Tuning(Section):
    """How `bench.py tune` found an arm's tree."""

    configurations: Positive = Field(description="Trees that were tried, the default among them.")
    prompts_sha256: str = Field(description="Hash of the prompts that they were tried on; none is a test prompt.")
    run: str = Field(description="Name of the folder with its runs.")


class Arm(Section):
    """The target with one draft configuration."""

    name: Name
    architecture: str = Field(ENDPOINT, description="One of `bench.py list`; left out for an endpoint.")
    endpoint: Annotated[str, Field(pattern=r"^https?://[^\s/@]+(/\S*)?$")] | None = Field(
        None, description="Address of a server that runs already, to be measured as it is, instead of an engine."
    )
    api: Literal["sglang", "openai", "openai-chat"] | None = Field(
        None,
        description="How an endpoint is asked: SGLang's /generate, /v1/completions with token ids, or "
        "/v1/chat/completions with messages.",
    )
    model: str | None = Field(None, description="The name by which an OpenAI-compatible endpoint serves the target.")
    api_key_env: str | None = Field(None, description="Environment variable that holds the endpoint's key.")
    checkpoint: PathText | None = Field(None, description="The draft's weights: embedded name, hub id or path.")
    num_steps: Repeats | None = Field(None, description="Draft steps of a round: the tree's depth.")
    topk: Repeats | None = Field(None, description="Branches kept at each step: the tree's width.")
    num_draft_tokens: Annotated[int, Field(ge=2, le=10_000)] | None = Field(
        None, description="Nodes of the tree that are verified, the root included."
    )
    options: dict[str, Any] = Field(default_factory=dict, description="The architecture's own settings.")
    engine: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="Further SGLang server arguments, for this arm alone."
    )
    tuning: Annotated[Tuning | None, Field(description="Written by `bench.py tune`: how the tree was found.")] = None
    simulated_acceptance: Annotated[
        SimulatedAcceptance | None,
        Field(
            description="α_k of every step, or such a list for every workload by its name, or FILE#DRAFT with such "
            "lists (`bench.py profile` writes them), drawn in place of the verifier's answer: what-if figures."
        ),
    ] = None
    simulated_from: Annotated[
        str | None, Field(description="Written where simulated_acceptance is a file: its name and source.")
    ] = None

    @property
    def is_endpoint(self) -> bool:
        """Whether a server that runs already is measured."""
        return self.architecture == ENDPOINT

    @property
    def drafts(self) -> bool:
        """Whether its rounds are recorded."""
        return self.architecture not in ("vanilla", ENDPOINT)

    @property
    def label(self) -> str:
        """The name that tables and figures show: simulated acceptance is told wherever the arm is."""
        return self.name if self.simulated_acceptance is None else f"{self.name} (simulated acceptance)"

    def alphas(self, workload: str) -> tuple[float, ...] | None:
        """What is drawn on a workload; None where acceptance is measured."""
        given = self.simulated_acceptance
        assert not isinstance(given, str), "load_suite reads the file"
        return given[workload] if isinstance(given, dict) else given

    @property
    def tree(self) -> Tree | None:
        """The tree of a round; None where the suite does not give one."""
        sizes = (self.num_steps, self.topk, self.num_draft_tokens)
        return None if None in sizes else Tree(*(size or 0 for size in sizes))


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
        None, description="For random: folder of the tokenizer that counts; the target's."
    )
    path: PathText | None = Field(None, description="Local file or folder, relative to the suite, instead of the home.")
    field: Annotated[
        str | Positive | None,
        BeforeValidator(_name_or_number),
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


class Auto(Section):
    """When a run with `blocks: auto` has enough launches."""

    half_width: Annotated[float, Field(gt=0, lt=1)] = Field(
        description="Wanted half of every speedup's interval, as a share: 0.02 for ±2%."
    )
    time_limit_s: Positive = Field(description="No launch starts when so many seconds have passed since this start.")


class LoadPoint(Section):
    """How requests are sent: so many at once, or at times that do not wait for any answer (an open loop)."""

    concurrency: Count | None = Field(None, description="Closed loop: requests under way at once.")
    rate: Finite | None = Field(
        None, description="Open loop: requests a second on average, at random times (Poisson) drawn from the seed."
    )
    burst: Annotated[int, Field(ge=2, le=100_000)] | None = Field(
        None, description="With rate: so many requests arrive together, at the same mean rate."
    )
    trace: PathText | None = Field(None, description="Open loop: JSONL of arrival times, relative to the suite.")
    num_prompts: Count | None = Field(None, description="Of each workload's prompts, the first so many; all of them.")

    @property
    def name(self) -> str:
        """`c=8`, `4/s`, `4/s by 8` or `trace chat`, as cells and tables have it."""
        if self.trace is not None:
            return f"trace {Path(self.trace).stem}"
        if self.rate is not None:
            return f"{self.rate:g}/s" + ("" if self.burst is None else f" by {self.burst}")
        return f"c={self.concurrency}"

    @property
    def is_open(self) -> bool:
        """Whether requests are sent at times of their own."""
        return self.concurrency is None

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> LoadPoint:
        given = [name for name in ("concurrency", "rate", "trace") if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none of them"
            raise ValueError(f"a load point has one of concurrency, rate and trace; found {found}")
        if self.burst is not None and self.rate is None:
            raise ValueError(f"burst says how requests at a rate arrive; it means nothing with {given[0]}")
        return self


class Limits(Section):
    """What a user still takes as served: goodput counts the requests that meet every limit given."""

    ttft_ms: Finite | None = Field(None, description="Longest time to the first token.")
    tpot_ms: Finite | None = Field(None, description="Longest mean time per later token.")

    @model_validator(mode="after")
    def _has_one(self) -> Limits:
        if self.ttft_ms is None and self.tpot_ms is None:
            raise ValueError("limits holds none; give ttft_ms, tpot_ms or both")
        return self


Requirement = Literal["data", "tokens", "steps", "flops", "parameters", "tree", "tuning"]


class Fairness(Section):
    """What has to be alike for all drafts, and the corpus that evaluation prompts are looked for in."""

    require: Annotated[
        tuple[Requirement, ...],
        Field(strict=False, description="A run is refused unless these are known and equal for all drafts."),
    ] = ()
    corpus: Annotated[
        PathText | None,
        Field(description="The drafts' training corpus (JSONL), relative to the suite: prompts are looked for in it."),
    ] = None
    _place: str = PrivateAttr("the suite")

    @property
    def place(self) -> str:
        """File and line of the requirements, as far as they come from a file."""
        return self._place


class Tune(Section):
    """What `bench.py tune` spends, the same on every draft."""

    configurations: Annotated[
        int, Field(ge=2, le=1000, description="Trees that are tried for each draft, its own included.")
    ] = 9
    prompts: Annotated[
        int, Field(ge=1, le=100_000, description="Prompts of each workload, none of them the suite's.")
    ] = 8
    blocks: Annotated[int, Field(ge=1, le=1000, description="Blocks of the second stage; the first has one.")] = 3


class Suite(Section):
    """One comparison: every arm on every workload at every load point, in blocks and launches."""

    version: Literal[1]
    name: Name
    target: Target
    arms: Annotated[tuple[Arm, ...], Field(min_length=1, strict=False)]
    workloads: Annotated[tuple[Workload, ...], Field(min_length=1, strict=False)]
    sampling: Sampling
    rendering: Rendering = Rendering()
    fairness: Fairness = Fairness()
    tune: Tune = Tune()
    load: Annotated[tuple[LoadPoint, ...], Field(min_length=1, strict=False)]
    limits: Limits | None = Field(None, description="Limits on latency, for the goodput.")
    blocks: Annotated[int | Literal["auto"], BeforeValidator(_count_or_auto)] = Field(
        description="Repetitions of all prompts in a launch, with the arms in another order; auto also adds launches."
    )
    launches: Repeats = Field(1, description="How often every engine is started anew; three or more for a verdict.")
    auto: Auto | None = Field(None, description="For blocks: auto, when it is enough.")
    turns: Literal["prompts", "cells"] = Field(
        "prompts",
        description="At concurrency 1, where the engines of a launch run side by side: the arms take turns prompt by "
        "prompt, or cell by cell.",
    )
    warmup_requests: Annotated[int, Field(ge=0, le=100_000)] = Field(
        2, description="Unmeasured requests before the first cell."
    )
    prefix_cache: bool = Field(False, description="SGLang's radix cache; off, or repeated prompts would be free.")
    max_total_tokens: Positive = Field(8192, description="Slots of the KV pool, the same for every arm.")
    chunked_prefill_size: Positive | None = Field(None, description="Longest piece of a prompt in one pass.")
    max_running_requests: Count | None = Field(
        None, description=f"Largest concurrency if left out, at least {OPEN_LOOP_REQUESTS} with an open loop."
    )
    telemetry_period_s: Finite | None = Field(
        0.1, description="Seconds between looks at power, clocks and memory; null for no telemetry."
    )

    _allowed: frozenset[str] = PrivateAttr(frozenset())

    @property
    def allowed(self) -> frozenset[str]:
        """Engine arguments that its user permitted when it was read; none of a suite from a manifest."""
        return self._allowed

    def allowing(self, names: Collection[str]) -> Suite:
        """The suite with permission for further engine arguments."""
        found = self.model_copy()
        found._allowed = self._allowed | set(names)
        return found

    def check_allowed(self) -> None:
        """Find out before anything is started whether every engine argument is harmless or was permitted.

        Raises:
            SuiteError: one is neither.
        """
        for arm in self.arms:
            for name in risky(arm.engine, self._allowed):
                raise SuiteError(f"arm {arm.name}: engine.{name} {_RISK}, and {_NOT_TAKEN} with --allow {name}.")

    @property
    def running_requests(self) -> int:
        """Requests that an engine may run at once."""
        largest = (point.concurrency or OPEN_LOOP_REQUESTS for point in self.load)
        return self.max_running_requests or max(CONTROL_CONCURRENCY, *largest)

    def prompts_at(self, load: str) -> int | None:
        """How many prompts of each workload the load point of this name sends; None for all."""
        return next(point.num_prompts for point in self.load if point.name == load)

    @property
    def first_stage(self) -> int | None:
        """Launches from which `auto` chooses how many there will be; None where the suite says it."""
        return FIRST_STAGE if self.auto is not None else None

    @property
    def blocks_per_launch(self) -> int:
        """Blocks of each launch."""
        return AUTO_BLOCKS if self.blocks == "auto" else self.blocks

    @model_validator(mode="after")
    def _auto_is_whole(self) -> Suite:
        if (self.blocks == "auto") != (self.auto is not None):
            raise ValueError(
                "blocks: auto and auto: {half_width: …, time_limit_s: …} need each other; give both or neither"
            )
        if self.auto is not None and self.launches != 1:
            raise ValueError(f"launches is {self.launches}, but blocks: auto chooses the launches; leave it out")
        if self.auto is not None and all(arm.architecture != "vanilla" for arm in self.arms):
            raise ValueError("blocks: auto needs a vanilla arm: the intervals that it narrows are of speedups over it")
        return self

    @model_validator(mode="after")
    def _is_no_slip(self) -> Suite:
        repeats = self.blocks_per_launch * (self.first_stage or self.launches) * len(self.arms)
        cells = repeats * len(self.workloads) * len(self.load)
        if cells > MOST_CELLS:
            raise ValueError(
                f"launches × blocks × arms × workloads × load are {cells:,} cells; allowed: {MOST_CELLS:,}, take fewer"
            )
        requests = repeats * sum(
            min(count, point.num_prompts or count)
            for workload in self.workloads
            for point in self.load
            if (count := workload.tune_prompts or workload.num_prompts) is not None
        )
        if requests > MOST_REQUESTS:
            raise ValueError(f"its cells send {requests:,} requests; allowed: {MOST_REQUESTS:,}, take fewer prompts")
        return self

    @property
    def simulates(self) -> bool:
        """Whether an arm's acceptance is simulated."""
        return any(arm.simulated_acceptance is not None for arm in self.arms)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Suite:
        for kind, names in (("arms", [a.name for a in self.arms]), ("workloads", [w.name for w in self.workloads])):
            for index, name in enumerate(names):
                if name in names[:index]:
                    raise ValueError(f"{kind}[{index}].name is {name}, as an earlier one; give each a name of its own")
        points = [point.name for point in self.load]
        for index, name in enumerate(points):
            if name in points[:index]:
                raise ValueError(f"load[{index}] is {name}, as an earlier one; leave one of them out")
        return self


def load_suite(path: Path, allowed: Collection[str] = ()) -> Suite:
    """Read and check a suite.

    Args:
        allowed: engine arguments that its user permits though they may run code, open ports or load from elsewhere.

    Raises:
        SuiteError: anything wrong with it, with file, line, what was found and what is allowed.
    """
    suite, lines = load_strict(path, Suite, "suite")
    suite = _with_curves(suite, path, lines)
    refuse(path, lines, suite_problems(suite, path.parent, allowed))
    suite._allowed = frozenset(allowed)
    if suite.fairness.require:
        suite.fairness._place = f"{path}:{line_of(('fairness', 'require'), lines)}"
    return _resolved(suite, path.parent)


def _with_curves(suite: Suite, path: Path, lines: dict[Path_, int]) -> Suite:
    """The suite with the curves of the files that arms name for their acceptance.

    Raises:
        SuiteError: a file is no profile, or lacks what an arm needs.
    """
    names, arms, problems = [workload.name for workload in suite.workloads], [], []
    for index, arm in enumerate(suite.arms):
        given, at = arm.simulated_acceptance, ("arms", index, "simulated_acceptance")
        if not isinstance(given, str):
            arms.append(arm)
            continue
        try:
            curves, source = curves_for(given, path.parent, arm.name, names, arm.num_steps)
        except (KeyError, SuiteError) as error:
            problems.append((at, f"{spelled(at)} is {given}: {error.args[0]}"))
            continue
        said = {"simulated_acceptance": curves, "simulated_from": f"{Path(given).name}: {source}"}
        arms.append(arm.model_copy(update=said))
    refuse(path, lines, problems)
    return suite.model_copy(update={"arms": tuple(arms)})


def check_recorded(suite: Suite) -> None:
    """Find out whether a manifest's suite would send anything to another host, or a key of the environment anywhere.

    Raises:
        SuiteError: it would.
    """
    for arm in suite.arms:
        if arm.api_key_env is not None:
            raise SuiteError(f"arm {arm.name}: {arm.api_key_env} would be sent to {arm.endpoint}, and {_NOT_TAKEN}.")
        if arm.endpoint is not None and not is_loopback(arm.endpoint):
            raise SuiteError(f"arm {arm.name}: prompts would be sent to {arm.endpoint}, and {_NOT_TAKEN}.")


def is_loopback(endpoint: str) -> bool:
    """Whether an address is this host's own."""
    host = urlsplit(endpoint).hostname or ""
    return host == "localhost" or host == "::1" or re.fullmatch(r"127\.\d+\.\d+\.\d+", host) is not None


def suite_schema() -> dict[str, Any]:
    """JSON Schema of suites, for editors."""
    return Suite.model_json_schema()


def relocated(suite: Suite, folder: Path) -> Suite:
    """A recorded suite on another machine: files that are not at their recorded paths are taken from a folder.

    They are found there by their names; what is not there either keeps its path, so that its absence is told.
    """

    def here(path: str) -> str:
        found = folder / Path(path).name
        return str(found) if not Path(path).exists() and found.exists() else path

    return _with_files(suite, here)


def _resolved(suite: Suite, folder: Path) -> Suite:
    """The suite with paths that do not depend on where it lies, and without instructions where raw text is sent."""
    suite = _with_files(suite, lambda path: str(folder / path))
    if not suite.rendering.raw:
        return suite
    bare = tuple(
        workload if workload.instruction is not None else workload.model_copy(update={"instruction": ""})
        for workload in suite.workloads
    )
    return suite.model_copy(update={"workloads": bare})


def _with_files(suite: Suite, place: Callable[[str], str]) -> Suite:
    return suite.model_copy(
        update={
            "workloads": tuple(_placed(workload, ("path", "tokenizer"), place) for workload in suite.workloads),
            "rendering": _placed(suite.rendering, ("template",), place),
            "load": tuple(_placed(point, ("trace",), place) for point in suite.load),
            "fairness": _placed(suite.fairness, ("corpus",), place),
        }
    )


def _placed(section: AnySection, fields: Sequence[str], place: Callable[[str], str]) -> AnySection:
    given = {field: getattr(section, field) for field in fields}
    return section.model_copy(update={field: place(path) for field, path in given.items() if path is not None})


def resolved_workloads(workloads: Sequence[Workload], folder: Path) -> tuple[Workload, ...]:
    """Workloads whose paths do not depend on where their file lies."""
    return tuple(_placed(workload, ("path", "tokenizer"), lambda path: str(folder / path)) for workload in workloads)


def with_tokenizer(suite: Suite, folder: Path) -> Suite:
    """The suite whose random prompts are counted by a model's tokenizer where they name none."""
    workloads = tuple(
        workload.model_copy(update={"tokenizer": str(folder)})
        if workload.source == "random" and workload.tokenizer is None
        else workload
        for workload in suite.workloads
    )
    return suite.model_copy(update={"workloads": workloads})
