"""A preset is what it says, and anything a recipe says goes before it."""

import pytest
import yaml

from numprune_export.recipe import dump, load, parse

MINIMAL = {
    "version": 1,
    "model": "some/model",
    "calibration": {"texts": ["a.txt"]},
    "evaluation": {"texts": ["b.txt"]},
}
METHODS = {
    "best": ("fisher_obs", "curves", "closed_form"),
    "fast": ("wanda", "global", "closed_form"),
    "paper-numerical": ("numerical", "global", "closed_form"),
    "paper-fisher": ("fisher", "search", "scalar"),
}


def recipe(**changes):
    return parse(MINIMAL | changes, "r")


def methods(settings):
    return settings.score.method, settings.allocate.method, settings.compensate.method


@pytest.mark.parametrize("name", METHODS)
def test_a_preset_fills_what_the_recipe_leaves_out(name):
    assert methods(recipe(method=name)) == METHODS[name]


def test_without_a_preset_the_defaults_stand():
    assert methods(recipe()) == methods(parse(dict(MINIMAL), "r"))


def test_a_section_of_the_recipe_goes_before_the_preset():
    settings = recipe(method="best", score="flap", rounds=3)
    assert methods(settings) == ("flap", "curves", "closed_form")
    assert settings.rounds == 3


def test_a_setting_of_the_recipe_changes_that_setting_alone():
    settings = recipe(method="best", allocate={"attention": 2.0}, score={"damping": 0.1})
    assert (settings.allocate.attention, settings.score.damping) == (2.0, 0.1)
    assert methods(settings) == METHODS["best"]
    assert not settings.score.centred


def test_labelled_examples_choose_what_is_best_for_encoders():
    texts = {"calibration": {"files": ["a.jsonl"]}, "evaluation": {"files": ["b.jsonl"]}}
    settings = recipe(method="best", keep=0.5, **texts)
    assert methods(settings) == METHODS["best"]
    assert (settings.allocate.cost, settings.allocate.candidates) == ("macs", (1.0,))
    assert (settings.compensate.order, settings.compensate.affine, settings.rounds) == (
        "one_shot",
        True,
        1,
    )
    assert recipe(method="paper-fisher", **texts).compensate.method == "scalar"


def test_the_best_repair_reads_text_of_the_models_own():
    own = recipe(method="best").generated_text
    assert (own.sequences, own.learning) == (32, 8)
    none = recipe(method="best", generated_text=0).generated_text
    assert (none.sequences, none.temperature) == (0, own.temperature)
    bolder = recipe(method="best", generated_text={"temperature": 1.0}).generated_text
    assert (bolder.sequences, bolder.temperature) == (32, 1.0)


@pytest.mark.parametrize("name", METHODS)
def test_a_resolved_recipe_is_the_same_recipe(name, tmp_path):
    settings = recipe(method=name, keep=0.5)
    path = tmp_path / "resolved.yaml"
    path.write_text(dump(settings))
    assert load(path) == settings


def test_set_reaches_into_a_preset(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(MINIMAL | {"method": "best"}))
    settings = load(path, ["score.step=8", "allocate.align_to=16"])
    assert (settings.score.step, settings.allocate.align_to) == (8, 16)
    assert methods(settings) == METHODS["best"]


@pytest.mark.parametrize("first", [True, False])
def test_a_preset_that_is_set_takes_the_place_of_the_recipes_own_sections(tmp_path, first):
    path = tmp_path / "r.yaml"
    path.write_text(dump(recipe(score="fisher", allocate="search", compensate="refit", rounds=1)))
    changes = ["allocate.cost=macs", "keep=0.5"]
    settings = load(path, ["method=best", *changes] if first else [*changes, "method=best"])
    assert methods(settings) == METHODS["best"]
    assert (settings.allocate.cost, settings.rounds, settings.query_heads) == ("macs", 1, "single")
