"""The `gate` section of a recipe: limits on metrics, and tolerances relative to a baseline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, FiniteFloat, NonNegativeFloat, PositiveFloat, ValidationError

from numprune_export.core.errors import RecipeError
from numprune_export.core.setting_errors import key_of, problem_of
from numprune_export.core.settings import Strict
from numprune_export.core.yaml_text import read_recipe

Patterns = tuple[Annotated[str, Field(min_length=1)], ...]


class Tolerance(Strict):
    """Allowed regression relative to the baseline, as a fraction of the baseline's value. A change
    within the measured noise of both reports is allowed too."""

    ratios: NonNegativeFloat = 0.02
    """Speed-ups. Dense and pruned are timed in the same rounds, so most machine noise cancels."""
    times: NonNegativeFloat = 0.3
    """Latencies and tokens per second, which depend on the load of the machine."""
    memory: NonNegativeFloat = 0.1
    """Peak memory of a process."""
    quality: NonNegativeFloat = 0.01
    """Perplexity, accuracy and other scores. Both reports use the same examples, so the confidence
    interval over examples does not widen the tolerance."""
    size: NonNegativeFloat = 0.0
    """Parameters and bytes of the weights."""
    files: NonNegativeFloat = 0.001
    """Bytes of an exported artifact, which include names and versions besides the weights."""
    agreement: NonNegativeFloat = 0.01
    """Fractions of tokens on which an artifact and PyTorch agree."""


class Gate(Strict):
    """Requirements that `numprune-export check` applies to a report. Without a baseline, only
    `min`, `max` and `require` apply. Metrics are named as in report.json; `*` matches any text."""

    min: dict[str, FiniteFloat] = Field(default_factory=dict)
    """Minimum by metric: `latency.onnx.*.speedup: 1.1`. A pattern that matches no metric fails."""
    max: dict[str, FiniteFloat] = Field(default_factory=dict)
    """Maximum by metric: `quality.perplexity.onnx: 32`. A pattern that matches no metric fails."""
    require: Patterns = ()
    """Metrics that must be present and finite."""
    ignore: Patterns = ()
    """Metrics that are not compared with the baseline."""
    lower_is_better: Patterns = ()
    """Scores unknown to the gate where lower is better. For unknown scores, any change fails."""
    higher_is_better: Patterns = ()
    """Scores unknown to the gate where higher is better."""
    noise: PositiveFloat | None = None
    """A speed-up fails if its noise would hide a regression of more than this fraction. null: it
    passes, with a note."""
    tolerance: Tolerance = Tolerance()
    """Allowed regression relative to the baseline."""


def gate_of(section: object, where: str) -> Gate:
    """Validate the content of a `gate` section.

    Args:
        section: Parsed YAML or JSON.
        where: Name of its file, for the message.

    Raises:
        RecipeError: a key or a value is invalid.
    """
    try:
        return Gate.model_validate(section)
    except ValidationError as error:
        first = error.errors()[0]
        key = key_of({"loc": ("gate", *first["loc"])})
        raise RecipeError(
            f"{where}: `{key}`: {problem_of(first)}",
            hint="see recipes/schema.json, or `numprune-export schema`",
        ) from None


def gate_of_file(path: Path) -> Gate:
    """The `gate` section of a recipe file; the defaults if it has none.

    Raises:
        RecipeError: the file is not readable, not YAML, not a recipe, or its section is invalid.
    """
    content = read_recipe(path)
    if "version" not in content:
        raise RecipeError(
            f"`{path}` is not a recipe", hint="it must be a mapping with `version: 1`"
        )
    return gate_of(content.get("gate", {}), path.name)
