"""sweep.json: which points a sweep has, what became of each, and what they measured. Versioned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, Field, ValidationError

from numprune_export.core.errors import InputError
from numprune_export.core.settings import Strict
from numprune_export.report.schema import Measurement

FORMAT_VERSION = 1
NAME = "sweep.json"

Status = Literal["done", "failed", "waiting"]


class PointError(Strict):
    """Why a point has no report."""

    message: str
    hint: str
    exit_code: int


class Cost(Strict):
    """Something a smaller model is meant to save: an axis of the trade-off."""

    key: str
    """For example `onnx.decode`, or `size`."""
    label: str
    metrics: tuple[str, ...]
    """What it is read from; more than one: their geometric mean."""
    better: Literal["higher", "lower"]


class SweptPoint(Strict):
    """One run."""

    name: str
    folder: str
    """Relative to the sweep's."""
    keep: float
    score: str
    method: str | None
    query_heads: str = "grouped"
    status: Status
    error: PointError | None = None
    metrics: dict[str, Measurement] = Field(default_factory=dict)
    """Of its report: sizes, the score that counts, speed-ups, medians and peaks."""
    optimal: tuple[str, ...] = ()
    """Keys of the costs at which no other point is as good and cheaper, or as cheap and better."""
    machine: str | None = None
    """The processor or GPU that it was timed on."""


class Sweep(Strict):
    """A whole sweep."""

    format_version: Literal[1] = 1
    created: AwareDatetime
    recipe_name: str
    quality: str | None = None
    """The score that counts, for example `perplexity`; None: no point has measured it."""
    quality_of: str | None = None
    """Which model's score is compared: a target's name, or `pruned` for PyTorch's."""
    lower_is_better: bool = False
    """Of the score."""
    costs: tuple[Cost, ...] = ()
    points: tuple[SweptPoint, ...]
    dense_optimal: tuple[str, ...] = ()


def to_json(sweep: Sweep) -> str:
    """The text of sweep.json."""
    content = json.loads(sweep.model_dump_json())
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def read(path: Path) -> Sweep:
    """
    Raises:
        InputError: not there, not a sweep, or written by a newer version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content.get("format_version")
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise InputError(
                f"`{path}` has sweep format `{version}`, this version reads up to {FORMAT_VERSION}",
                hint="update numprune-export",
            )
        return Sweep.model_validate(content)
    except (OSError, ValueError, AttributeError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise InputError(
            f"cannot read the sweep `{path}`: {first}", hint="give the same sweep again"
        ) from None
