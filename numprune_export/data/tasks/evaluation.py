"""What an evaluation found: scores that can be resampled, as metrics, and compared in pairs."""

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
    """One score over examples."""

    value: float
    unit: str
    examples: int
    resampled: Resampled
    notes: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def mean_of(cls, values: NDArray[np.float64], unit: str, **notes: Any) -> Measure:
        """The mean of a number that every example has, (n,)."""

        def score(rows: Rows) -> NDArray[np.float64]:
            return np.asarray(values[rows].mean(1))

        return cls(float(values.mean()), unit, len(values), score, notes)


@dataclass(frozen=True)
class Evaluation:
    """The scores of one model on one set of examples."""

    measures: Mapping[str, Measure]
    conditions: Mapping[str, Any]

    def metrics(self, *, seed: int = 0) -> Metrics:
        """Every score with its 95 % interval over examples."""
        return {
            name: self._metric(one, one.value, bootstrap.interval(one.resampled, one.examples, seed=seed))
            for name, one in self.measures.items()
        }  # fmt: skip

    def resamples(self, *, seed: int = 0) -> dict[str, NDArray[np.float64]]:
        """Every score on the same resamples of the examples, (resamples,)."""
        return {
            name: bootstrap.resampled(measure.resampled, measure.examples, seed=seed)
            for name, measure in self.measures.items()
        }

    def change_from(self, before: Evaluation, *, seed: int = 0) -> Metrics:
        """Every score minus what it was, with a 95 % interval over pairs of the same example."""
        return {
            name: self._metric(one, one.value - before.measures[name].value, interval)
            for name, one, interval in (
                (name, one, self._interval_from(before.measures[name], one, seed))
                for name, one in self.measures.items()
            )
        }

    def _interval_from(self, before: Measure, after: Measure, seed: int) -> tuple[float, float]:
        assert before.examples == after.examples, (before.examples, after.examples)
        return bootstrap.change_interval(
            before.resampled, after.resampled, after.examples, seed=seed
        )

    def _metric(self, one: Measure, value: float, interval: tuple[float, float]) -> Metric:
        conditions = {**self.conditions, **one.notes}
        return Metric(value, one.unit, one.examples, *interval, conditions)
