"""What a sweep is made of is checked before anything is run."""

import pytest
from small import small_recipe

from numprune_export.core.errors import RecipeError
from numprune_export.workflows.sweep.points import Axes, keeps, points, words


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return str(small_recipe(tmp_path_factory.mktemp("points")))


def test_every_combination_is_a_point_with_a_name_of_its_own(small):
    name, grid = points(small, Axes((0.9, 0.5), ("wanda", "flap")), ["seed=3"], ["onnx"])
    assert name == "small"
    assert [point.name for point in grid] == [
        "wanda-keep0.9", "wanda-keep0.5", "flap-keep0.9", "flap-keep0.5",
    ]  # fmt: skip
    assert [(point.recipe.score.method, point.recipe.keep) for point in grid] == [
        ("wanda", 0.9), ("wanda", 0.5), ("flap", 0.9), ("flap", 0.5),
    ]  # fmt: skip
    assert all(point.recipe.seed == 3 and set(point.recipe.targets) == {"onnx"} for point in grid)
    assert all(folder.is_absolute() for point in grid for folder in point.search)


def test_presets_are_swept_with_what_they_compose(small):
    heads = Axes((0.5,), (), (), ("grouped", "single"))
    _, grid = points(small, heads, [], [])
    assert [point.name for point in grid] == ["grouped-keep0.5", "single-keep0.5"]
    assert [point.recipe.query_heads for point in grid] == ["grouped", "single"]
    _, grid = points(small, Axes((0.5,), (), ("best", "fast")), [], [])
    assert [point.recipe.score.method for point in grid] == ["fisher_obs", "wanda"]
    assert [point.name for point in grid] == ["best-keep0.5", "fast-keep0.5"]


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
