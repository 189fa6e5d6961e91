"""What the Hugging Face hub reads of a model card: the YAML at its head."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from numprune_export.report.schema import Measurement, Report
from numprune_export.report.verdict import score_name, scores

_PIPELINES = {
    "ForCausalLM": "text-generation",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
}
_STAGE = "pruned"


def pipeline_tag(architecture: str) -> str:
    """
    >>> pipeline_tag("NumpruneLlamaForCausalLM")
    'text-generation'
    """
    return next(tag for end, tag in _PIPELINES.items() if architecture.endswith(end))


def metadata(
    report: Report, config: Mapping[str, Any], licence: Mapping[str, str]
) -> ModelCardData:
    """Only what is known: the parent if it came from the hub, its licence if its files say it, and
    scores that were measured on the pruned weights.

    Args:
        report: Of the run.
        config: config.json of the pruned folder.
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
    """The names of the files, or of the dataset, that a section of a recipe draws from."""
    content = recipe[section]
    if content.get("dataset"):
        found = content["dataset"]
        return str(found if isinstance(found, str) else found.get("id", found))
    files = content.get("texts") or content.get("files") or ()
    return ", ".join(PurePosixPath(str(one)).name for one in files)


def _results(report: Report, task: str) -> Iterator[EvalResult]:
    held_out = texts(report.recipe, "evaluation")
    for score, by in scores(report.metrics).items():
        one = by.get(_STAGE)
        if one is None or not math.isfinite(one.value):
            continue
        yield _result(one, task, held_out, score)


def _result(one: Measurement, task: str, held_out: str, score: str) -> EvalResult:
    *asked, metric = score.removeprefix("lm_eval.").split(".")
    return EvalResult(
        task_type=task,
        dataset_type=asked[0] if asked else "text",
        dataset_name=f"lm-eval: {asked[0]}" if asked else held_out,
        metric_type=metric,
        metric_name=f"{score_name(score)}, {one.unit}",
        metric_value=one.value,
    )
