"""What a sweep is made of is checked before anything is run."""

import pytest
from small import small_recipe

from numprune_export.core.errors import RecipeError
from numprune_export.workflows.sweep.points import Axes, keeps, points, words


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return str(small_recipe(tmp_path_factory.mktemp("points")))


def test_every_combination_is_a_point_with_a_name_of_its_own(small):
    name, found = points(small, Axes((0.9, 0.5), ("wanda", "flap")), ["seed=3"], ["onnx"])
    assert name == "small"
    assert [one.name for one in found] == [
        "wanda-keep0.9", "wanda-keep0.5", "flap-keep0.9", "flap-keep0.5",
    ]  # fmt: skip
    assert [(one.recipe.score.method, one.recipe.keep) for one in found] == [
        ("wanda", 0.9), ("wanda", 0.5), ("flap", 0.9), ("flap", 0.5),
    ]  # fmt: skip
    assert all(one.recipe.seed == 3 and set(one.recipe.targets) == {"onnx"} for one in found)
    assert all(folder.is_absolute() for one in found for folder in one.search)


def test_presets_are_swept_with_what_they_compose(small):
    heads = Axes((0.5,), (), (), ("grouped", "single"))
    _, found = points(small, heads, [], [])
    assert [one.name for one in found] == ["grouped-keep0.5", "single-keep0.5"]
    assert [one.recipe.query_heads for one in found] == ["grouped", "single"]
    _, found = points(small, Axes((0.5,), (), ("best", "fast")), [], [])
    assert [one.recipe.score.method for one in found] == ["fisher_obs", "wanda"]
    assert [one.name for one in found] == ["best-keep0.5", "fast-keep0.5"]


@pytest.mark.parametrize(
    "text", ["", "0.9,", "0.9,x", "0", "1.1", "-0.5", "nan", "inf", "0.9,0.90", "80%"]
)
def test_wrong_fractions_are_refused(text):
    with pytest.raises(RecipeError, match="--keep"):
        keeps(text)


@pytest.mark.parametrize("text", ["", "wanda,", "wanda,wanda"])
def test_wrong_names_are_refused(text):
    with pytest.raises(RecipeError, match="--score"):
        words("--score", text)


def test_an_unknown_score_is_refused_by_the_recipe(small):
    with pytest.raises(RecipeError, match="wando"):
        points(small, Axes((0.9,), ("wando",)), [], [])


def test_a_fixed_budget_cannot_be_swept(small):
    fixed = ["allocate.method=latency", "allocate.milliseconds=5"]
    with pytest.raises(RecipeError, match="`5` milliseconds: `--keep` does not change"):
        points("smoke-bert", Axes((0.9,)), fixed, [])
