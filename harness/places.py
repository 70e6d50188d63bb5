"""Where draftbench's own files are, from a checkout and installed."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""A checkout's top folder, or the installed package's: harness, drafts, reports and suites lie in both."""
IS_CHECKOUT = (ROOT / "pyproject.toml").is_file()
SUITES = ROOT / "suites"
CHECKPOINTS = ROOT / "drafts" / "checkpoints"
PUBLISHED = (ROOT if IS_CHECKOUT else Path()) / "reports" / "published"
"""Installed, below the current folder: a package's own folder is not for results."""


def setup_command(profile: str | None = None) -> str:
    """What mends an environment: the Makefile's target in a checkout, the package's extra elsewhere.

    Args:
        profile: cpu or cuda; None where it does not matter, or where the Makefile finds out.
    """
    if IS_CHECKOUT:
        return "make setup" + (f" PROFILE={profile}" if profile else "")
    if profile == "cuda":
        return "pip install 'draftbench[cuda]'"
    return "pip install 'draftbench[cuda]', or without a GPU 'draftbench[cpu]' and then --no-deps sglang==0.5.17"
