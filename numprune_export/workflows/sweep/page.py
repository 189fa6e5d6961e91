"""sweep.md: the table of a sweep, the dense model first."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timezone

from numprune_export.report.schema import Measurement
from numprune_export.report.tables.format import count, number
from numprune_export.report.tables.table import table
from numprune_export.workflows.sweep.record import Cost, Sweep, SweptPoint
from numprune_export.workflows.sweep.trade_off import Quality, cost_of

NAME = "sweep.md"
PLOT = "sweep.svg"
_ABSENT = "-"


def render(sweep: Sweep) -> str:
    """Markdown, readable as plain text."""
    made = f"Made {sweep.created.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC."
    parts = [f"# Sweep: {sweep.recipe_name}", _summary(sweep), made, table_of(sweep)]
    if any(one.status == "done" for one in sweep.points):
        parts += [_notes(sweep), f"![Quality against speed and size, by point]({PLOT})"]
    failed = [one for one in sweep.points if one.error is not None]
    if failed:
        parts += ["## Failed", "\n".join(_failure(one) for one in failed)]
    return "\n\n".join(parts) + "\n"


def _summary(sweep: Sweep) -> str:
    by = {status: sum(one.status == status for one in sweep.points)
          for status in ("done", "failed", "waiting")}  # fmt: skip
    told = [f"{number_} {status}" for status, number_ in by.items() if number_]
    return f"**{len(sweep.points)} points: {', '.join(told)}.**"


def table_of(sweep: Sweep) -> str:
    """One row per point, the dense model first."""
    quality = quality_in(sweep)
    header = ["point", "keep", "parameters"]
    header += [] if quality is None else [f"{_words(quality.score)} ({quality.of})", "of dense"]
    header += [one.label for one in sweep.costs]
    rows = [_dense_row(sweep, quality)] if sweep.costs else []
    rows += [_row(sweep, quality, one) for one in sweep.points]
    return table([*header, "no point is better in"], rows)


def quality_in(sweep: Sweep) -> Quality | None:
    """What is compared; None: no point has measured it."""
    if sweep.quality is None or sweep.quality_of is None:
        return None
    return Quality(sweep.quality, sweep.quality_of)


def _dense_row(sweep: Sweep, quality: Quality | None) -> list[str]:
    done = next(one for one in sweep.points if one.status == "done")
    row = ["dense", "1", _count(done.metrics.get("size.parameters.dense"))]
    if quality is not None:
        dense = done.metrics.get(quality.dense_metric)
        row += [_ABSENT if dense is None else _interval(dense), _ABSENT]
    return [*row, *("1.00x" for _ in sweep.costs), _optimal(sweep, sweep.dense_optimal)]


def _row(sweep: Sweep, quality: Quality | None, point: SweptPoint) -> list[str]:
    metrics = point.metrics
    row = [point.name, f"{point.keep:g}", _count(metrics.get("size.parameters.pruned"))]
    if quality is not None:
        row += _quality(quality, point)
    row += [_cost(one, point) for one in sweep.costs]
    return [*row, _optimal(sweep, point.optimal) if point.status == "done" else point.status]


def _quality(quality: Quality, point: SweptPoint) -> list[str]:
    own, dense = (point.metrics.get(one) for one in (quality.metric, quality.dense_metric))
    if own is None:
        return [_ABSENT, _ABSENT]
    if dense is None:
        return [_interval(own), _ABSENT]
    if quality.lower_is_better:
        return [_interval(own), f"{own.value / dense.value:.3f}x"]
    return [_interval(own), f"{own.value - dense.value:+.4f}"]


def _cost(cost: Cost, point: SweptPoint) -> str:
    found = cost_of(cost, point.metrics)
    if found is None:
        return _ABSENT
    told = f"{found.value:.2f}x"
    if found.low is not None and found.high is not None:
        told += f" ({found.low:.2f} to {found.high:.2f})"
    return told


def _count(found: Measurement | None) -> str:
    return _ABSENT if found is None else count(found.value)


def _interval(one: Measurement) -> str:
    if one.low is None or one.high is None:
        return number(one.value)
    return f"{number(one.value)} ({number(one.low)} to {number(one.high)})"


def _optimal(sweep: Sweep, keys: tuple[str, ...]) -> str:
    names = [one.key for one in sweep.costs if one.key in keys]
    return "all" if len(names) == len(sweep.costs) > 1 else ", ".join(names) or "none"


def _notes(sweep: Sweep) -> str:
    return "\n".join(f"- {one}" for one in _told(sweep))


def _told(sweep: Sweep) -> Iterator[str]:
    yield (
        "Last column: the trade-offs (quality against that column) in which no other point, nor the"
        " dense model, is as good in one and better in the other. By the values: points whose"
        " intervals overlap may be as good as each other."
    )
    yield (
        "Brackets: 95 % intervals; for a mean of several shapes, the least and the greatest of them."
        " Each point was timed beside the dense model in interleaved pairs, alone on its machine."
    )
    for cost in sweep.costs:
        under = next(
            (found.conditions for one in sweep.points if (found := cost_of(cost, one.metrics))), {}
        )
        if under and cost.better == "higher" and len(cost.metrics) == 1:
            yield f"{cost.label}: {', '.join(f'{key} {value}' for key, value in under.items())}"
    machines = {one.machine for one in sweep.points if one.machine is not None}
    if len(machines) > 1:
        yield f"Timed on different machines: {'; '.join(sorted(machines))}."
    elif machines:
        yield f"Timed on {machines.pop()}."


def _failure(point: SweptPoint) -> str:
    assert point.error is not None
    return f"- `{point.name}`: {point.error.message} (exit {point.error.exit_code}); {point.error.hint}"


def _words(name: str) -> str:
    return name.replace("_", " ")
