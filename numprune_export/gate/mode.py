"""What a caller of the gate, or the machine itself, lets pass."""

from __future__ import annotations

from dataclasses import dataclass

from numprune_export.gate.comparable import Side


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
    def overrules(self) -> tuple[Side, ...]:
        if self.other_machine:
            return ("machine", "timing", "protocol")
        return ("machine", "timing") if self.without_latency else ()


STRICT = Mode()
