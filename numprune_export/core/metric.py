"""One measured number. Every stage that measures returns these; the report only collects them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Metric:
    """A value that a reader can judge: with its unit and how many samples stand behind it.

    `low` and `high` bound a confidence interval where one was measured. `conditions` says under
    what the number holds: batch, lengths, dtype, threads, device.
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
"""Dotted name, for example `latency.onnx.decode.pruned.p50_ms`, to its measurement."""


def dense_and_pruned(
    name: str,
    unit: str,
    dense: float,
    pruned: float,
    *,
    conditions: Mapping[str, Any] | None = None,
) -> Metrics:
    """`<name>.dense`, `.pruned` and their `.ratio`, the fraction that stays."""
    under = dict(conditions or {})
    return {
        f"{name}.dense": Metric(dense, unit, 1, conditions=under),
        f"{name}.pruned": Metric(pruned, unit, 1, conditions=under),
        f"{name}.ratio": Metric(pruned / dense, "ratio", 1, conditions=under),
    }


def metrics_to_json(metrics: Metrics) -> dict[str, Any]:
    return {name: one.to_json() for name, one in metrics.items()}


def metrics_from_json(content: Mapping[str, Any]) -> Metrics:
    return {name: Metric(**one) for name, one in content.items()}
