"""Results of an evaluation: scores with bootstrap intervals, and paired comparisons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numprune_export.core.metric import Metric, Metrics
from numprune_export.data.tasks.metrics import bootstrap
from numprune_export.data.tasks.metrics.bootstrap import Resampled, Rows


@dataclass(frozen=True)
class Measure:
    """One score over examples, which can be resampled."""

    value: float
    unit: str
    examples: int
    resampled: Resampled
    notes: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def mean_of(cls, values: NDArray[np.float64], unit: str, **notes: Any) -> Measure:
        """The mean of one value per example, (n,)."""

        def score(rows: Rows) -> NDArray[np.float64]:
            return np.asarray(values[rows].mean(1))

        return cls(float(values.mean()), unit, len(values), score, notes)


@dataclass(frozen=True)
class Evaluation:
    """The scores of one model on one set of examples."""

    measures: Mapping[str, Measure]
    conditions: Mapping[str, Any]

    def metrics(self, *, seed: int = 0) -> Metrics:
        """Every score with its 95 % bootstrap interval over examples."""
        return {
            name: self._metric(
                measure,
                measure.value,
                bootstrap.interval(measure.resampled, measure.examples, seed=seed),
            )
            for name, measure in self.measures.items()
        }

    def resamples(self, *, seed: int = 0) -> dict[str, NDArray[np.float64]]:
        """Every score on the same resamples of the examples, (resamples,)."""
        return {
            name: bootstrap.resampled(measure.resampled, measure.examples, seed=seed)
            for name, measure in self.measures.items()
        }

    def change_from(self, before: Evaluation, *, seed: int = 0) -> Metrics:
        """Difference of every score from `before`, with a paired 95 % bootstrap interval over
        examples."""
        changes = {}
        for name, measure in self.measures.items():
            earlier = before.measures[name]
            interval = self._interval_from(earlier, measure, seed)
            changes[name] = self._metric(measure, measure.value - earlier.value, interval)
        return changes

    def _interval_from(self, before: Measure, after: Measure, seed: int) -> tuple[float, float]:
        assert before.examples == after.examples, (before.examples, after.examples)
        return bootstrap.change_interval(
            before.resampled, after.resampled, after.examples, seed=seed
        )

    def _metric(self, measure: Measure, value: float, interval: tuple[float, float]) -> Metric:
        conditions = {**self.conditions, **measure.notes}
        return Metric(value, measure.unit, measure.examples, *interval, conditions)
