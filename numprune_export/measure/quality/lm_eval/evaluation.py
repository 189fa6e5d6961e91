"""Evaluation of an open decoder on loaded lm-eval tasks, as metrics with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from numprune_export.core.metric import Metric, Metrics
from numprune_export.core.progress import Observer
from numprune_export.core.stage import key_of
from numprune_export.export.runner import DecoderRunner
from numprune_export.measure.quality.lm_eval.loading import LoadedTasks
from numprune_export.measure.quality.lm_eval.settings import Tasks
from numprune_export.measure.quality.lm_eval.silence import silence

LONGEST = 2048
PREFIX = "lm_eval"
_Z95 = 1.959963984540054
_RESAMPLES = 1000
"""Bootstrap resamples for scores whose standard error has no closed form."""
_UNITS = {
    "acc": "fraction",
    "acc_norm": "fraction",
    "exact_match": "fraction",
    "f1": "fraction",
    "perplexity": "perplexity per token",
    "word_perplexity": "perplexity per word",
    "byte_perplexity": "perplexity per byte",
    "bits_per_byte": "bits per byte",
}


def max_length(settings: Tasks, positions: int) -> int:
    """Maximum sequence length in tokens: the required capacity of a runner."""
    return min(settings.max_length or LONGEST, positions)


def evaluate(
    runner: DecoderRunner,
    tokenizer: Any,
    loaded: LoadedTasks,
    settings: Tasks,
    *,
    longest: int,
    conditions: Mapping[str, Any],
    observer: Observer,
) -> Metrics:
    """Evaluate the model on all tasks.

    Args:
        runner: Open, with a capacity of at least `longest`.
        longest: Maximum sequence length in tokens.
        conditions: Further conditions of the metrics.
        observer: Notified of the number of requests, as they are added and as they are done.

    Returns:
        `lm_eval.<task>.<metric>`, with a 95 % normal interval where lm-eval gives a standard error.

    Raises:
        RecipeError: a task uses sampling or needs longer sequences than `longest`.
        NumericalError: the model returns NaN or infinite logits.
    """
    # Not `simple_evaluate`, which seeds all random generators and queries pip for versions.
    from lm_eval.evaluator import evaluate as lm_eval_evaluate

    from numprune_export.measure.quality.lm_eval.language_model import RunnerLM

    model = RunnerLM(
        runner,
        tokenizer,
        max_length=longest,
        batch=settings.batch,
        expect=observer.expect,
        advance=observer.advance,
    )
    with silence():
        results = lm_eval_evaluate(
            model,
            loaded.content,
            limit=settings.limit,
            bootstrap_iters=_RESAMPLES,
            log_samples=False,
        )
    under = {"max_length": longest, "batch": settings.batch, "limit": settings.limit, **conditions}
    under["tasks_sha256"] = key_of(*loaded.key)
    return _metrics(results, under)


def _metrics(results: Mapping[str, Any], under: Mapping[str, Any]) -> Metrics:
    metrics: Metrics = {}
    for task, row in results["results"].items():
        for key, value in row.items():
            name, _, filtered = key.partition(",")
            if not filtered or name.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = row.get(f"{name}_stderr,{filtered}")
            label = name if filtered == "none" else f"{name}_{filtered}"
            path = ".".join(part.replace(".", "_") for part in (task, label))
            conditions = {**under, **_task_conditions(results, task, name)}
            metrics[f"{PREFIX}.{path}"] = _metric(
                value, error, name, _samples(results, task), conditions
            )
    return metrics


def _metric(value: float, error: Any, name: str, samples: int, under: Mapping[str, Any]) -> Metric:
    low = high = None
    if isinstance(error, int | float) and math.isfinite(error):
        low, high = value - _Z95 * error, value + _Z95 * error
    return Metric(float(value), _UNITS.get(name, "score"), samples, low, high, dict(under))


def _task_conditions(results: Mapping[str, Any], task: str, metric: str) -> dict[str, Any]:
    """Version of the task, number of few-shot examples, and direction of the metric."""
    values = {
        "task_version": results["versions"].get(task),
        "fewshot": results["n-shot"].get(task),
        "higher_is_better": results["higher_is_better"].get(task, {}).get(metric),
    }
    return {key: value for key, value in values.items() if value is not None}


def _samples(results: Mapping[str, Any], task: str) -> int:
    """Number of evaluated examples; of a group, the sum over its tasks."""
    counted = results["n-samples"]
    if task in counted:
        return int(counted[task]["effective"])
    members = results["group_subtasks"].get(task, [])
    return sum(_samples(results, member) for member in members)
