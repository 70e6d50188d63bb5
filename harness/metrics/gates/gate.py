"""What a check of a row is, and what it found."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from draftbench.harness.metrics.arm_point import ArmPoint


@dataclass(frozen=True)
class Gate:
    """One check.

    Attributes:
        severity: "invalid" keeps what the scope names out of every mean and verdict; "warning" only says so.
        scope: what it speaks of: the whole row, or one metric.
        looks_at: what must hold.
        why: what goes wrong otherwise.
        remedy: what to do about a finding.
        check: the evidence of every way in which an arm at a point fails it; nothing where it passes.
    """

    name: str
    severity: Literal["invalid", "warning"]
    scope: Literal["row", "energy"]
    looks_at: str
    why: str
    remedy: str
    check: Callable[[ArmPoint], Iterable[str]] = field(repr=False)


@dataclass(frozen=True)
class Finding:
    """One gate that was not passed."""

    gate: Gate
    evidence: str

    def makes_invalid(self, scope: str) -> bool:
        """Whether it keeps the row, or one metric of it, out of every mean and verdict."""
        return self.gate.severity == "invalid" and self.gate.scope == scope
