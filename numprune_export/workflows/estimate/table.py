"""An estimate for people."""

from __future__ import annotations

from numprune_export.workflows.estimate.forecast import Estimate

ROW = "{:16} {:>12} {:>14}"


def render(found: Estimate) -> str:
    """Stages, totals, disk, and what was assumed."""
    lines = [
        f"pruning {found.model}, before export, validation and benchmark:",
        "",
        ROW.format("stage", "time", "peak memory"),
    ]
    lines += [
        ROW.format(one.name, _time(one.seconds), _size(one.memory_bytes)) for one in found.stages
    ]
    lines += [ROW.format("total", _time(found.seconds), _size(found.memory_bytes)), ""]
    kinds = ", ".join(f"{name} {_size(size)}" for name, size in found.disk_bytes.items())
    lines += [f"disk: {_size(sum(found.disk_bytes.values()))} ({kinds})", "", "assumed:"]
    return "\n".join([*lines, *(f"- {one}" for one in found.assumptions)])


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _size(size: float) -> str:
    return f"{size / 1e6:.0f} MB" if size < 1e9 else f"{size / 1e9:.2f} GB"
