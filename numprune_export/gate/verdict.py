"""The gate's result: one finding per metric, and the verdict over all findings."""

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
"""`broken`: violates a limit of the recipe. `invalid`: NaN, infinite, or an invalid interval.
`different`: measured under other conditions. `told`: present and finite, but not compared."""

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
    """The reason for the status; empty if the numbers show it."""
    unit: str = ""
    baseline: str | float | None = None
    report: str | float | None = None
    change: Change | None = None

    @property
    def failed(self) -> bool:
        return self.status in FAILING

    def formatted(self, side: Side) -> str:
        """The value with its unit, rounded; `—` if there is none."""
        value = self.baseline if side == "baseline" else self.report
        if value is None:
            return "—"
        return value if isinstance(value, str) else measured(value, self.unit)


@dataclass(frozen=True)
class Verdict:
    """All findings, and the differences that affect comparability."""

    findings: tuple[Finding, ...]
    refused: tuple[Difference, ...] = ()
    """Differences that prevent the comparison; if not empty, nothing was judged."""
    overruled: tuple[Difference, ...] = ()
    """Differences that an option allows."""
    notes: tuple[str, ...] = ()
    """Remarks for the reader, complete sentences."""

    @property
    def failures(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.failed)

    @property
    def passed(self) -> bool:
        return not self.refused and not self.failures

    def noted(self, notes: Sequence[str]) -> Verdict:
        """A copy with these notes before its own."""
        return replace(self, notes=(*notes, *self.notes))

    @property
    def summary(self) -> str:
        """One line: passed or failed, with the number of findings per status."""
        if self.refused:
            first = ", ".join(difference.what for difference in self.refused[:3])
            more = f" and {len(self.refused) - 3} more" if len(self.refused) > 3 else ""
            return f"not comparable with the baseline: the reports differ in {first}{more}"
        counted = Counter(finding.status for finding in self.findings)
        counts = ", ".join(
            f"{counted[status]} {_WORDS[status]}" for status in _WORDS if counted[status]
        )
        return f"{'passed' if self.passed else 'failed'}: {counts or 'nothing to judge'}"


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
    """Relaxations of the comparison; none by default."""

    other_machine: bool = False
    """Compare across machines and protocols; judge only machine-independent metrics."""
    without_latency: bool = False
    """Judge only size, shapes, quality and parity, which need no GPU and no idle machine."""
    busy: bool = False
    """The machine was busy with other work: wall and CPU times are not compared."""

    @property
    def overrules(self) -> tuple[comparable.Side, ...]:
        if self.other_machine:
            return ("machine", "timing", "protocol")
        return ("machine", "timing") if self.without_latency else ()


STRICT = Mode()
