"""Print what a suite can name: architectures with what they read and where they come from (packages that plug in
included), workload sources with their pinned files and licences, and the embedded models."""

from __future__ import annotations

import argparse

from rich.console import Console
from tabulate import tabulate

from draftbench.drafts.api import broken, discover
from draftbench.harness.models.find import embedded_names
from draftbench.harness.suite.named import shipped_names
from draftbench.harness.workloads.sources import SOURCES


def arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def run(args: argparse.Namespace, console: Console) -> int:
    """Print what a suite can name."""
    specs = discover().values()
    rows = [
        (spec.name, spec.title, spec.capabilities if spec.drafts else "–", spec.sglang_algorithm or "–", spec.origin)
        for spec in specs
    ]
    heads = ("architecture", "what it is", "reads; has", "SGLang algorithm", "origin")
    print(tabulate(rows, heads, "simple", maxcolwidths=(None, 44, 36, None, 40)))
    for name, why in broken().items():
        print(f"left out: {name}: {why}")
    print()
    sources = [
        (name, s.title, s.num_prompts, s.home or "–", (s.sha256 or "–")[:12], s.licence) for name, s in SOURCES.items()
    ]
    columns = ("workload source", "what it is", "prompts", "home, pinned", "SHA-256 of the file", "licence")
    print(tabulate(sources, columns, "simple", maxcolwidths=(None, 34, None, 46, None, 24), missingval="–"))
    print()
    print("embedded models:", ", ".join(embedded_names()))
    print("suites that come with the project:", ", ".join(shipped_names()))
    return 0
