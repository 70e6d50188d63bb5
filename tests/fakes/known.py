"""Arms, receipts and suites that say what a test is about."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from draftbench.harness.engine import Receipt
from draftbench.harness.manifest import MANIFEST
from draftbench.harness.metrics.evidence import KnownArm
from draftbench.harness.suite import Arm


def receipt(algorithm: str | None = None, **server_args: Any) -> Receipt:
    """What an engine of this algorithm with these arguments says of itself."""
    return Receipt(
        sglang="0.5.17", torch="2", algorithm=algorithm, draft_class=None, target_class="LlamaForCausalLM",
        max_total_num_tokens=8192, server_args=server_args,
    )  # fmt: skip


def known(name: str, architecture: str, told: Receipt | None = None, **settings: Any) -> KnownArm:
    """An arm of a suite, with what its engine said."""
    return KnownArm(Arm(name=name, architecture=architecture, **settings), told)


@contextmanager
def rewritten(run: Path) -> Iterator[dict[str, Any]]:
    """What manifest.json of a run holds, to be changed as another program might."""
    path = run / MANIFEST
    manifest = json.loads(path.read_text())
    yield manifest
    path.write_text(json.dumps(manifest))


def suite_object(arms: list[dict[str, Any]], **settings: Any) -> dict[str, Any]:
    """A suite as a manifest holds it."""
    return {
        "version": 1,
        "name": "try",
        "target": {"model": "tiny", "dtype": "float32"},
        "sampling": {"temperature": 0.0, "max_tokens": 32, "seed": 0},
        "load": [{"concurrency": 1}],
        "blocks": 2,
        "launches": 1,
        "arms": arms,
        "workloads": [{"name": "w", "source": "synthetic"}],
        **settings,
    }
