"""Perplexity of several text sources, each by itself, and its ratio to that of the dense model.

Both models are scored on the same windows, so the interval of a ratio is over the differences of
their windows: the difficulty of a window cancels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from numprune_export.core.metric import Metric, Metrics
from numprune_export.export.runner import DecoderRunner, Tokens
from numprune_export.measure.quality.paired_change import Scores
from numprune_export.measure.quality.perplexity import (
    Z95,
    exp,
    interval,
    of_windows,
    standard_error,
    window_nats,
)
from numprune_export.measure.reference.streamed import StreamedLm
from numprune_export.numerics.divergence import Float64

PERPLEXITY = "perplexity"
RATIO = "perplexity_ratio"


def source_scores(
    runner: DecoderRunner | StreamedLm,
    sources: Mapping[str, Tokens],
    *,
    batch: int,
    conditions: Mapping[str, Any] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Scores:
    """`perplexity.<source>` of every source, and the mean nats of its windows.

    Args:
        runner: An open model.
        sources: Windows by source, (windows, tokens); all of one width.
        batch: Windows per forward pass.
        conditions: Further conditions of the metrics.
        progress: Called with the number of windows just done.

    Raises:
        InputError, NumericalError: as `perplexity`.
    """
    # In one go: a streamed model reads its blocks once.
    nats = window_nats(runner, np.concatenate([*sources.values()]), batch=batch, progress=progress)
    ends = np.cumsum([len(windows) for windows in sources.values()])
    parts = dict(zip(sources, np.split(nats, ends[:-1]), strict=True))
    metrics = {}
    for name, windows in sources.items():
        under = {"tokens_per_window": windows.shape[1], "batch": batch, **(conditions or {})}
        metrics[f"{PERPLEXITY}.{name}"] = of_windows(parts[name], windows.shape[1], under)
    return Scores(metrics, nats=parts)


def ratios(after: Scores, dense: Scores) -> Metrics:
    """`perplexity_ratio.<source>`, `.mean` and `.worst`: perplexity relative to the dense model's.

    `mean` is the geometric mean of the ratios of all sources, each of equal weight; `worst` the
    largest ratio, with the source's name as the condition `worst`. Intervals are 95 % normal
    intervals of the mean difference in nats, mapped through exp; absent if a source has a single
    window. Empty if either model was scored on a single text.
    """
    differences = {
        name: nats - dense.nats[name] for name, nats in after.nats.items() if name in dense.nats
    }
    if not differences:
        return {}
    metrics = {
        name: _ratio(after.metrics[f"{PERPLEXITY}.{name}"], difference)
        for name, difference in differences.items()
    }
    worst = max(metrics, key=lambda name: metrics[name].value)
    own = metrics[worst]
    over = {"worst": worst, **own.conditions}
    return {
        **{f"{RATIO}.{name}": metric for name, metric in metrics.items()},
        f"{RATIO}.mean": _mean([*metrics.values()], [*differences.values()]),
        f"{RATIO}.worst": Metric(own.value, own.unit, own.samples, own.low, own.high, over),
    }


def _ratio(after: Metric, differences: Float64) -> Metric:
    low, high = interval(differences)
    value = exp(float(differences.mean()))
    return Metric(value, "ratio", after.samples, low, high, after.conditions)


def _mean(ratios: list[Metric], differences: list[Float64]) -> Metric:
    mean = float(np.mean([part.mean() for part in differences]))
    low = high = None
    if min(len(part) for part in differences) > 1:
        error = math.hypot(*(standard_error(part) for part in differences)) / len(differences)
        low, high = exp(mean - Z95 * error), exp(mean + Z95 * error)
    samples = sum(metric.samples for metric in ratios)
    under = {key: value for key, value in ratios[0].conditions.items() if key != "windows"}
    return Metric(exp(mean), "ratio", samples, low, high, {"sources": len(ratios), **under})
