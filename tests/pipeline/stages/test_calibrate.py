"""Moments are gathered exactly where a score, a repair, a trial or a later round reads them."""

import pytest

from numprune_export.pipeline.stages.calibrate import reads_moments, rereads_moments
from numprune_export.recipe import parse

TEXTS = {"calibration": {"texts": ["a.txt"]}, "evaluation": {"texts": ["b.txt"]}}
ONE_SHOT = {"method": "closed_form", "order": "one_shot"}
SEQUENTIAL = {"method": "closed_form", "order": "sequential"}


def reads(**changes):
    content = {"version": 1, "model": "some/model", "score": "magnitude", **TEXTS}
    return reads_moments(parse(content | {"compensate": "none"} | changes, "r"))


def test_a_score_by_weights_alone_and_no_repair_read_none():
    assert not reads()
    assert not reads(score="random")


@pytest.mark.parametrize("score", ["wanda", "numerical", "flap", "stat"])
def test_scores_of_activations_read_them(score):
    assert reads(score=score)


@pytest.mark.parametrize("metric", ["fisher", "identity"])
def test_brain_surgeons_read_them(metric):
    allocate = {"method": "curves", "attention": 1.0}
    assert reads(score={"method": "fisher_obs", "metric": metric}, allocate=allocate)


@pytest.mark.parametrize("repair", [ONE_SHOT, "bias"])
def test_a_repair_by_the_dense_models_own_reads_them(repair):
    assert reads(compensate=repair)


@pytest.mark.parametrize(("sequences", "wanted"), [(4, False), (0, True)])
def test_a_repair_on_more_text_has_moments_of_its_own(sequences, wanted):
    assert reads(compensate=ONE_SHOT, generated_text=sequences) == wanted


@pytest.mark.parametrize("repair", [SEQUENTIAL, {"method": "bias", "order": "sequential"}])
def test_a_repair_on_the_pruned_prefix_gathers_its_own(repair):
    assert not reads(compensate=repair)


def test_plans_that_are_tried_out_and_rounds_are_refitted_at_once():
    assert reads(allocate={"method": "curves", "attention": [1.0, 2.0]})
    assert not reads(allocate={"method": "curves", "attention": 1.0})
    assert reads(rounds=2)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"method": "paper-numerical"}, False),
        ({"method": "best"}, True),
        ({"method": "best", "allocate": {"attention": 1.0}}, False),
        ({"method": "fast"}, True),
        ({"method": "fast", "generated_text": 4}, False),
        ({"score": "stat", "compensate": "none"}, False),
        ({"method": "paper-numerical", "rounds": 2}, True),
    ],
)
def test_they_are_stored_where_a_step_after_the_score_reads_them(changes, wanted):
    recipe = parse({"version": 1, "model": "some/model", **TEXTS, **changes}, "r")
    assert rereads_moments(recipe) == wanted
