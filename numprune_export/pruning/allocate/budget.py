"""The budget of a plan, and the error for a budget that no plan can meet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from numprune_export.core.errors import RecipeError


@dataclass(frozen=True)
class Budget:
    """A limit on the cost of the kept units."""

    limit: float
    """In the unit of the costs."""
    unit: Literal["", "ms"] = ""
    """Empty: parameters, multiply-accumulates or bytes; messages give these as fractions of the
    dense cost."""
    advice: str = ""
    """How to make the smallest plan smaller; appended to the hint."""

    def check(self, least: float, whole: float) -> None:
        """Refuse a budget that no plan can meet.

        Args:
            least: Cost of the smallest plan.
            whole: Cost of all units.

        Raises:
            RecipeError: `least` is more than the limit; the message gives the smallest budget that
                works.
        """
        if least <= self.limit:
            return
        if self.unit:
            budget, smallest = (
                f"a budget of {self.limit:.4g} {self.unit}",
                f"{rounded_up(least)} {self.unit}",
            )
        else:
            budget, smallest = f"keep {self.limit / whole:.4g}", rounded_up(least / whole)
        raise RecipeError(
            f"{budget} cannot be met: the smallest possible is {smallest}",
            hint=f"raise {'the budget' if self.unit else '`keep`'}{self.advice}",
        )


def rounded_up(value: float) -> str:
    """A positive number with four digits, rounded up: a budget copied from a message must work.

    >>> rounded_up(0.123412), rounded_up(0.5), rounded_up(1 / 3)
    ('0.1235', '0.5', '0.3334')
    """
    digits = 3 - math.floor(math.log10(value))
    nearest = round(value, digits)
    return f"{nearest if nearest >= value else nearest + 10.0**-digits:.4g}"
