"""What a new report keeps of the old one, on this machine and on another."""

from datetime import datetime, timezone
from pathlib import Path

import pytest
from report import sample
from small import small_recipe

from numprune_export import recipe as recipes
from numprune_export.core.metric import Metric
from numprune_export.measure.environment import describe
from numprune_export.report.verdict import summarize
from numprune_export.workflows.remeasure import new_report

TIMED = {"latency.onnx.decode.speedup": Metric(2.0, "ratio", 20, 1.9, 2.1)}


@pytest.fixture(scope="module")
def here():
    return describe()


@pytest.fixture
def recipe(tmp_path):
    return recipes.load(small_recipe(tmp_path))


@pytest.fixture
def make(recipe):
    def call(environment, **given):
        old = sample.report().model_copy(
            update={"environment": environment, "not_run": {"trt": "no GPU"}}
        )
        return old, new_report.new_report(old, recipe, TIMED, ["latency", "memory"], **given)

    return call


def test_on_the_same_machine_what_was_not_measured_is_carried_over(make, here):
    old, new = make(here)
    kept = {name for name in old.metrics if not name.startswith(("latency.", "memory."))}
    assert set(new.metrics) == kept | set(TIMED)
    assert all(new.metrics[name] == old.metrics[name] for name in kept)
    assert new.metrics["latency.onnx.decode.speedup"].value == 2.0
    assert new.warnings == (
        "Measured now: latency, memory. Carried over from 2026-11-22 05:30 UTC:"
        " size, quality, parity, time.",
    )


@pytest.mark.parametrize(
    "change",
    [
        {"machine": "arm64"},
        {"cpu": "another"},
        {"usable_cores": 999},
        {"memory_bytes": 1},
        {"packages": {"torch": "0"}},
    ],
)
def test_on_another_machine_it_is_left_out_and_said(make, here, change):
    _, new = make(here.model_copy(update=change))
    assert set(new.metrics) == set(TIMED)
    assert "Left out, because machine or packages" in new.warnings[0]
    assert new.environment == here


def test_the_verdict_the_recipe_and_what_is_missing_are_of_now(make, here, recipe):
    old, new = make(
        here, warnings=["busy"], not_run={"torch": "no dense model"}, samples={"a": (1.0, 2.0)}
    )
    assert new.not_run == {"trt": "no GPU", "torch": "no dense model"}
    assert new.summary == summarize(new.metrics, new.not_run) != old.summary
    assert new.recipe["keep"] == recipe.keep
    assert new.warnings[1:] == ("busy",)
    assert new.latency_samples == {"a": (1.0, 2.0)}
    assert new.created > old.created
    assert (new.plan, new.recipe_name) == (old.plan, old.recipe_name)


def test_it_lies_beside_the_old_one_by_its_time(make, here):
    _, new = make(here)
    new = new.model_copy(update={"created": datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)})
    place = new_report.place_of(Path("run"), None, new)
    assert place == Path("run/report-20260102T030405Z.json")
    assert new_report.place_of(Path("run"), Path("there.json"), new) == Path("there.json")
