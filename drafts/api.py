"""What the harness needs to know of a draft architecture, and how architectures are found."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points

from harness.errors import HarnessError

ENTRY_POINTS = "draftbench.drafts"
"""Entry-point group of architectures: name = "package.module:SPEC"."""


class DraftError(HarnessError):
    """An architecture that is installed but cannot be used."""


@dataclass(frozen=True)
class DraftSpec:
    """One draft architecture, as data; importing it loads no torch."""

    name: str
    title: str
    origin: str
    """Paper or project, as a reader would cite it."""
    sglang_algorithm: str | None
    """Name under which SGLang runs it; None decodes without a draft."""
    draft_model_class: str | None
    """Class as which SGLang must report the draft to be loaded; None accepts any."""
    needs_checkpoint: bool

    @property
    def drafts(self) -> bool:
        """Whether there is a draft at all."""
        return self.sglang_algorithm is not None


@cache
def discover() -> dict[str, DraftSpec]:
    """All installed architectures by name.

    Raises:
        DraftError: none are installed, or one cannot be imported or is no DraftSpec.
    """
    found: dict[str, DraftSpec] = {}
    for point in entry_points(group=ENTRY_POINTS):
        try:
            spec = point.load()
        except (ImportError, AttributeError) as error:
            raise DraftError(f"architecture {point.name} ({point.value}) cannot be loaded: {error}") from error
        if not isinstance(spec, DraftSpec):
            raise DraftError(f"architecture {point.name} ({point.value}) is a {type(spec).__name__}, not a DraftSpec.")
        found[point.name] = spec
    if "vanilla" not in found:
        raise DraftError(f"no architectures are installed (entry points {ENTRY_POINTS}); run make setup.")
    return dict(sorted(found.items()))
