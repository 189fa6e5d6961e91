"""What is kept of every layer, and what an artifact takes and gives: equal or not."""

from __future__ import annotations

from collections.abc import Iterator

from numprune_export.gate.evidence import Evidence
from numprune_export.gate.verdict import Finding


def compare(baseline: Evidence, report: Evidence) -> Iterator[Finding]:
    """One finding per shape of the baseline, and per one that the report adds."""
    for name, before in baseline.shapes.items():
        now = report.shapes.get(name)
        if now is None:
            yield Finding(name, "shape", "missing", "the report does not have it", "", before)
        else:
            status = "ok" if now == before else "regressed"
            detail = "" if now == before else "any change counts"
            yield Finding(name, "shape", status, detail, "", before, now)  # type: ignore[arg-type]
    known = {_owner(name) for name in baseline.shapes}
    for name, now in report.shapes.items():
        if name not in baseline.shapes:
            changed = _owner(name) in known
            detail = "the baseline does not have it"
            yield Finding(
                name, "shape", "regressed" if changed else "new", detail, "", None, now
            )  # fmt: skip


def _owner(name: str) -> str:
    """The plan, or one artifact: `artifact.onnx.pruned`."""
    parts = name.split(".")
    return parts[0] if parts[0] == "plan" else ".".join(parts[:3])
