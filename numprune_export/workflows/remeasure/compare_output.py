"""Result of a comparison, as JSON and as tables."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import AwareDatetime

from numprune_export.core.settings import Strict
from numprune_export.measure.environment import Environment
from numprune_export.report.schema import Measurement
from numprune_export.report.tables import quality
from numprune_export.report.tables.format import measured, number, size
from numprune_export.report.tables.table import table
from numprune_export.report.verdict import is_of_source, score_name


class Side(Strict):
    """One model of a comparison."""

    key: str
    """Key in metric names, for example `A`."""
    label: str
    """Name given by the caller."""
    what: str
    size_bytes: int


class Compared(Strict):
    """Result of a comparison; the first side is the reference."""

    format_version: Literal[1] = 1
    created: AwareDatetime
    sides: tuple[Side, ...]
    metrics: dict[str, Measurement]
    """By name, for example `latency.B.decode.speedup`: speed-up of B over A."""
    notes: tuple[str, ...]
    """Remarks on the comparison, in whole sentences."""
    environment: Environment


def to_json(comparison: Compared) -> str:
    content = json.loads(comparison.model_dump_json())
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def render(comparison: Compared) -> str:
    """Plain-text tables: size and quality, then latency."""
    parts = ["\n".join(f"{side.key}  {side.label}: {side.what}" for side in comparison.sides)]
    parts += [_models(comparison), *_sources(comparison), _times(comparison)]
    parts += ["\n".join(f"note: {note}" for note in comparison.notes)] if comparison.notes else []
    return "\n\n".join(parts)


def _models(comparison: Compared) -> str:
    scores = [
        score
        for score in dict.fromkeys(
            name.removeprefix("quality.").rpartition(".")[0]
            for name in comparison.metrics
            if name.startswith("quality.")
        )
        if not is_of_source(score)
    ]
    memory = any(name.startswith("memory.") for name in comparison.metrics)
    first = comparison.sides[0]
    rows = []
    for side in comparison.sides:
        row = [side.key, size(side.size_bytes), f"{side.size_bytes / first.size_bytes:.2f}x"]
        row += [
            _with_interval(comparison.metrics.get(f"quality.{score}.{side.key}"))
            for score in scores
        ]
        row += [_peak(comparison.metrics.get(f"memory.{side.key}.peak_bytes"))] if memory else []
        rows.append(row)
    header = ["", "size", f"of {first.key}", *(score_name(score) for score in scores)]
    return table([*header, *(["peak memory"] if memory else [])], rows)


def _sources(comparison: Compared) -> list[str]:
    """Perplexity by text source; nothing for a single text."""
    by_source = quality.by_source(comparison.metrics, reference=comparison.sides[0].key)
    return (
        [f"{table(by_source.header, by_source.rows)}\n\n{by_source.note}"] if by_source.rows else []
    )


def _times(comparison: Compared) -> str:
    first = comparison.sides[0].key
    stems = [
        name.removeprefix(f"latency.{first}.").removesuffix(".p50_ms")
        for name in comparison.metrics
        if name.startswith(f"latency.{first}.") and name.endswith(".p50_ms")
    ]
    rows = []
    for stem in stems:
        for side in comparison.sides:
            at = f"latency.{side.key}.{stem}"
            times = [number(comparison.metrics[f"{at}.{column}"].value) for column in _COLUMNS]
            ratio = _ratio(comparison.metrics.get(f"{at}.speedup"))
            rows.append([f"{stem.replace('.', ' ')}, {side.key}", *times, ratio])
    speed = f"speed-up over {first}"
    notes = [_under(comparison.metrics[f"latency.{first}.{stem}.p50_ms"], stem) for stem in stems]
    header = ["", "p50 ms", "p90 ms", "p99 ms", "CPU ms", "tokens/s", speed]
    return f"{table(header, rows)}\n\n" + "\n".join(notes)


_COLUMNS = ("p50_ms", "p90_ms", "p99_ms", "cpu_ms", "tokens_per_s")


def _under(measurement: Measurement, stem: str) -> str:
    conditions = ", ".join(f"{key} {value}" for key, value in measurement.conditions.items())
    return f"- {stem.replace('.', ' ')}: {measurement.samples} interleaved samples, {conditions}"


def _with_interval(measurement: Measurement | None) -> str:
    if measurement is None:
        return "-"
    if measurement.low is None or measurement.high is None:
        return number(measurement.value)
    return f"{number(measurement.value)} ({number(measurement.low)} to {number(measurement.high)})"


def _ratio(measurement: Measurement | None) -> str:
    if measurement is None:
        return "-"
    if measurement.low is None or measurement.high is None:
        return f"{measurement.value:.2f}x"
    sure = "" if not measurement.low <= 1 <= measurement.high else ", not significant"
    return f"{measurement.value:.2f}x ({measurement.low:.2f} to {measurement.high:.2f}{sure})"


def _peak(measurement: Measurement | None) -> str:
    return "-" if measurement is None else measured(measurement.value, measurement.unit)
