"""What the gate judges: the part of a report that says how well a model does, and under what.

A baseline file is one of these, so that a repository keeps a few kilobytes and not a whole report.
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
    """The judged part of one run."""

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
    """By site or part of an artifact, as text: `1280 of 1536`, `int64[batch, sequence]`."""
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
    """From a run folder, its report.json, or a baseline file; and whether it is as it was written.

    Raises:
        InputError: not there, not whole, none of these, or written by a newer version.
    """
    path = path / REPORT if path.is_dir() else path
    content = read_content(path)
    if content.get("kind") != KIND:
        return Evidence.of(parse(content, path)), seal_of(content)
    return _baseline(content, path), seal_of(content)


def to_json(evidence: Evidence) -> str:
    """The text of a baseline file: keys in a fixed order and one metric a line, so that two of them
    compare line by line."""
    content = json.loads(evidence.model_dump_json())
    for one in content["metrics"].values():
        for bound in ("low", "high"):
            if one[bound] is None:
                del one[bound]
    lines = [f" {_text(key)}: {_block(one)}" for key, one in sealed(content).items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _baseline(content: Mapping[str, Any], path: Path) -> Evidence:
    version = content.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise InputError(
            f"`{path}` has baseline format `{version}`, this version reads up to {FORMAT_VERSION}",
            hint="update numprune-export",
        )
    try:
        return Evidence.model_validate({key: one for key, one in content.items() if key != KEY})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(
            f"`{path}` is not a baseline: `{where}`: {first['msg'].lower()}",
            hint="write it with `numprune-export baseline RUN`",
        ) from None


def _shapes(report: Report) -> dict[str, str]:
    found = {f"plan.{one.site}": f"{one.kept} of {one.units}" for one in report.plan}
    for name, artifact in sorted(report.artifacts.items()):
        for fact in _SHAPE_FACTS:
            if fact in artifact.facts:
                found |= _parts(f"artifact.{name}.{fact}", artifact.facts[fact])
    return found


def _parts(name: str, fact: JsonValue) -> dict[str, str]:
    """One entry for a plain fact; of tensors, one for those whose names differ by a number only."""
    if not isinstance(fact, dict):
        return {name: str(fact)}
    alike: dict[str, list[str]] = {}
    for key, one in fact.items():
        said = _tensor(one) if isinstance(one, dict) else str(one)
        alike.setdefault(_NUMBER.sub("*", key), []).append(said)
    return {f"{name}.{key}": _runs(said) for key, said in alike.items()}


def _runs(said: Sequence[str]) -> str:
    """
    >>> _runs(["a", "a", "b", "a"])
    'a x2, b, a'
    """
    runs = [(one, len(list(same))) for one, same in groupby(said)]
    return ", ".join(one if count == 1 else f"{one} x{count}" for one, count in runs)


def _tensor(one: Mapping[str, JsonValue]) -> str:
    shape = one.get("shape")
    sizes = ", ".join(str(size) for size in shape) if isinstance(shape, list) else "?"
    return f"{one.get('type', '?')}[{sizes}]"


def _block(value: JsonValue) -> str:
    """An object of objects by lines, all else in one."""
    if not isinstance(value, dict) or not value:
        return _text(value)
    return (
        "{\n" + ",\n".join(f"  {_text(key)}: {_text(one)}" for key, one in value.items()) + "\n }"
    )


def _text(value: JsonValue) -> str:
    return json.dumps(value, ensure_ascii=False)
