"""Scores of an open decoder on loaded tasks, as metrics with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from numprune_export.core.metric import Metric, Metrics
from numprune_export.core.progress import Observer
from numprune_export.core.run_folder import key_of
from numprune_export.export.runner import DecoderRunner
from numprune_export.measure.quality.lm_eval.loading import LoadedTasks
from numprune_export.measure.quality.lm_eval.settings import Tasks
from numprune_export.measure.quality.lm_eval.silence import silence

LONGEST = 2048
PREFIX = "lm_eval"
_Z95 = 1.959963984540054
_RESAMPLES = 1000
"""For scores whose standard error has no closed form."""
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
    """Tokens that are seen at once: what a runner's capacity must hold."""
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
    """Ask all tasks.

    Args:
        runner: Open, with a capacity of at least `longest`.
        longest: Tokens seen at once.
        conditions: What else the numbers depend on.
        observer: Told of requests: how many come, each time some come, and how many were done.

    Returns:
        `lm_eval.<task>.<metric>`, with a 95 % normal interval where lm-eval gives a standard error.

    Raises:
        RecipeError: a task asks for what cannot be compared between runtimes.
        NumericalError: the model gives NaN or infinite logits.
    """
    # Not its `simple_evaluate`, which seeds every generator there is and asks pip for all versions.
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
        found = lm_eval_evaluate(
            model,
            loaded.content,
            limit=settings.limit,
            bootstrap_iters=_RESAMPLES,
            log_samples=False,
        )
    under = {"max_length": longest, "batch": settings.batch, "limit": settings.limit, **conditions}
    under["tasks_sha256"] = key_of(*loaded.key)
    return _metrics(found, under)


def _metrics(found: Mapping[str, Any], under: Mapping[str, Any]) -> Metrics:
    metrics: Metrics = {}
    for task, row in found["results"].items():
        for key, value in row.items():
            name, _, filtered = key.partition(",")
            if not filtered or name.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = row.get(f"{name}_stderr,{filtered}")
            label = name if filtered == "none" else f"{name}_{filtered}"
            path = ".".join(part.replace(".", "_") for part in (task, label))
            told = {**under, **_of_task(found, task, name)}
            metrics[f"{PREFIX}.{path}"] = _metric(value, error, name, _samples(found, task), told)
    return metrics


def _metric(value: float, error: Any, name: str, samples: int, under: Mapping[str, Any]) -> Metric:
    low = high = None
    if isinstance(error, int | float) and math.isfinite(error):
        low, high = value - _Z95 * error, value + _Z95 * error
    return Metric(float(value), _UNITS.get(name, "score"), samples, low, high, dict(under))


def _of_task(found: Mapping[str, Any], task: str, metric: str) -> dict[str, Any]:
    """Which version of the task, with how many examples before the question, and which way is up."""
    told = {
        "task_version": found["versions"].get(task),
        "fewshot": found["n-shot"].get(task),
        "higher_is_better": found["higher_is_better"].get(task, {}).get(metric),
    }
    return {key: one for key, one in told.items() if one is not None}


def _samples(found: Mapping[str, Any], task: str) -> int:
    """Examples asked; of a group, of all its tasks."""
    counted = found["n-samples"]
    if task in counted:
        return int(counted[task]["effective"])
    members = found["group_subtasks"].get(task, [])
    return sum(_samples(found, member) for member in members)
