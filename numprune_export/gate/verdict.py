"""What a gate found: one finding per metric, and what became of them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from numprune_export.gate import comparable
from numprune_export.gate.comparable import Difference
from numprune_export.gate.noise import Change
from numprune_export.report.tables.format import measured

Status = Literal[
    "regressed", "broken", "missing", "invalid", "different", "ok", "improved", "told", "skipped", "new"
]  # fmt: skip
"""`broken`: a limit of the recipe. `invalid`: NaN, infinite, or an interval that is none. `different`:
measured in another way. `told`: there and finite, and not compared."""

Side = Literal["baseline", "report"]
SIDES: tuple[Side, ...] = ("baseline", "report")
FAILING: tuple[Status, ...] = ("regressed", "broken", "missing", "invalid", "different")


@dataclass(frozen=True)
class Finding:
    """One metric, shape or limit."""

    name: str
    kind: str
    status: Status
    detail: str = ""
    """Why, in words; empty where the numbers say it."""
    unit: str = ""
    baseline: str | float | None = None
    report: str | float | None = None
    change: Change | None = None

    @property
    def failed(self) -> bool:
        return self.status in FAILING

    def said(self, side: Side) -> str:
        """The value as people read it; `—` where there is none."""
        value = self.baseline if side == "baseline" else self.report
        if value is None:
            return "—"
        return value if isinstance(value, str) else measured(value, self.unit)


@dataclass(frozen=True)
class Verdict:
    """All findings, and what stands against comparing."""

    findings: tuple[Finding, ...]
    refused: tuple[Difference, ...] = ()
    """Why the two cannot be compared; then nothing was judged."""
    overruled: tuple[Difference, ...] = ()
    """Differences that were let pass by an option."""
    notes: tuple[str, ...] = ()
    """What a reader should know, in whole sentences."""

    @property
    def failures(self) -> tuple[Finding, ...]:
        return tuple(one for one in self.findings if one.failed)

    @property
    def passed(self) -> bool:
        return not self.refused and not self.failures

    def noted(self, notes: Sequence[str]) -> Verdict:
        """The same, with these notes before its own."""
        return replace(self, notes=(*notes, *self.notes))

    @property
    def summary(self) -> str:
        """One sentence."""
        if self.refused:
            first = ", ".join(one.what for one in self.refused[:3])
            more = f" and {len(self.refused) - 3} more" if len(self.refused) > 3 else ""
            return f"not comparable with the baseline: they differ in {first}{more}"
        counted = Counter(one.status for one in self.findings)
        told = ", ".join(
            f"{counted[status]} {_WORDS[status]}" for status in _WORDS if counted[status]
        )
        return f"{'passed' if self.passed else 'failed'}: {told or 'nothing to judge'}"


_WORDS: dict[Status, str] = {
    "regressed": "regressed",
    "broken": "beyond a limit",
    "missing": "missing",
    "invalid": "not a number",
    "different": "measured differently",
    "improved": "improved",
    "ok": "as before",
    "told": "not compared",
    "skipped": "skipped",
    "new": "new",
}


@dataclass(frozen=True)
class Mode:
    """By default nothing."""

    other_machine: bool = False
    """Compare across machines and protocols, and judge only what carries over."""
    without_latency: bool = False
    """Judge size, shapes, quality and parity: all that needs no GPU and no quiet machine."""
    busy: bool = False
    """The machine had other work: times by the clock or by the processor say nothing."""

    @property
    def overrules(self) -> tuple[comparable.Side, ...]:
        if self.other_machine:
            return ("machine", "timing", "protocol")
        return ("machine", "timing") if self.without_latency else ()


STRICT = Mode()
