"""Plot colours: placeholders, replaced by the CSS variables of the light or dark page."""

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
"""Placeholder colour to the CSS variable of style.css."""
