"""How many of the calibration's tokens a score reads."""

import json

import pytest
from safetensors.torch import load_file
from small import pruned_alone, small_recipe

from numprune_export.pruning.plan import Plan
from numprune_export.recipe import builtin_dir

LENGTH = 64


@pytest.mark.parametrize("per_input", [9, 11])
def test_every_second_token_is_read_where_that_leaves_enough(per_input, tmp_path):
    width = 352
    sequences = 2 * per_input * width // LENGTH
    texts = {
        "texts": [str(builtin_dir() / "data" / "sotu_2011_2021.txt")],
        "sequences": sequences,
        "tokens_per_sequence": LENGTH,
    }
    score = {"method": "fisher_obs", "token_stride": 2, "metric": "identity"}
    repair = {"method": "closed_form", "order": "one_shot"}  # reads the statistics again
    recipe = small_recipe(tmp_path, calibration=texts, score=score, compensate=repair)
    pruned_alone(recipe, tmp_path / "run")
    plan = Plan.from_json(json.loads((tmp_path / "run/plan/plan.json").read_text()))
    assert max(site.inputs for site in plan.sites) == width
    statistics = load_file(tmp_path / "run/statistics/block_001.safetensors")
    every = 2 if per_input > 10 else 1
    assert int(statistics["layers.1.mlp.tokens"]) == sequences * LENGTH // every
