"""A verdict for GitHub Actions: annotations on standard output, and a Markdown job summary."""

from __future__ import annotations

from numprune_export.gate.output.text import allowed_of, change_of, shown
from numprune_export.gate.verdict import Finding, Verdict
from numprune_export.report.tables.table import table

TITLE = "numprune-export check"
MOST = 10
"""GitHub shows this many errors of one step; the others are in the summary."""


def commands(verdict: Verdict) -> str:
    """One workflow command a line."""
    lines = [_command("error", TITLE, f"not comparable: {one}") for one in verdict.refused]
    lines += [
        _command("error", f"{one.status}: {one.name}", _said(one)) for one in verdict.failures
    ]
    if len(lines) > MOST:
        hidden = len(lines) - (MOST - 1)
        lines = [*lines[: MOST - 1], _command("error", TITLE, f"{hidden} more; see the summary")]
    lines += [
        _command("warning", TITLE, f"compared all the same: {one}") for one in verdict.overruled
    ]
    lines += [_command("notice", TITLE, one) for one in verdict.notes]
    lines.append(_command("notice", TITLE, verdict.summary))
    return "\n".join(lines) + "\n"


def summary(verdict: Verdict) -> str:
    """Markdown for `$GITHUB_STEP_SUMMARY`."""
    mark = "✅" if verdict.passed else "❌"
    parts = [f"### {mark} {TITLE}", _escaped(verdict.summary)]
    said = [f"not comparable: {one}" for one in verdict.refused]
    said += [f"compared all the same: {one}" for one in verdict.overruled]
    said += [f"note: {one}" for one in verdict.notes]
    if said:
        parts.append("\n".join(f"- {_escaped(one)}" for one in said))
    rows = [_row(one) for one in shown(verdict, everything=False)]
    if rows:
        header = ["metric", "baseline", "report", "change", "allowed", "verdict"]
        parts.append(table(header, rows))
    return "\n\n".join(parts) + "\n\n"


def _row(one: Finding) -> list[str]:
    cells = [f"`{one.name}`", one.said("baseline"), one.said("report")]
    verdict = f"**{one.status}**" if one.failed else one.status
    if one.failed and one.detail:
        verdict += f": {one.detail}"
    return [" ".join(cell.split()) for cell in (*cells, change_of(one), allowed_of(one), verdict)]


def _said(one: Finding) -> str:
    numbers = f"{one.said('baseline')} → {one.said('report')}"
    if one.change is not None:
        numbers += f" ({change_of(one)}, allowed {allowed_of(one)})"
    return f"{numbers}; {one.detail}" if one.detail else numbers


def _command(kind: str, title: str, message: str) -> str:
    """As the runner reads them: what would end a property or a line is percent-encoded."""
    head = _encoded(title).replace(":", "%3A").replace(",", "%2C")
    return f"::{kind} title={head}::{_encoded(message)}"


def _encoded(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escaped(text: str) -> str:
    """Text from a report as text, not as HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
