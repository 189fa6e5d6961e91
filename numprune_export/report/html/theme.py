"""Colours of the plots: drawn as stand-ins, told to the browser by role, so that one plot serves both
a light and a dark page."""

from __future__ import annotations

INK = "#000001"
MUTED = "#000002"
LINE = "#000003"
DENSE = "#000004"
PRUNED = "#000005"
IDEAL = "#000006"

ROLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    DENSE: "var(--dense)",
    PRUNED: "var(--pruned)",
    IDEAL: "var(--ideal)",
}
"""Stand-in to the property of style.css that holds the colour."""
