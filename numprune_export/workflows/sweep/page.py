"""sweep.md: the table of a sweep, the dense model first."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timezone

from numprune_export.report.schema import Measurement
from numprune_export.report.tables.format import count, number
from numprune_export.report.tables.table import table
from numprune_export.report.verdict import WORST, score_name
from numprune_export.workflows.sweep.record import Cost, Sweep, SweptPoint
from numprune_export.workflows.sweep.trade_off import Quality, cost_of

NAME = "sweep.md"
PLOT = "sweep.svg"
_ABSENT = "-"


def render(sweep: Sweep) -> str:
    """Markdown, readable as plain text."""
    created = f"Created {sweep.created.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC."
    parts = [f"# Sweep: {sweep.recipe_name}", _summary(sweep), created, table_of(sweep)]
    if any(point.status == "done" for point in sweep.points):
        parts += [_notes(sweep), f"![Quality against speed and size, by point]({PLOT})"]
    failed = [point for point in sweep.points if point.error is not None]
    if failed:
        parts += ["## Failed", "\n".join(_failure(point) for point in failed)]
    return "\n\n".join(parts) + "\n"


def _summary(sweep: Sweep) -> str:
    by = {status: sum(point.status == status for point in sweep.points)
          for status in ("done", "failed", "waiting")}  # fmt: skip
    counts = [f"{total} {status}" for status, total in by.items() if total]
    return f"**{len(sweep.points)} points: {', '.join(counts)}.**"


def table_of(sweep: Sweep) -> str:
    """One row per point, the dense model first."""
    quality = quality_in(sweep)
    header = ["point", "keep", "parameters"]
    if quality is not None:
        beside = "worst source" if quality.relative else "of dense"
        header += [f"{score_name(quality.score)} ({quality.of})", beside]
    header += [cost.label for cost in sweep.costs]
    rows = [_dense_row(sweep, quality)] if sweep.costs else []
    rows += [_row(sweep, quality, point) for point in sweep.points]
    return table([*header, "no point is better in"], rows)


def quality_in(sweep: Sweep) -> Quality | None:
    """Quality score that is compared; None: not measured by any point."""
    if sweep.quality is None or sweep.quality_of is None:
        return None
    return Quality(sweep.quality, sweep.quality_of)


def _dense_row(sweep: Sweep, quality: Quality | None) -> list[str]:
    done = next(point for point in sweep.points if point.status == "done")
    row = ["dense", "1", _count(done.metrics.get("size.parameters.dense"))]
    if quality is not None:
        row += [_dense_quality(quality, done), _ABSENT]
    return [*row, *("1.00x" for _ in sweep.costs), _optimal(sweep, sweep.dense_optimal)]


def _row(sweep: Sweep, quality: Quality | None, point: SweptPoint) -> list[str]:
    metrics = point.metrics
    row = [point.name, f"{point.keep:g}", _count(metrics.get("size.parameters.pruned"))]
    if quality is not None:
        row += _quality(quality, point)
    row += [_cost(cost, point) for cost in sweep.costs]
    return [*row, _optimal(sweep, point.optimal) if point.status == "done" else point.status]


def _dense_quality(quality: Quality, done: SweptPoint) -> str:
    if quality.relative:
        return number(1.0)
    dense = done.metrics.get(quality.dense_metric)
    return _ABSENT if dense is None else _interval(dense)


def _quality(quality: Quality, point: SweptPoint) -> list[str]:
    own, dense = (point.metrics.get(name) for name in (quality.metric, quality.dense_metric))
    if own is None:
        return [_ABSENT, _ABSENT]
    if quality.relative:
        return [_interval(own), _worst(quality, point)]
    if dense is None:
        return [_interval(own), _ABSENT]
    if quality.lower_is_better:
        return [_interval(own), f"{own.value / dense.value:.3f}x"]
    return [_interval(own), f"{own.value - dense.value:+.4f}"]


def _worst(quality: Quality, point: SweptPoint) -> str:
    worst = point.metrics.get(f"quality.{WORST}.{quality.of}")
    return _ABSENT if worst is None else f"{_interval(worst)} on {worst.conditions['worst']}"


def _cost(cost: Cost, point: SweptPoint) -> str:
    measurement = cost_of(cost, point.metrics)
    if measurement is None:
        return _ABSENT
    text = f"{measurement.value:.2f}x"
    if measurement.low is not None and measurement.high is not None:
        text += f" ({measurement.low:.2f} to {measurement.high:.2f})"
    return text


def _count(measurement: Measurement | None) -> str:
    return _ABSENT if measurement is None else count(measurement.value)


def _interval(measurement: Measurement) -> str:
    if measurement.low is None or measurement.high is None:
        return number(measurement.value)
    return f"{number(measurement.value)} ({number(measurement.low)} to {number(measurement.high)})"


def _optimal(sweep: Sweep, keys: tuple[str, ...]) -> str:
    names = [cost.key for cost in sweep.costs if cost.key in keys]
    return "all" if len(names) == len(sweep.costs) > 1 else ", ".join(names) or "none"


def _notes(sweep: Sweep) -> str:
    return "\n".join(f"- {note}" for note in _note_lines(sweep))


def _note_lines(sweep: Sweep) -> Iterator[str]:
    yield (
        "Last column: the trade-offs (quality against that column) in which the point is Pareto"
        " optimal: no other point, nor the dense model, is at least as good in both and better in"
        " one. Values are compared: points with overlapping intervals may be equally good."
    )
    yield (
        "Parentheses: 95 % intervals; for a mean of several shapes, their minimum and maximum."
        " Each point was timed in interleaved pairs with the dense model, alone on its machine."
    )
    for cost in sweep.costs:
        under = next(
            (
                measurement.conditions
                for point in sweep.points
                if (measurement := cost_of(cost, point.metrics))
            ),
            {},
        )
        if under and cost.better == "higher" and len(cost.metrics) == 1:
            yield f"{cost.label}: {', '.join(f'{key} {value}' for key, value in under.items())}"
    machines = {point.machine for point in sweep.points if point.machine is not None}
    if len(machines) > 1:
        yield f"Timed on different machines: {'; '.join(sorted(machines))}."
    elif machines:
        yield f"Timed on {machines.pop()}."


def _failure(point: SweptPoint) -> str:
    assert point.error is not None
    return f"- `{point.name}`: {point.error.message} (exit {point.error.exit_code}); {point.error.hint}"
