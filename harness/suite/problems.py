"""What can be wrong with a suite beyond the types of its fields: what does not go together, what is missing on disk.

A problem is where in the file it stands, and a sentence with what was found and what is allowed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from draftbench.drafts.api import DraftSpec, Tree, broken, discover
from draftbench.harness.suite.device_arguments import device_problems
from draftbench.harness.suite.engine_arguments import argument_problem, risky
from draftbench.harness.suite.strict_yaml import nearest, spelled
from draftbench.harness.suite.trace import read_trace
from draftbench.harness.suite.update_problems import update_problems
from draftbench.harness.suite.yaml_lines import Path_
from draftbench.harness.workloads.regular import DATA_BYTES, TEMPLATE_BYTES, file_problem
from draftbench.harness.workloads.sources import COUNTED, EAGLE, EAGLE_QUESTIONS, SOURCES, HubSet
from draftbench.harness.workloads.synthetic import FAMILIES

if TYPE_CHECKING:
    from draftbench.harness.suite.arms import Arm
    from draftbench.harness.suite.schema import Suite
    from draftbench.harness.suite.workload import Rendering, Workload

Problems = list[tuple[Path_, str]]


def suite_problems(suite: Suite, folder: Path, allowed: Collection[str] = ()) -> Problems:
    """Everything that is wrong with a suite whose fields are of the right types.

    Args:
        folder: where the suite lies, which its paths are relative to.
        allowed: engine arguments that need permission and have it.

    Raises:
        SuiteError: a trace cannot be read; with its own file and line.
    """
    return [
        *_arm_problems(suite),
        *_engine_problems(suite, allowed),
        *workload_problems(suite.workloads, folder),
        *_rendering_problems(suite, folder),
        *_load_problems(suite, folder),
        *update_problems(suite),
    ]


def _arm_problems(suite: Suite) -> Problems:
    known = discover()
    problems: Problems = []
    for index, arm in enumerate(suite.arms):
        if arm.endpoint is not None or (arm.is_endpoint and "architecture" in arm.model_fields_set):
            problems.extend(_endpoint_problems(index, arm, suite.rendering))
            continue
        for field in ("api", "model", "api_key_env"):
            if getattr(arm, field) is not None:
                text = f"arms[{index}].{field} means nothing without endpoint; leave it out, or give endpoint."
                problems.append((("arms", index, field), text))
        if arm.is_endpoint:
            text = f"arms[{index}].architecture is missing; {nearest('', list(known))} Or give an endpoint."
            problems.append((("arms", index), text))
            continue
        spec = known.get(arm.architecture)
        if spec is None:
            why = broken().get(arm.architecture) or nearest(arm.architecture, list(known))
            text = f"arms[{index}].architecture is {arm.architecture}; {why}"
            problems.append((("arms", index, "architecture"), text))
            continue
        for field in ("checkpoint", "num_steps", "topk", "num_draft_tokens"):
            given = getattr(arm, field) is not None
            wanted = spec.drafts and (field != "checkpoint" or spec.needs_checkpoint)
            if given and not wanted and not (field == "checkpoint" and spec.takes_checkpoint):
                text = f"arms[{index}].{field} means nothing for {spec.name} ({spec.title}); leave it out."
                problems.append((("arms", index, field), text))
            elif wanted and not given:
                problems.append((("arms", index), f"arms[{index}].{field} is missing; {spec.name} needs it."))
        problems.extend(_option_problems(index, arm, spec))
        problems.extend(_simulation_problems(index, arm, spec, suite))
        if arm.tree is not None:
            problems.extend(_tree_problems(index, arm.tree, spec))
    return problems


def _engine_problems(suite: Suite, allowed: Collection[str]) -> Problems:
    problems: Problems = []
    for index, arm in enumerate(suite.arms):
        for name, value in arm.engine.items():
            at: Path_ = ("arms", index, "engine", name)
            problem = argument_problem(name, value)
            if problem is not None:
                problems.append((at, f"{spelled(at)} is {value!r:.80}; allowed: {problem}."))
        for name in risky(arm.engine, allowed):
            at = ("arms", index, "engine", name)
            text = "may run code, open ports, or read and write elsewhere; if that is meant, run with"
            problems.append((at, f"{spelled(at)} {text} --allow {name}."))
    return problems + device_problems(suite)


def _endpoint_problems(index: int, arm: Arm, rendering: Rendering) -> Problems:
    at: Path_ = ("arms", index)
    problems: Problems = []
    if arm.endpoint is None:
        problems.append((at, f"arms[{index}].endpoint is missing; give the server's address, http://HOST:PORT."))
    if not arm.is_endpoint:
        text = f"arms[{index}].architecture is {arm.architecture}, but an endpoint drafts with its own; leave it out."
        problems.append(((*at, "architecture"), text))
    if arm.api is None:
        problems.append((at, f"arms[{index}].api is missing; {nearest('', ['sglang', 'openai', 'openai-chat'])}"))
    elif (arm.model is None) != (arm.api == "sglang"):
        text = "is missing; an OpenAI-compatible server is asked for a model by its name."
        text = text if arm.model is None else "means nothing for sglang, which serves one; leave it out."
        problems.append(((*at, "model"), f"arms[{index}].model {text}"))
    if arm.api == "openai-chat" and rendering.raw:
        text = f"arms[{index}].api is openai-chat, which renders messages itself; with rendering.raw take openai."
        problems.append(((*at, "api"), text))
    for field in ("checkpoint", "num_steps", "topk", "num_draft_tokens", "options", "engine", "tuning"):
        if getattr(arm, field):
            text = f"arms[{index}].{field} means nothing for an endpoint, which is measured as it is; leave it out."
            problems.append(((*at, field), text))
    return problems


def _option_problems(index: int, arm: Arm, spec: DraftSpec) -> Problems:
    at: Path_ = ("arms", index, "options")
    try:
        options = spec.options.model_validate(arm.options)
    except ValidationError as error:
        problems = []
        for found in error.errors():
            here = (*at, *found["loc"])
            if found["type"] == "extra_forbidden":
                known = nearest(str(found["loc"][-1]), list(spec.options.model_fields) or ["none"])
                problems.append((here, f"{spelled(here)} is not known to {spec.name}; {known}"))
            else:
                text = found["msg"][0].lower() + found["msg"][1:]
                problems.append((here, f"{spelled(here)} is {found['input']!r}; {text}."))
        return problems
    problem = None if arm.tree is None else options.problem(arm.tree)
    return [] if problem is None else [((*at, problem[0]), f"{spelled((*at, problem[0]))} {problem[1]}")]


VERIFIED_APART = {
    "NGRAM": "its draft learns from the tokens themselves",
    "DFLASH": "SGLang verifies its blocks apart from trees",
    "DSPARK": "SGLang verifies its blocks apart from trees",
}
"""Why acceptance cannot be drawn, by SGLang's algorithm."""


def _simulation_problems(index: int, arm: Arm, spec: DraftSpec, suite: Suite) -> Problems:
    at: Path_ = ("arms", index, "simulated_acceptance")
    alphas, name = arm.simulated_acceptance, f"arms[{index}].simulated_acceptance"
    learns = spec.proposer_factory is not None or spec.updater is not None
    simulable = spec.drafts and spec.sglang_algorithm not in VERIFIED_APART and not learns
    if alphas is not None and not simulable:
        why = "it decodes without a draft" if not spec.drafts else VERIFIED_APART.get(str(spec.sglang_algorithm))
        why = why or VERIFIED_APART["NGRAM"]
        return [(at, f"{name} means nothing for {spec.name}: {why}; leave it out.")]
    for option in ("adaptive_steps", "acceptance_rule"):
        if alphas is not None and arm.options.get(option):
            return [(at, f"{name} is drawn for a fixed tree, accepted as SGLang does; leave options.{option} out.")]
    assert not isinstance(alphas, str), "files are read first"
    if isinstance(alphas, dict):
        workloads = [workload.name for workload in suite.workloads]
        problems = [
            ((*at, given), f"{name}.{given} is of no workload; {nearest(given, workloads)}")
            for given in alphas
            if given not in workloads
        ]
        missing = [workload for workload in workloads if workload not in alphas]
        if missing:
            problems.append((at, f"{name} lacks {', '.join(missing)}; give the α_k of every workload."))
        for given, shares in alphas.items():
            problems.extend(_length_problems((*at, given), f"{name}.{given}", shares, arm))
        return problems
    if alphas is not None:
        return _length_problems(at, name, alphas, arm)
    if suite.target.random_weights and spec.drafts:
        text = "with target.random_weights acceptance means nothing"
        hint = "give the α_k of a report, one for every step" if simulable else f"{spec.name} cannot simulate it"
        return [(("arms", index), f"{name} is missing: {text}; {hint}.")]
    return []


def _length_problems(at: Path_, name: str, shares: Sequence[float], arm: Arm) -> Problems:
    if len(shares) == arm.num_steps:
        return []
    return [(at, f"{name} has {len(shares)} shares, but num_steps is {arm.num_steps}; give one for every step.")]


def _tree_problems(index: int, tree: Tree, spec: DraftSpec) -> Problems:
    at: Path_ = ("arms", index, "num_draft_tokens")
    steps, topk, tokens = tree.num_steps, tree.topk, tree.num_draft_tokens
    if topk == 1 and tokens != steps + 1:
        text = f"with topk 1 and num_steps {steps} the tree is a chain of {steps + 1} nodes; set it to {steps + 1}."
        return [(at, f"arms[{index}].num_draft_tokens is {tokens}; {text}")]
    largest = spec.largest_tree(steps, topk)
    if tokens > largest:
        text = f"num_steps {steps} and topk {topk} give at most {largest} nodes, the root included."
        return [(at, f"arms[{index}].num_draft_tokens is {tokens}; {text}")]
    return []


MEANT_FOR = {
    "family": {"synthetic"},
    "split": {"synthetic"},
    "subset": {"speed_bench", *EAGLE_QUESTIONS},
    "prompt_tokens": {"random"},
    "tokenizer": set(COUNTED),
    "window_tokens": {"windows"},
    "stride_tokens": {"windows"},
    "answer": {"prompts", "chat_jsonl"},
    "run_programs": {"humaneval", "mbpp"},
    "field": {"prompts"},
    "revision": {name for name, source in SOURCES.items() if isinstance(source.home, HubSet)},
    "path": {name for name, source in SOURCES.items() if not source.synthetic},
}
"""Fields of a workload that mean nothing for the other sources."""
NEEDED_BY = {
    "family": {"synthetic"},
    "num_prompts": {"synthetic", "random"},
    "prompt_tokens": {"random"},
    "window_tokens": {"windows"},
    "path": {name for name, source in SOURCES.items() if source.home is None and not source.synthetic},
}


def workload_problems(workloads: Sequence[Workload], folder: Path, at: Path_ = ("workloads",)) -> Problems:
    """What is wrong with workloads beyond their types: fields that do not go with the source, files that are missing.

    Args:
        at: where the list stands in its file.
    """
    problems: Problems = []
    for index, workload in enumerate(workloads):
        here: Path_ = (*at, index)
        name = spelled(here)
        for field, sources in MEANT_FOR.items():
            if field in workload.model_fields_set and workload.source not in sources:
                text = f"{name}.{field} means nothing for {workload.source}; leave it out."
                problems.append(((*here, field), text))
        for field, sources in NEEDED_BY.items():
            if workload.source in sources and getattr(workload, field) is None:
                hint = nearest("", list(FAMILIES)) if field == "family" else f"{workload.source} needs it."
                problems.append((here, f"{name}.{field} is missing; {hint}"))
        if workload.family is not None and workload.source == "synthetic" and workload.family not in FAMILIES:
            text = f"{name}.family is {workload.family}; {nearest(workload.family, list(FAMILIES))}"
            problems.append(((*here, "family"), text))
        if workload.source in EAGLE_QUESTIONS and workload.subset not in (None, EAGLE):
            problems.append(((*here, "subset"), f"{name}.subset is {workload.subset}; allowed: {EAGLE}."))
        if workload.path is not None and not (folder / workload.path).is_dir():
            problem = _file_problem(folder / workload.path, DATA_BYTES, "suite" if at == ("workloads",) else "recipe")
            if problem is not None:
                problems.append(((*here, "path"), f"{name}.path: {problem}"))
    return problems


def _rendering_problems(suite: Suite, folder: Path) -> Problems:
    problems: Problems = []
    template = suite.rendering.template
    if template is not None and (problem := _file_problem(folder / template, TEMPLATE_BYTES)) is not None:
        problems.append((("rendering", "template"), f"rendering.template: {problem}"))
    if "enable_thinking" in suite.rendering.template_arguments and suite.rendering.thinking is not None:
        text = "rendering.template_arguments.enable_thinking is rendering.thinking too; leave one of them out."
        problems.append((("rendering", "template_arguments"), text))
    corpus = suite.fairness.corpus
    if corpus is not None and not (folder / corpus).is_file():
        text = f"fairness.corpus: there is no file {folder / corpus}; paths are relative to the suite."
        problems.append((("fairness", "corpus"), text))
    for field in ("template", "template_arguments", "date"):
        if suite.rendering.raw and getattr(suite.rendering, field):
            problems.append((("rendering",), f"rendering.raw sends no template; leave rendering.{field} out."))
    return problems


def _file_problem(path: Path, limit: int, what: str = "suite") -> str | None:
    """What is wrong with a file that is named there, as a sentence."""
    if not path.exists():
        return f"there is no file {path}; paths are relative to the {what}."
    problem = file_problem(path, limit)
    return None if problem is None else f"{path} {problem}."


def _load_problems(suite: Suite, folder: Path) -> Problems:
    problems: Problems = []
    for index, point in enumerate(suite.load):
        if point.trace is None:
            continue
        if (folder / point.trace).is_file():
            read_trace(folder / point.trace)
        else:
            text = f"there is no file {folder / point.trace}; paths are relative to the suite."
            problems.append((("load", index, "trace"), f"load[{index}].trace: {text}"))
    return problems
