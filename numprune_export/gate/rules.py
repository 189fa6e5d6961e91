"""The rule for each metric, by its name and unit: direction, tolerance and floor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from numprune_export.gate.limits import Gate
from numprune_export.report.schema import Measurement
from numprune_export.report.verdict import metric_of

Kind = Literal["ratio", "time", "memory", "size", "quality", "parity", "told"]
"""`told`: checked only for presence, finite values and equal measurement conditions. This applies
to machine readings, metrics derived from others, and unknown metrics."""
Better = Literal["higher", "lower", "same"]

MEASURED_ON_THE_MACHINE: tuple[Kind, ...] = ("ratio", "time", "memory", "told")
"""Kinds whose values depend on the machine as well as on the model."""

_TIMES = ("p50_ms", "cpu_ms", "tokens_per_s")
_LOWER_SCORES = (
    "perplexity", "perplexity_ratio", "loss", "word_perplexity", "byte_perplexity", "bits_per_byte", "brier_score", "ter"
)  # fmt: skip
_HIGHER_SCORES = (
    "accuracy", "acc", "acc_norm", "exact_match", "f1", "matthews", "mcc", "pearson", "spearman", "precision",
    "recall", "bleu", "chrf", "rouge1", "rouge2", "rougeL", "pass@1",
)  # fmt: skip
_MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Rule:
    """How one metric is judged against its baseline."""

    kind: Kind
    better: Better = "same"
    tolerance: float = 0.0
    """Allowed regression, as a fraction of the baseline."""
    floor: float = 0.0
    """In the metric's unit; differences up to this size are ignored."""


def rule_of(name: str, metric: Measurement, gate: Gate) -> Rule:
    """The rule for the metric `name`.

    Args:
        metric: Its baseline measurement, for unit, samples and conditions.
    """
    kind, _, rest = name.partition(".")
    last = name.rpartition(".")[2]
    tolerance = gate.tolerance
    if kind == "latency" and last in ("speedup", "cpu_speedup"):
        return Rule("ratio", "higher", tolerance.ratios, floor=0.01)
    if kind == "latency" and last == "ideal":
        return Rule("size", "same", 1e-6)
    if kind == "latency" and last in _TIMES:
        better: Better = "higher" if last == "tokens_per_s" else "lower"
        return Rule("time", better, tolerance.times, floor=0.05 if better == "lower" else 0.0)
    if kind == "memory":
        return Rule("memory", "lower", tolerance.memory, floor=8 * _MEBIBYTE)
    if kind == "size":
        return _size(rest, gate)
    if kind == "quality":
        return _quality(name, metric, gate)
    if kind == "parity":
        return _parity(last, metric, gate)
    return Rule("told")


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a metric's name matches one of the patterns; `*` matches any text."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _size(rest: str, gate: Gate) -> Rule:
    what, _, variant = rest.rpartition(".")
    artifact = what.endswith(".bytes")  # `onnx.bytes`; the weights' own are plain `bytes`
    tolerance = gate.tolerance.files if artifact else gate.tolerance.size
    return Rule("size", "same" if variant == "dense" else "lower", tolerance)


def _quality(name: str, metric: Measurement, gate: Gate) -> Rule:
    floor = 1 / max(metric.samples, 1) if metric.unit == "fraction" else 0.0
    return Rule("quality", _direction(name, gate), gate.tolerance.quality, floor)


def _direction(name: str, gate: Gate) -> Better:
    if matches(name, gate.lower_is_better):
        return "lower"
    if matches(name, gate.higher_is_better):
        return "higher"
    score = name.removeprefix("quality.").rpartition(".")[0]
    metric = metric_of(score).partition(",")[0]
    if metric in _LOWER_SCORES:
        return "lower"
    return "higher" if metric in _HIGHER_SCORES else "same"


def _parity(last: str, metric: Measurement, gate: Gate) -> Rule:
    if last in ("max_abs_error", "mean_abs_error"):
        # An error within the run's tolerance is rounding, which differs between builds.
        allowed = metric.conditions.get("tolerance")
        known = isinstance(allowed, int | float) and not isinstance(allowed, bool)
        room = max(float(allowed) - metric.value, 0.0) if known else 0.0  # type: ignore[arg-type]
        return Rule("parity", "lower", 3.0, floor=room)
    if last == "kl_mean":
        return Rule("parity", "lower", 9.0, floor=1e-6)
    if metric.unit == "fraction":
        return Rule("parity", "higher", gate.tolerance.agreement)
    return Rule("told")
