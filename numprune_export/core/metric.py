"""A measured value. Measuring stages return metrics; the report collects them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Metric:
    """A value with its unit and its number of samples.

    `low` and `high` bound the confidence interval, where it was measured. `conditions` are the
    measurement conditions: batch, lengths, dtype, threads, device.
    """

    value: float
    unit: str
    samples: int
    low: float | None = None
    high: float | None = None
    conditions: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        bounds = {} if self.low is None else {"low": self.low, "high": self.high}
        return {
            "value": self.value,
            "unit": self.unit,
            "samples": self.samples,
            **bounds,
            "conditions": dict(self.conditions),
        }


Metrics = dict[str, Metric]
"""Dotted name, for example `latency.onnx.decode.pruned.p50_ms`, to metric."""


def dense_and_pruned(
    name: str,
    unit: str,
    dense: float,
    pruned: float,
    *,
    conditions: Mapping[str, Any] | None = None,
) -> Metrics:
    """Metrics `<name>.dense`, `<name>.pruned` and `<name>.ratio` (pruned / dense)."""
    under = dict(conditions or {})
    return {
        f"{name}.dense": Metric(dense, unit, 1, conditions=under),
        f"{name}.pruned": Metric(pruned, unit, 1, conditions=under),
        f"{name}.ratio": Metric(pruned / dense, "ratio", 1, conditions=under),
    }


def metrics_to_json(metrics: Metrics) -> dict[str, Any]:
    return {name: metric.to_json() for name, metric in metrics.items()}


def metrics_from_json(content: Mapping[str, Any]) -> Metrics:
    return {name: Metric(**fields) for name, fields in content.items()}
