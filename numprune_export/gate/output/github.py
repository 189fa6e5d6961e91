"""Render a verdict for GitHub Actions: annotations and a Markdown job summary."""

from __future__ import annotations

from numprune_export.gate.output.text import allowed_of, change_of, shown
from numprune_export.gate.verdict import Finding, Verdict
from numprune_export.report.tables.table import table

TITLE = "numprune-export check"
MOST = 10
"""Number of errors that GitHub shows per step; the summary lists all."""


def commands(verdict: Verdict) -> str:
    """Workflow commands, one per line."""
    lines = [
        _command("error", TITLE, f"not comparable: {difference}") for difference in verdict.refused
    ]
    lines += [
        _command("error", f"{finding.status}: {finding.name}", _message(finding))
        for finding in verdict.failures
    ]
    if len(lines) > MOST:
        hidden = len(lines) - (MOST - 1)
        lines = [*lines[: MOST - 1], _command("error", TITLE, f"{hidden} more; see the summary")]
    lines += [
        _command("warning", TITLE, f"compared anyway: {difference}")
        for difference in verdict.overruled
    ]
    lines += [_command("notice", TITLE, note) for note in verdict.notes]
    lines.append(_command("notice", TITLE, verdict.summary))
    return "\n".join(lines) + "\n"


def summary(verdict: Verdict) -> str:
    """Markdown for `$GITHUB_STEP_SUMMARY`."""
    mark = "✅" if verdict.passed else "❌"
    parts = [f"### {mark} {TITLE}", _escaped(verdict.summary)]
    bullets = [f"not comparable: {difference}" for difference in verdict.refused]
    bullets += [f"compared anyway: {difference}" for difference in verdict.overruled]
    bullets += [f"note: {note}" for note in verdict.notes]
    if bullets:
        parts.append("\n".join(f"- {_escaped(bullet)}" for bullet in bullets))
    rows = [_row(finding) for finding in shown(verdict, everything=False)]
    if rows:
        header = ["metric", "baseline", "report", "change", "allowed", "verdict"]
        parts.append(table(header, rows))
    return "\n\n".join(parts) + "\n\n"


def _row(finding: Finding) -> list[str]:
    cells = [f"`{finding.name}`", finding.formatted("baseline"), finding.formatted("report")]
    verdict = f"**{finding.status}**" if finding.failed else finding.status
    if finding.failed and finding.detail:
        verdict += f": {finding.detail}"
    return [
        " ".join(cell.split())
        for cell in (*cells, change_of(finding), allowed_of(finding), verdict)
    ]


def _message(finding: Finding) -> str:
    numbers = f"{finding.formatted('baseline')} → {finding.formatted('report')}"
    if finding.change is not None:
        numbers += f" ({change_of(finding)}, allowed {allowed_of(finding)})"
    return f"{numbers}; {finding.detail}" if finding.detail else numbers


def _command(kind: str, title: str, message: str) -> str:
    """A workflow command; characters that end a property or a line are percent-encoded."""
    head = _encoded(title).replace(":", "%3A").replace(",", "%2C")
    return f"::{kind} title={head}::{_encoded(message)}"


def _encoded(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escaped(text: str) -> str:
    """Escape HTML in text from a report."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
