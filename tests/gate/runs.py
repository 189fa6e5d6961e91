"""Reports to judge: one of everything, and the same with something changed."""

from typing import Any

from report import sample

from numprune_export.gate.evidence import Evidence
from numprune_export.report.schema import Measurement, Report

RECIPE = {
    "version": 1,
    "model": {"source": "some-model", "revision": None, "dtype": "float32"},
    "keep": 0.8,
    "evaluation": {"texts": ["data/some.txt"], "sequences": 16},
    "parity": {"tolerance": 1e-4, "steps": 32, "bisect": True},
    "benchmark": {"prefill": 128, "samples": 24, "sessions": 6, "threads": 1, "seed": 0},
    "targets": {"onnx": {}},
}


def report(**changes: Any) -> Report:
    """The sample report as a run of several sessions writes it."""
    original = sample.report()
    metrics = {name: _in_sessions(name, metric) for name, metric in original.metrics.items()}
    own = {"recipe": RECIPE, "dense_sha256": "d" * 64, "evaluation_sha256": "e" * 64}
    return original.model_copy(update={"metrics": metrics, **own, **changes})


def evidence(**changes: Any) -> Evidence:
    return Evidence.of(report(**changes))


def with_metric(name: str, **changes: Any) -> Evidence:
    """The same evidence, one metric changed in these fields."""
    original = evidence()
    metric = original.metrics[name].model_copy(update=changes)
    return original.model_copy(update={"metrics": {**original.metrics, name: metric}})


def without(name: str) -> Evidence:
    original = evidence()
    kept = {key: metric for key, metric in original.metrics.items() if key != name}
    return original.model_copy(update={"metrics": kept})


def with_environment(**changes: Any) -> Evidence:
    original = evidence()
    environment = original.environment.model_copy(update=changes)
    return original.model_copy(update={"environment": environment})


def with_recipe(section: str, **changes: Any) -> Evidence:
    original = evidence()
    recipe = {**original.recipe, section: {**original.recipe[section], **changes}}
    return original.model_copy(update={"recipe": recipe})


def _in_sessions(name: str, metric: Measurement) -> Measurement:
    if not name.startswith("latency."):
        return metric
    conditions = {**metric.conditions, "device": "cpu", "threads": 1, "sessions": 6}
    return metric.model_copy(update={"samples": 24, "conditions": conditions})
