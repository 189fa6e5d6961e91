"""The part of a report that the gate compares: metrics, shapes, and measurement conditions.

A baseline file holds only this part: a few kilobytes instead of a whole report.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, Field, JsonValue, ValidationError

from numprune_export.core.errors import InputError
from numprune_export.core.settings import Strict
from numprune_export.measure.environment import Environment
from numprune_export.report.schema import Measurement, Report
from numprune_export.report.seal import KEY, Seal, seal_of, sealed
from numprune_export.report.store import parse, read_content

KIND: Literal["numprune-export baseline"] = "numprune-export baseline"
FORMAT_VERSION = 1
REPORT = "report.json"

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
_SHAPE_FACTS = ("graph", "dtype", "opsets", "inputs", "outputs")


class Evidence(Strict):
    """The part of one run's report that the gate compares."""

    kind: Literal["numprune-export baseline"] = KIND
    format_version: Literal[1] = 1
    created: AwareDatetime
    recipe_name: str
    dense_sha256: str | None = None
    evaluation_sha256: str | None = None
    environment: Environment
    recipe: dict[str, JsonValue]
    not_run: dict[str, str] = Field(default_factory=dict)
    shapes: dict[str, str]
    """Shape as text (`1280 of 1536`, `int64[batch, sequence]`) by site or artifact tensor."""
    metrics: dict[str, Measurement]

    @classmethod
    def of(cls, report: Report) -> Evidence:
        return cls(
            created=report.created,
            recipe_name=report.recipe_name,
            dense_sha256=report.dense_sha256,
            evaluation_sha256=report.evaluation_sha256,
            environment=report.environment,
            recipe=report.recipe,
            not_run=report.not_run,
            shapes=_shapes(report),
            metrics=dict(sorted(report.metrics.items())),
        )


def read(path: Path) -> tuple[Evidence, Seal]:
    """Read evidence and its seal from a run folder, a report.json or a baseline file.

    Raises:
        InputError: the file is missing, incomplete, of another kind, or written by a newer version.
    """
    path = path / REPORT if path.is_dir() else path
    content = read_content(path)
    if content.get("kind") != KIND:
        return Evidence.of(parse(content, path)), seal_of(content)
    return _baseline(content, path), seal_of(content)


def to_json(evidence: Evidence) -> str:
    """The text of a baseline file: keys in a fixed order and one metric per line, so that two files
    can be compared line by line."""
    content = json.loads(evidence.model_dump_json())
    for metric in content["metrics"].values():
        for bound in ("low", "high"):
            if metric[bound] is None:
                del metric[bound]
    lines = [f" {_text(key)}: {_block(value)}" for key, value in sealed(content).items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _baseline(content: Mapping[str, Any], path: Path) -> Evidence:
    version = content.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise InputError(
            f"`{path}` has baseline format `{version}`, this version reads up to {FORMAT_VERSION}",
            hint="update numprune-export",
        )
    try:
        return Evidence.model_validate({key: value for key, value in content.items() if key != KEY})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(
            f"`{path}` is not a baseline: `{where}`: {first['msg'].lower()}",
            hint="write it with `numprune-export baseline RUN`",
        ) from None


def _shapes(report: Report) -> dict[str, str]:
    shapes = {f"plan.{width.site}": f"{width.kept} of {width.units}" for width in report.plan}
    for name, artifact in sorted(report.artifacts.items()):
        for fact in _SHAPE_FACTS:
            if fact in artifact.facts:
                shapes |= _parts(f"artifact.{name}.{fact}", artifact.facts[fact])
    return shapes


def _parts(name: str, fact: JsonValue) -> dict[str, str]:
    """One entry for a scalar fact; tensors whose names differ only by a number share one entry."""
    if not isinstance(fact, dict):
        return {name: str(fact)}
    alike: dict[str, list[str]] = {}
    for key, value in fact.items():
        text = _tensor(value) if isinstance(value, dict) else str(value)
        alike.setdefault(_NUMBER.sub("*", key), []).append(text)
    return {f"{name}.{key}": _runs(texts) for key, texts in alike.items()}


def _runs(texts: Sequence[str]) -> str:
    """Run-length encode texts.

    >>> _runs(["a", "a", "b", "a"])
    'a x2, b, a'
    """
    runs = [(text, len(list(same))) for text, same in groupby(texts)]
    return ", ".join(text if count == 1 else f"{text} x{count}" for text, count in runs)


def _tensor(tensor: Mapping[str, JsonValue]) -> str:
    shape = tensor.get("shape")
    sizes = ", ".join(str(size) for size in shape) if isinstance(shape, list) else "?"
    return f"{tensor.get('type', '?')}[{sizes}]"


def _block(value: JsonValue) -> str:
    """JSON text: an object with one member per line, any other value on one line."""
    if not isinstance(value, dict) or not value:
        return _text(value)
    return (
        "{\n" + ",\n".join(f"  {_text(key)}: {_text(item)}" for key, item in value.items()) + "\n }"
    )


def _text(value: JsonValue) -> str:
    return json.dumps(value, ensure_ascii=False)
