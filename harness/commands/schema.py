"""Print the JSON Schema of suites, for editors that complete and check YAML.

bench.py schema > suite.schema.json
# in a suite: # yaml-language-server: $schema=suite.schema.json
"""

from __future__ import annotations

import argparse
import json

from rich.console import Console

from draftbench.harness.suite import suite_schema


def arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def run(args: argparse.Namespace, console: Console) -> int:
    """Print the JSON Schema of suites."""
    print(json.dumps(suite_schema(), indent=2))
    return 0
