"""sweep.json: the points of a sweep, their outcomes and metrics. Versioned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, Field, ValidationError

from numprune_export.core.errors import InputError
from numprune_export.core.json_text import loads
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
    """A cost of a model: latency or size, an axis of the trade-off."""

    key: str
    """For example `onnx.decode`, or `size`."""
    label: str
    metrics: tuple[str, ...]
    """Names of the metrics; the geometric mean if there are several."""
    better: Literal["higher", "lower"]


class SweptPoint(Strict):
    """One point of a sweep."""

    name: str
    folder: str
    """Relative to the sweep folder."""
    keep: float
    score: str
    method: str | None
    query_heads: str = "grouped"
    status: Status
    error: PointError | None = None
    metrics: dict[str, Measurement] = Field(default_factory=dict)
    """Selected metrics of its report: sizes, quality, speed-ups, median latencies, peak memory."""
    optimal: tuple[str, ...] = ()
    """Keys of the costs for which the point is Pareto optimal."""
    machine: str | None = None
    """CPU and GPUs it was timed on."""


class Sweep(Strict):
    """A whole sweep."""

    format_version: Literal[1] = 1
    created: AwareDatetime
    recipe_name: str
    quality: str | None = None
    """Name of the quality score, for example `perplexity`; None: not measured by any point."""
    quality_of: str | None = None
    """Model whose score is compared: a target's name, or `pruned` for PyTorch."""
    lower_is_better: bool = False
    """Direction of the quality score."""
    costs: tuple[Cost, ...] = ()
    points: tuple[SweptPoint, ...]
    dense_optimal: tuple[str, ...] = ()


def to_json(sweep: Sweep) -> str:
    """The text of sweep.json."""
    content = json.loads(sweep.model_dump_json())
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def read(path: Path) -> Sweep:
    """Read sweep.json.

    Raises:
        InputError: the file is missing, is not a sweep, or was written by a newer version.
    """
    try:
        content = loads(path.read_text(encoding="utf-8"))
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
            f"cannot read the sweep `{path}`: {first}", hint="repeat the sweep"
        ) from None
