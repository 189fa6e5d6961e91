"""Compare layer widths and the input and output shapes of artifacts: any difference fails."""

from __future__ import annotations

from collections.abc import Iterator

from numprune_export.gate.evidence import Evidence
from numprune_export.gate.verdict import Finding


def compare(baseline: Evidence, report: Evidence) -> Iterator[Finding]:
    """One finding for each shape in the baseline, and one for each that only the report has."""
    for name, before in baseline.shapes.items():
        now = report.shapes.get(name)
        if now is None:
            yield Finding(name, "shape", "missing", "missing from the report", "", before)
        else:
            status = "ok" if now == before else "regressed"
            detail = "" if now == before else "any change counts"
            yield Finding(name, "shape", status, detail, "", before, now)  # type: ignore[arg-type]
    known = {_owner(name) for name in baseline.shapes}
    for name, now in report.shapes.items():
        if name not in baseline.shapes:
            changed = _owner(name) in known
            detail = "not in the baseline"
            yield Finding(
                name, "shape", "regressed" if changed else "new", detail, "", None, now
            )  # fmt: skip


def _owner(name: str) -> str:
    """The owner of a shape: `plan`, or an artifact such as `artifact.onnx.pruned`."""
    parts = name.split(".")
    return parts[0] if parts[0] == "plan" else ".".join(parts[:3])
