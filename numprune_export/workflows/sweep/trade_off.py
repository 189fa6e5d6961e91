"""Trade-off of a sweep: quality against speed and size, and the Pareto-optimal points."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from numprune_export.report.schema import Measurement
from numprune_export.report.verdict import (
    RATIO,
    STAGES,
    is_reference,
    metric_of,
    scores,
    targets,
    timed,
)
from numprune_export.workflows.sweep.record import Cost

LOWER_IS_BETTER = ("perplexity", RATIO, "loss")
DENSE = "dense"

Measurements = Mapping[str, Measurement]


@dataclass(frozen=True)
class Quality:
    """A quality score and the model it is measured on."""

    score: str
    of: str
    """A target's name, or `pruned` for PyTorch."""

    @property
    def lower_is_better(self) -> bool:
        return metric_of(self.score) in LOWER_IS_BETTER

    @property
    def metric(self) -> str:
        return f"quality.{self.score}.{self.of}"

    @property
    def dense_metric(self) -> str:
        return f"quality.{self.score}.{DENSE}"

    @property
    def relative(self) -> bool:
        """Whether the score is relative to the dense model already."""
        return metric_of(self.score) == RATIO

    def of_dense(self, metrics: Measurements) -> float | None:
        """The dense model's score in the metrics of a point; None: not measured."""
        if self.relative:
            return 1.0
        dense = metrics.get(self.dense_metric)
        return None if dense is None else dense.value

    def worth(self, value: float) -> float:
        """Value with its sign set so that higher is better."""
        return -value if self.lower_is_better else value


def quality_of(metrics: Measurements) -> Quality | None:
    """First score of a report, on the first exported model that has it."""
    for score, by in scores(metrics).items():
        exported = [name for name in by if name not in STAGES]
        return Quality(score, (*exported, "pruned")[0])
    return None


def costs_of(metrics: Measurements) -> tuple[Cost, ...]:
    """Speed-ups of each exported target by phase, mean over an encoder's shapes; then the size."""
    names = targets(metrics, "latency")
    wanted = [name for name in names if not is_reference(name)] or names
    speedups: dict[str, list[str]] = {}
    for phase, target, stem in timed(metrics):
        if target in wanted:
            speedups.setdefault(f"{target}.{phase.split()[0]}", []).append(f"{stem}.speedup")
    speeds = [
        Cost(key=key, label=_label(key, len(at)), metrics=tuple(at), better="higher")
        for key, at in speedups.items()
    ]
    sizes = [
        f"size.{target}.bytes.ratio" for target in wanted if f"size.{target}.bytes.ratio" in metrics
    ]
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
    """Value and interval of a cost; None: a metric was not measured.

    The geometric mean of several metrics has their minimum and maximum as bounds.
    """
    measurements = [metrics[name] for name in cost.metrics if name in metrics]
    if len(measurements) < len(cost.metrics) or not measurements:
        return None
    if len(measurements) == 1:
        return measurements[0]
    values = [measurement.value for measurement in measurements]
    mean = math.exp(math.fsum(math.log(value) for value in values) / len(values))
    return measurements[0].model_copy(
        update={"value": mean, "low": min(values), "high": max(values)}
    )


def pareto(trades: Sequence[tuple[float, float] | None]) -> list[bool]:
    """Pareto-optimal pairs: no other pair is at least as good in both values and better in one.

    Args:
        trades: Quality and saving, higher is better for both; None or NaN: never optimal.

    >>> pareto([(3, 1), (2, 2), (1, 2), (2, 2), None])
    [True, True, False, True, False]
    """
    whole = [trade for trade in trades if trade is not None and not any(map(math.isnan, trade))]

    def beaten(trade: tuple[float, float]) -> bool:
        return any(
            other[0] >= trade[0] and other[1] >= trade[1] and other != trade for other in whole
        )

    return [trade is not None and trade in whole and not beaten(trade) for trade in trades]
