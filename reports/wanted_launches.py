"""How many launches a run needs for intervals of a width: python -m draftbench.reports.wanted_launches."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from draftbench.harness.manifest import Manifest
from draftbench.harness.metrics.results import wanted_launches
from draftbench.reports.rows import rows_of_run


def main(words: Sequence[str]) -> None:
    """Print the number; words are half width, launches of the first stage, and behind -- the run's folder."""
    half_width, first_stage, _, folder = words
    run = Path(folder)
    print(wanted_launches(rows_of_run(run, Manifest.read(run)), float(half_width), int(first_stage)))


if __name__ == "__main__":
    main(sys.argv[1:])
