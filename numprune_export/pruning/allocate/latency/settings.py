"""Settings of a latency budget: target, shape and timing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from numprune_export.core.settings import Strict
from numprune_export.pruning.allocate.widths import Widths


class Timing(Strict):
    """How sublayers of an encoder are timed on a target of the run."""

    target: str = "onnx"
    """The target whose runtime is timed; one of the recipe's targets."""
    batch: PositiveInt = 1
    length: PositiveInt = 128
    """Tokens per text at which the budget holds; `batch` is the texts per batch."""
    milliseconds: PositiveFloat | None = None
    """The budget, instead of `keep` times the dense model's latency."""
    points: Annotated[int, Field(ge=2)] = 12
    """Number of MLP widths that are timed; every number of heads is timed."""
    rounds: Annotated[int, Field(ge=3)] = 15
    """Timing rounds per width; the median counts."""


class LatencyBudget(Timing, Widths):
    """`latency`: the plan of the highest summed score whose predicted latency is at most `keep` of
    the dense model's on a target of the run (Kwon et al. 2022, arXiv:2204.09656, §4.1)."""

    method: Literal["latency"] = "latency"
    rearrange: bool = True
    """With `score: fisher`: swap units within a layer by the layer's full Fisher information,
    §4.2."""
    until_stable: bool = False
    """Rearrange until a round changes nothing; false: one round, as published."""
