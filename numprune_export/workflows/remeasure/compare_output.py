"""What a comparison came to, as JSON and as a table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal

from pydantic import AwareDatetime

from numprune_export.core.settings import Strict
from numprune_export.measure.environment import Environment
from numprune_export.report.schema import Measurement
from numprune_export.report.tables.format import measured, number, size
from numprune_export.report.tables.table import table


class Side(Strict):
    """One model of it."""

    key: str
    """Short, as metrics name it: `A`."""
    label: str
    """As the caller named it."""
    what: str
    size_bytes: int


class Compared(Strict):
    """Several models; the first is the reference."""

    format_version: Literal[1] = 1
    created: AwareDatetime
    sides: tuple[Side, ...]
    metrics: dict[str, Measurement]
    """`latency.B.decode.speedup`: how many times as fast B is as A."""
    notes: tuple[str, ...]
    """What a reader should know, in whole sentences."""
    environment: Environment


def to_json(found: Compared) -> str:
    content = json.loads(found.model_dump_json())
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def render(found: Compared) -> str:
    """Tables of plain text: sizes and quality, then times."""
    parts = ["\n".join(f"{one.key}  {one.label}: {one.what}" for one in found.sides)]
    parts += [_models(found), _times(found)]
    parts += ["\n".join(f"note: {one}" for one in found.notes)] if found.notes else []
    return "\n\n".join(parts)


def _models(found: Compared) -> str:
    scores = _named(found.metrics, "quality", 1)
    memory = any(name.startswith("memory.") for name in found.metrics)
    first = found.sides[0]
    rows = []
    for side in found.sides:
        row = [side.key, size(side.size_bytes), f"{side.size_bytes / first.size_bytes:.2f}x"]
        row += [_with_interval(found.metrics.get(f"quality.{one}.{side.key}")) for one in scores]
        row += [_peak(found.metrics.get(f"memory.{side.key}.peak_bytes"))] if memory else []
        rows.append(row)
    header = ["", "size", f"of {first.key}", *(one.replace("_", " ") for one in scores)]
    return table([*header, *(["peak memory"] if memory else [])], rows)


def _times(found: Compared) -> str:
    first = found.sides[0].key
    stems = [
        name.removeprefix(f"latency.{first}.").removesuffix(".p50_ms")
        for name in found.metrics
        if name.startswith(f"latency.{first}.") and name.endswith(".p50_ms")
    ]
    rows = []
    for stem in stems:
        for side in found.sides:
            at = f"latency.{side.key}.{stem}"
            times = [number(found.metrics[f"{at}.{one}"].value) for one in _COLUMNS]
            ratio = _ratio(found.metrics.get(f"{at}.speedup"))
            rows.append([f"{stem.replace('.', ' ')}, {side.key}", *times, ratio])
    speed = f"times as fast as {first}"
    notes = [_under(found.metrics[f"latency.{first}.{stem}.p50_ms"], stem) for stem in stems]
    header = ["", "p50 ms", "p90 ms", "p99 ms", "CPU ms", "tokens/s", speed]
    return f"{table(header, rows)}\n\n" + "\n".join(notes)


_COLUMNS = ("p50_ms", "p90_ms", "p99_ms", "cpu_ms", "tokens_per_s")


def _under(one: Measurement, stem: str) -> str:
    told = ", ".join(f"{key} {value}" for key, value in one.conditions.items())
    return f"- {stem.replace('.', ' ')}: {one.samples} interleaved samples, {told}"


def _named(metrics: Mapping[str, Measurement], kind: str, part: int) -> list[str]:
    found = (name.split(".") for name in metrics if name.startswith(f"{kind}."))
    return list(dict.fromkeys(one[part] for one in found))


def _with_interval(one: Measurement | None) -> str:
    if one is None:
        return "-"
    if one.low is None or one.high is None:
        return number(one.value)
    return f"{number(one.value)} ({number(one.low)} to {number(one.high)})"


def _ratio(one: Measurement | None) -> str:
    if one is None:
        return "-"
    if one.low is None or one.high is None:
        return f"{one.value:.2f}x"
    sure = "" if not one.low <= 1 <= one.high else ", not significant"
    return f"{one.value:.2f}x ({one.low:.2f} to {one.high:.2f}{sure})"


def _peak(one: Measurement | None) -> str:
    return "-" if one is None else measured(one.value, one.unit)
