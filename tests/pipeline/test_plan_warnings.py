"""What is said of a plan that somebody edited, or that a score emptied."""

import pytest
from small import small_recipe

from numprune_export import recipe as recipes
from numprune_export.models.site import Producer
from numprune_export.pipeline.stages.plan_warnings import plan_warnings
from numprune_export.pruning.plan import Plan, Site

SITES = tuple(
    Site(block, "mlp", 4, (Producer("up", 1),), "down", 1, 9, may_be_empty=True) for block in (0, 1)
)
EMPTIED = Plan(SITES, {SITES[0].name: (), SITES[1].name: (0, 1, 2)})
THIN = Plan(SITES, {SITES[0].name: (3,), SITES[1].name: (0, 1, 2)})


@pytest.mark.parametrize(
    ("score", "plan", "edited", "said"),
    [
        ("wanda", EMPTIED, False, ["1 of 2 sublayers lost all their units by `score: wanda`"]),
        ("fisher_obs", EMPTIED, False, []),
        ("wanda", THIN, False, []),
        ("wanda", EMPTIED, True, ["edited by hand: it keeps 0.375 of the prunable parameters"]),
        ("fisher_obs", THIN, True, ["edited by hand: it keeps 0.5 of the prunable parameters"]),
    ],
)
def test_warnings_of_a_plan(tmp_path, score, plan, edited, said):
    recipe = recipes.load(small_recipe(tmp_path, score=score))
    warnings = list(plan_warnings(recipe, plan, edited=edited))
    assert len(warnings) == len(said)
    for warning, words in zip(warnings, said, strict=True):
        assert words in warning
