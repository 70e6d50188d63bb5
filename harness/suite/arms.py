"""What is compared"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, PrivateAttr, Tag

from draftbench.drafts.api import Tree, installed
from draftbench.harness.records import ENDPOINT
from draftbench.harness.suite.fields import Alphas, Name, PathText, Positive, Repeats
from draftbench.harness.suite.strict_yaml import UNSPELLED, Section

NOT_TAKEN = "that is taken from no manifest. Look at the suite, save it as a file, and run that"
SIMULATED, UPDATED = " (simulated acceptance)", " (updated between blocks)"
"""Follow the name of an arm whose acceptance, or draft, is."""
SimulatedAcceptance = Annotated[
    Annotated[Alphas, Tag(UNSPELLED + "shares")]
    | Annotated[dict[str, Alphas], Tag(UNSPELLED + "by workload")]
    | Annotated[str, Tag(UNSPELLED + "file")],
    Discriminator(
        lambda value: UNSPELLED + {dict: "by workload", str: "file"}.get(type(value), "shares"),
    ),
]


class Target(Section):
    """The model that decides."""

    model: PathText = Field(description="Embedded name (tiny), hub id (owner/name), or path relative to the suite.")
    revision: PathText | None = Field(None, description="Revision of a hub id.")
    dtype: Literal["float32", "bfloat16", "float16"]
    tensor_parallel: Annotated[int, Field(ge=1, le=64, exclude_if=lambda devices: devices == 1)] = Field(
        1, description="Devices that share every layer of the target (SGLang's tp_size), the same for all arms."
    )
    random_weights: bool = Field(
        False,
        description="Make the weights of target and drafts on the device, at random: for times at a shape. Every draft "
        "then needs simulated_acceptance.",
    )
    _place: str = PrivateAttr("the suite")

    @property
    def place(self) -> str:
        """File and line of `tensor_parallel`, as far as it comes from a file."""
        return self._place


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
    def is_updated(self) -> bool:
        """Whether its draft is updated between blocks."""
        spec = installed()[0].get(self.architecture)
        return spec is not None and spec.updater is not None

    @property
    def label(self) -> str:
        """The name that tables and figures show: simulated acceptance, a draft that is updated, or another rule of
        acceptance than SGLang's own, is told wherever the arm is."""
        if self.simulated_acceptance is not None:
            return self.name + SIMULATED
        if self.is_updated:
            return self.name + UPDATED
        rule = self.options.get("acceptance_rule")
        return self.name if rule is None else f"{self.name} ({rule})"

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
