"""The day that a run's prompts may tell: the same for every arm, and again when the run goes on or is run again."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import date
from pathlib import Path

from draftbench.harness.suite import Suite
from draftbench.harness.workloads.templates import STRFTIME, read_template


def dated(suite: Suite, target: Path, manifest: Path | None) -> Suite:
    """The suite with its date, where it gives none and the target's template asks for one.

    Args:
        manifest: of the run that goes on.

    Raises:
        CheckpointError: as `read_template`, or the template is broken.
    """
    rendering, today = suite.rendering, date.today().isoformat()
    if rendering.date is not None or rendering.raw:
        return suite
    given = None if rendering.template is None else Path(rendering.template)
    if STRFTIME not in read_template(target, given, bool(rendering.template_arguments.get("tools"))).reads(today):
        return suite
    if manifest is not None:
        with suppress(OSError, ValueError, KeyError, TypeError):  # what is wrong with it is told where it is opened
            today = json.loads(manifest.read_text())["suite"]["rendering"]["date"] or today
    return suite.model_copy(update={"rendering": suite.rendering.model_copy(update={"date": today})})
