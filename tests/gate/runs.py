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
    found = sample.report()
    metrics = {name: _in_sessions(name, one) for name, one in found.metrics.items()}
    own = {"recipe": RECIPE, "dense_sha256": "d" * 64, "evaluation_sha256": "e" * 64}
    return found.model_copy(update={"metrics": metrics, **own, **changes})


def evidence(**changes: Any) -> Evidence:
    return Evidence.of(report(**changes))


def with_metric(name: str, **changes: Any) -> Evidence:
    """The same evidence, one metric changed in these fields."""
    found = evidence()
    one = found.metrics[name].model_copy(update=changes)
    return found.model_copy(update={"metrics": {**found.metrics, name: one}})


def without(name: str) -> Evidence:
    found = evidence()
    kept = {key: one for key, one in found.metrics.items() if key != name}
    return found.model_copy(update={"metrics": kept})


def with_environment(**changes: Any) -> Evidence:
    found = evidence()
    environment = found.environment.model_copy(update=changes)
    return found.model_copy(update={"environment": environment})


def with_recipe(section: str, **changes: Any) -> Evidence:
    found = evidence()
    recipe = {**found.recipe, section: {**found.recipe[section], **changes}}
    return found.model_copy(update={"recipe": recipe})


def _in_sessions(name: str, one: Measurement) -> Measurement:
    if not name.startswith("latency."):
        return one
    conditions = {**one.conditions, "device": "cpu", "threads": 1, "sessions": 6}
    return one.model_copy(update={"samples": 24, "conditions": conditions})
