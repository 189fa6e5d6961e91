"""Whether a machine had other work while it measured, as its own report shows."""

from __future__ import annotations

from statistics import median

from numprune_export.gate.evidence import Evidence

LIMIT = 1.25
"""Clock time over processor time from which a machine counts as busy."""


def taken_away(evidence: Evidence) -> float | None:
    """How much longer the clock ran than the processor worked: the median over all that was timed.

    1 on a machine that did nothing else. One thread only, for threads that wait for each other look
    the same; and on the CPU only, whose work is all in its processor time. None: nothing such.
    """
    found = []
    for name, one in evidence.metrics.items():
        busy = evidence.metrics.get(f"{name.removesuffix('.p50_ms')}.cpu_ms")
        alone = one.conditions.get("threads") == 1 and one.conditions.get("device") == "cpu"
        if name.endswith(".p50_ms") and alone and busy is not None and busy.value > 0:
            found.append(one.value / busy.value)
    return median(found) if found else None
