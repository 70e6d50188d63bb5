"""Compares draft architectures for speculative decoding, all verified by SGLang's own runtime.

What lies beside this file are links to the top of the repository, whose parts so have one name everywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from draftbench.reports.files import Run

__all__ = ["load_run"]


def load_run(folder: Path | str) -> Run:
    """A run as its folder holds it, for notebooks: manifest and rows, typed, every figure made again from the records.

    Args:
        folder: of the run, or the path of its report.

    Raises:
        HarnessError: there is no run in it, or one of another schema version.
    """
    from draftbench.reports.files import read_run

    return read_run(Path(folder))
