"""The `gate` section of a recipe: which numbers a report must reach, and how far it may fall back."""

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
    """How much worse than the baseline a number may be. Each is a fraction of the baseline's value,
    and whatever is within the measured noise of both reports is allowed too."""

    ratios: NonNegativeFloat = 0.02
    """Speed-ups: dense and pruned of the same rounds, so most of a machine's noise cancels."""
    times: NonNegativeFloat = 0.3
    """Latencies and tokens per second, which depend on all else that the machine does."""
    memory: NonNegativeFloat = 0.1
    """Peak memory of a process."""
    quality: NonNegativeFloat = 0.01
    """Perplexity, accuracy and other scores. Both reports are of the same examples, so the interval
    over examples, which says how other examples would score, widens nothing."""
    size: NonNegativeFloat = 0.0
    """Parameters and bytes of the weights."""
    files: NonNegativeFloat = 0.001
    """Bytes of an exported artifact, which hold names and versions besides weights."""
    agreement: NonNegativeFloat = 0.01
    """Shares of tokens on which an artifact and PyTorch agree."""


class Gate(Strict):
    """What `numprune-export check` asks of a report. Without a baseline only `min`, `max` and
    `require` are judged. Metrics are named as in report.json; `*` stands for anything."""

    min: dict[str, FiniteFloat] = Field(default_factory=dict)
    """Least value by metric: `latency.onnx.*.speedup: 1.1`. A pattern that no metric has is broken."""
    max: dict[str, FiniteFloat] = Field(default_factory=dict)
    """Greatest value by metric: `quality.perplexity.onnx: 32`."""
    require: Patterns = ()
    """Metrics that must be there and finite."""
    ignore: Patterns = ()
    """Metrics that are not compared with the baseline."""
    lower_is_better: Patterns = ()
    """Scores of which the gate does not know it; of unknown ones any change counts."""
    higher_is_better: Patterns = ()
    """The same for scores that should rise."""
    noise: PositiveFloat | None = None
    """A speed-up so noisy that it could be worse by more than this fraction and still pass fails. null:
    it passes, and that is told."""
    tolerance: Tolerance = Tolerance()
    """How far numbers may fall back from the baseline."""


def gate_of(section: object, where: str) -> Gate:
    """A section's content, checked.

    Raises:
        RecipeError: something in it is not allowed; `where` says whose it is.
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
    """The section of a recipe file; without one, the defaults.

    Raises:
        RecipeError: not readable, not YAML, no recipe, or something in the section is not allowed.
    """
    content = read_recipe(path)
    if "version" not in content:
        raise RecipeError(
            f"`{path}` is not a recipe", hint="it must be a mapping with `version: 1`"
        )
    return gate_of(content.get("gate", {}), path.name)
