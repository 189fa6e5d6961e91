"""What a budget in milliseconds is measured on."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from numprune_export.core.settings import Strict
from numprune_export.pruning.allocate.widths import Widths


class Timing(Strict):
    """Sublayers of an encoder, timed on a target of the run."""

    target: str = "onnx"
    """Whose runtime is timed; one of the recipe's targets."""
    batch: PositiveInt = 1
    length: PositiveInt = 128
    """Tokens of a text, and texts of a batch, that the budget is for."""
    milliseconds: PositiveFloat | None = None
    """The budget itself, in place of `keep` times the dense model's time."""
    points: Annotated[int, Field(ge=2)] = 12
    """Widths of the MLP that are timed; heads are timed at every number."""
    rounds: Annotated[int, Field(ge=3)] = 15
    """Times that every width is timed; the median counts."""


class LatencyBudget(Timing, Widths):
    """`latency`: the plan of the highest summed score that is predicted to take at most `keep` of the
    dense model's time on a target of the run (Kwon et al. 2022, arXiv:2204.09656, §4.1)."""

    method: Literal["latency"] = "latency"
    rearrange: bool = True
    """With `score: fisher`: swap units within a layer by its whole Fisher information, §4.2."""
    until_stable: bool = False
    """Rearrange until a round changes nothing; one round as published."""
