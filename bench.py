#!/usr/bin/env python
"""draftbench: compares draft architectures for speculative decoding, all verified by SGLang's own runtime."""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
from collections.abc import Sequence
from importlib import import_module, metadata
from pathlib import Path

CONTENTS = {
    "Measure": {
        "run": "run a suite (the word can be left out) and write its report",
        "quickstart": "run the suite of the embedded drafts: a few minutes, no download",
        "plan": "cells, models and sets to download, estimated time, memory; starts nothing",
        "prompts": "what a suite sends, rendered, with its counts of tokens; starts nothing",
        "list": "what a suite can name: architectures, workloads, embedded models",
        "doctor": "what this host can run, what is missing, and what mends it",
        "schema": "the suites' JSON Schema, for editors",
        "selftest": "what the harness itself costs, and whether two equal engines come out equal",
    },
    "Read and share": {
        "report": "write a run's results again from its records",
        "explain": "what a check of the report looks at, why, and what to do about a finding",
        "verify": "make a report again from the records beside it and name what does not match",
        "compare": "which rows moved between two runs, by how much, what differs",
        "rerun": "run a report's suite here; verdict for each row: reproduced or not",
        "profile": "a run's acceptance by step as a file that suites can simulate",
        "site": "one page of all runs below a folder, to sort and filter",
        "publish": "redact a run and put it into reports/published",
    },
    "Drafts": {
        "train": "train drafts on one corpus and one budget",
        "table": "count a corpus's tri-grams, for adaptive_trigram",
        "study": "the page of a training study: acceptance, ledgers, curves",
        "outputs": "the target's own answers as JSONL, to train drafts on",
        "tune": "find each draft's best tree",
        "contamination": "which prompts and 13-grams of a suite stand in a training corpus",
    },
}
"""Every command, each a module of harness/commands with its arguments, its help and its function."""
COMMANDS = tuple(name for chapter in CONTENTS.values() for name in chapter)


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; errors that a user can mend become a message and exit code 2."""
    try:
        try:
            return _run(words)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # who reads what is printed, `head` for one, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _run(words: Sequence[str] | None) -> int:
    words = list(sys.argv[1:] if words is None else words)
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return 0 if words else 2
    if words[0] == "--version":
        print(f"draftbench {metadata.version('draftbench')}")
        return 0
    from draftbench.harness.errors import HarnessError
    from draftbench.harness.terminal import Terminal

    console = Terminal(width=None if sys.stdout.isatty() else 120)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        args = parse(words)
        return int(args.function(args, console))
    except (HarnessError, OSError) as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            raise
        # A disk or a network that fails where nobody foresaw it is no fault of the program's either.
        Terminal(stderr=True, soft_wrap=True).print(f"error: {error}", style="red", markup=False, highlight=False)
        return 2
    except KeyboardInterrupt:
        print("interrupted; what was measured is kept, go on with --resume", file=sys.stderr)
        return 130


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The first word's command with its arguments and its function; a first word that is none is the suite to run.

    Raises:
        HarnessError: the first word is neither a command nor the name of a suite.
    """
    name, rest = (words[0], words[1:]) if words[0] in COMMANDS else ("run", words)
    if name == "run" and rest is words and not words[0].startswith("-"):
        from draftbench.harness.suite.named import check_looks_like_suite

        check_looks_like_suite(words[0], COMMANDS)
    command = import_module(f"draftbench.harness.commands.{name}")
    parser = argparse.ArgumentParser(
        f"{program()} {name}", description=command.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.arguments(parser)
    parser.set_defaults(function=command.run)
    return parser.parse_args(rest)


def overview() -> str:
    """How draftbench is called, and what its commands do."""
    lines = [f"usage: {program()} COMMAND …", f"       {program()} SUITE.yaml …", "", str(__doc__)]
    for chapter, commands in CONTENTS.items():
        lines += ["", chapter, *(f"  {name:14} {text}" for name, text in commands.items())]
    return "\n".join([*lines, "", f"{program()} COMMAND --help tells a command's arguments."])


def program() -> str:
    """How this was called: from a checkout, or as the installed command."""
    return "python bench.py" if Path(sys.argv[0]).name == "bench.py" else "draftbench"


def _nobody_reads() -> bool:
    output = select.poll()
    output.register(sys.stdout.fileno(), select.POLLOUT)
    return any(event & select.POLLERR for _, event in output.poll(0))


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
