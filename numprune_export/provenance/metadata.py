"""The YAML metadata at the head of a model card, for the Hugging Face hub."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from numprune_export.report.schema import Measurement, Report
from numprune_export.report.verdict import RATIO, is_of_source, metric_of, score_name, scores

_PIPELINES = {
    "ForCausalLM": "text-generation",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
}
_STAGE = "pruned"


def pipeline_tag(architecture: str) -> str:
    """The hub's pipeline tag of an architecture.

    >>> pipeline_tag("NumpruneLlamaForCausalLM")
    'text-generation'
    """
    return next(tag for end, tag in _PIPELINES.items() if architecture.endswith(end))


def metadata(
    report: Report, config: Mapping[str, Any], licence: Mapping[str, str]
) -> ModelCardData:
    """The metadata, without unknown fields: the parent only if it came from the hub, the licence
    only if stated, and only scores measured on the pruned weights.

    Args:
        report: Report of the run.
        config: config.json of the pruned model folder.
        licence: See `licence_of`.
    """
    parent, tag = config["numprune"]["parent"], pipeline_tag(config["architectures"][0])
    results = list(_results(report, tag))
    known: dict[str, Any] = {
        "base_model": parent["reference"] if parent["revision"] is not None else None,
        "library_name": "transformers",
        "pipeline_tag": tag,
        "tags": ["numprune-export", "pruned", *(["custom_code"] if "auto_map" in config else [])],
        "model_name": report.recipe_name if results else None,
        "eval_results": results or None,
        **licence,
    }
    return ModelCardData(**known)


def texts(recipe: Mapping[str, Any], section: str) -> str:
    """Names of the files, or of the dataset, that a recipe section uses."""
    content = recipe[section]
    if content.get("mix"):
        return "; ".join(_texts(source) for source in content["mix"])
    return _texts(content)


def _texts(content: Mapping[str, Any]) -> str:
    if content.get("dataset"):
        dataset = content["dataset"]
        return str(dataset if isinstance(dataset, str) else dataset.get("id", dataset))
    files = content.get("texts") or content.get("files") or ()
    return ", ".join(PurePosixPath(str(file)).name for file in files)


def _results(report: Report, task: str) -> Iterator[EvalResult]:
    held_out = texts(report.recipe, "evaluation")
    for score, by in scores(report.metrics).items():
        measurement = by.get(_STAGE)
        if measurement is None or metric_of(score) == RATIO or not math.isfinite(measurement.value):
            continue
        yield _result(measurement, task, held_out, score)


def _result(measurement: Measurement, task: str, held_out: str, score: str) -> EvalResult:
    metric = metric_of(score)
    source = score.removeprefix(f"{metric}.") if is_of_source(score) else None
    asked = [] if source else score.removeprefix("lm_eval.").split(".")[:-1]
    return EvalResult(
        task_type=task,
        dataset_type=asked[0] if asked else "text",
        dataset_name=f"lm-eval: {asked[0]}" if asked else source or held_out,
        dataset_config=source,  # results of the same type and configuration are merged
        metric_type=metric,
        metric_name=f"{score_name(score)}, {measurement.unit}",
        metric_value=measurement.value,
    )
