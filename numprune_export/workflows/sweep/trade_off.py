"""What a sweep trades: quality against speed and size, and which points are worth it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from numprune_export.report.schema import Measurement
from numprune_export.report.verdict import is_reference, scores, targets, timed
from numprune_export.workflows.sweep.record import Cost

LOWER_IS_BETTER = ("perplexity", "loss")
DENSE = "dense"

Measurements = Mapping[str, Measurement]


@dataclass(frozen=True)
class Quality:
    """The score that counts, and whose."""

    score: str
    of: str
    """A target that ran, or `pruned`: PyTorch's."""

    @property
    def lower_is_better(self) -> bool:
        return self.score in LOWER_IS_BETTER

    @property
    def metric(self) -> str:
        return f"quality.{self.score}.{self.of}"

    @property
    def dense_metric(self) -> str:
        return f"quality.{self.score}.{DENSE}"

    def worth(self, value: float) -> float:
        """Higher is better."""
        return -value if self.lower_is_better else value


def quality_of(metrics: Measurements) -> Quality | None:
    """The first score of a report, of the first exported model that has it."""
    for score, by in scores(metrics).items():
        exported = [one for one in by if one not in (DENSE, "masked", "pruned")]
        return Quality(score, (*exported, "pruned")[0])
    return None


def costs_of(metrics: Measurements) -> tuple[Cost, ...]:
    """Speed-ups of each exported target by phase, an encoder's shapes as one; then the size."""
    names = targets(metrics, "latency")
    wanted = [one for one in names if not is_reference(one)] or names
    found: dict[str, list[str]] = {}
    for phase, target, stem in timed(metrics):
        if target in wanted:
            found.setdefault(f"{target}.{phase.split()[0]}", []).append(f"{stem}.speedup")
    speeds = [
        Cost(key=key, label=_label(key, len(at)), metrics=tuple(at), better="higher")
        for key, at in found.items()
    ]
    sizes = [f"size.{one}.bytes.ratio" for one in wanted if f"size.{one}.bytes.ratio" in metrics]
    size = (sizes or ["size.bytes.ratio"])[0]
    return (
        *speeds,
        Cost(key="size", label="size on disk of dense", metrics=(size,), better="lower"),
    )


def _label(key: str, shapes: int) -> str:
    target, phase = key.rsplit(".", 1)
    over = f", mean of {shapes} shapes" if shapes > 1 else ""
    return f"{phase} speed-up on {target}{over}"


def cost_of(cost: Cost, metrics: Measurements) -> Measurement | None:
    """Its value, with the interval where it is of one metric; None where one was not measured.

    The geometric mean of several has their least and greatest value as bounds.
    """
    found = [metrics[name] for name in cost.metrics if name in metrics]
    if len(found) < len(cost.metrics) or not found:
        return None
    if len(found) == 1:
        return found[0]
    values = [one.value for one in found]
    mean = math.exp(math.fsum(math.log(one) for one in values) / len(values))
    return found[0].model_copy(update={"value": mean, "low": min(values), "high": max(values)})


def pareto(trades: Sequence[tuple[float, float] | None]) -> list[bool]:
    """Which pairs no other pair beats: none is at least as good in both and better in one.

    Args:
        trades: Worth and saving, both better when higher; None or NaN: never optimal.

    >>> pareto([(3, 1), (2, 2), (1, 2), (2, 2), None])
    [True, True, False, True, False]
    """
    whole = [one for one in trades if one is not None and not any(map(math.isnan, one))]

    def beaten(one: tuple[float, float]) -> bool:
        return any(other[0] >= one[0] and other[1] >= one[1] and other != one for other in whole)

    return [one is not None and one in whole and not beaten(one) for one in trades]
