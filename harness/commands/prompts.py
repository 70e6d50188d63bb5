"""Show what a suite sends: every workload's prompts as the arms get them, rendered, with their counts of tokens. All
prompts are rendered and counted, the first few shown. Starts nothing and asks no server.

Later turns follow the target's answers, so only their own texts are known here.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console

from draftbench.harness.errors import CheckpointError
from draftbench.harness.models.find import local_folder
from draftbench.harness.run.rendered import first_prompts
from draftbench.harness.suite import Arm, Suite, load_suite, with_tokenizer
from draftbench.harness.suite.named import allow_argument, find_suite
from draftbench.harness.workloads.conversations import load_workload
from draftbench.harness.workloads.dated import dated
from draftbench.harness.workloads.render import ChatRenderer

WAYS = {
    None: "token ids",
    "sglang": "token ids",
    "openai": "token ids, to /v1/completions",
    "openai-chat": "messages, to /v1/chat/completions, whose server renders them",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """A suite, and how much of it is shown."""
    parser.add_argument("suite", type=Path, metavar="SUITE.yaml", help="the suite (docs/suites.md)")
    parser.add_argument(
        "--num", type=int, default=1, help="prompts shown of each workload, the first so many; default 1"
    )
    parser.add_argument("--ids", action="store_true", help="show the token ids as well")
    allow_argument(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    """Print workload after workload."""
    path = find_suite(args.suite, console.print)
    suite = load_suite(path, args.allow)
    name = suite.target.model + (f"@{suite.target.revision}" if suite.target.revision else "")
    folder = local_folder(name, path.parent)
    if folder is None:
        raise CheckpointError(
            f"target {name} is not on this host, and prompts are rendered with its tokenizer; download it, or give its "
            "folder as target.model."
        )
    suite = with_tokenizer(dated(suite, folder, None), folder)
    renderer = ChatRenderer(folder, suite.rendering)
    for line in _of_suite(suite, renderer, args.num, args.ids):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return 0


def _of_suite(suite: Suite, renderer: ChatRenderer, num_shown: int, with_ids: bool) -> list[str]:
    lines = [f"rendering: {_rendering(suite)}"]
    for way in dict.fromkeys(WAYS[arm.api] for arm in suite.arms):
        arms = [arm.name for arm in suite.arms if WAYS[arm.api] == way]
        lines.append(f"{', '.join(arms)}: sent as {way}")
    for workload in suite.workloads:
        conversations = load_workload(workload, suite.sampling.seed)
        prompts = first_prompts(suite, workload, renderer)
        lengths = [len(prompt.prompt_ids) for prompt in prompts]
        num_turns = sum(len(conversation.turns) for conversation in conversations)
        lines += [
            "",
            f"workload {workload.name}: {len(prompts)} conversations of {num_turns} turns; first turns have "
            f"{min(lengths)} to {max(lengths)} tokens, {sum(lengths)} in all; outputs at most {prompts[0].max_tokens}",
        ]
        for conversation, prompt in list(zip(conversations, prompts, strict=True))[: max(0, num_shown)]:
            lines += ["", f"{prompt.prompt_id}, turn 1: {len(prompt.prompt_ids)} tokens, SHA-256 {prompt.sha256[:16]}"]
            lines.append(renderer.decode(prompt.prompt_ids, with_special=True))
            if with_ids:
                lines.append("ids: " + " ".join(map(str, prompt.prompt_ids)))
            if any(_renders_itself(arm) for arm in suite.arms):
                lines.append("messages: " + json.dumps(prompt.messages, ensure_ascii=False))
            for turn in range(1, len(conversation.turns)):
                asked = json.dumps(conversation.asked(turn), ensure_ascii=False)
                lines.append(f"turn {turn + 1}, after the target's answer: {asked}")
    return lines


def _renders_itself(arm: Arm) -> bool:
    return arm.api == "openai-chat"


def _rendering(suite: Suite) -> str:
    given = suite.rendering
    if given.raw:
        return "the text alone"
    parts = ["the target's chat template" if given.template is None else f"the template {given.template}"]
    parts += [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in given.arguments.items()]
    parts += [] if given.date is None else [f"the date {given.date}"]
    return ", ".join(parts)
