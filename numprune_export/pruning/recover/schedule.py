"""Learning rate over a budget of steps or minutes."""

from __future__ import annotations

import math
from dataclasses import dataclass

WARM_UP = 0.1
"""Part of the budget in which the rate rises."""
LAST = 0.05
"""Rate at the end, relative to the largest."""


@dataclass(frozen=True)
class Schedule:
    """A rate that rises linearly and then falls as a half cosine."""

    steps: int
    minutes: float | None

    def done(self, step: int, seconds: float) -> float:
        """Part of the budget that is used up: of steps, or of minutes if that is more."""
        used = step / self.steps
        if self.minutes is not None:
            used = max(used, seconds / (60 * self.minutes))
        return used

    def rate(self, share: float) -> float:
        """Rate relative to the largest, once a part of the budget is used up.

        >>> [round(Schedule(20, None).rate(part), 3) for part in (0.0, 0.05, 0.1, 1.0)]
        [0.05, 0.525, 1.0, 0.05]
        """
        if share < WARM_UP:
            return LAST + (1 - LAST) * share / WARM_UP
        fallen = (share - WARM_UP) / (1 - WARM_UP)
        return LAST + (1 - LAST) * (1 + math.cos(math.pi * fallen)) / 2
