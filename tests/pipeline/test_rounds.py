"""Recipes of error curves, single query heads and several rounds, through the whole chain."""

import json

import pytest
from command import command
from small import small_recipe

import numprune_export
from numprune_export.core.errors import RecipeError
from numprune_export.pruning.plan import Plan
from numprune_export.recipe import load

CURVES = {
    "keep": 0.5,
    "targets": {},
    "query_heads": "single",
    "score": {"method": "fisher_obs", "sequences": 8},
    "allocate": {"method": "curves", "attention": [1, 2], "align_to": 4},
    "compensate": {"method": "closed_form", "affine": True},
    "rounds": 2,
    "generated_text": {"sequences": 4, "for_gradients": 1.0},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    place = tmp_path_factory.mktemp("rounds")
    recipe = small_recipe(place, **CURVES)
    done = command("run", recipe, "--out", place / "run")
    assert done.code == 0, done.err
    return place


def plan_of(folder):
    return Plan.from_json(json.loads((folder / "plan.json").read_text()))


@pytest.mark.slow
def test_the_plan_is_of_the_dense_model_and_meets_the_budget(run):
    plan, first = plan_of(run / "run" / "plan"), plan_of(run / "run" / "plan-1")
    assert plan.sites == first.sites
    assert 0.48 < plan.keep <= 0.5
    assert 0.69 < first.keep <= 0.5**0.5
    assert all(set(plan.kept[site.name]) <= set(first.kept[site.name]) for site in plan.sites)
    widths = [len(plan.kept[site.name]) for site in plan.sites if site.kind == "mlp"]
    assert all(width % 4 == 0 for width in widths)


def test_the_second_round_is_calibrated_on_what_the_first_left(run):
    key = "layers.1.attention.tokens"
    both = [run / "run" / name / "block_001.safetensors" for name in ("statistics", "statistics-2")]
    from safetensors.torch import load_file

    first, second = (load_file(path) for path in both)
    assert first[key] == second[key]
    size = len(first["layers.1.mlp.total"]), len(second["layers.1.mlp.total"])
    assert size[1] < size[0]


def test_the_model_writes_text_and_its_moments_are_of_the_given_text(run):
    from safetensors.numpy import load_file

    written = load_file(run / "run" / "self_text" / "windows.safetensors")["tokens"]
    statistics = load_file(run / "run" / "statistics" / "block_000.safetensors")
    recipe = load(run / "small.yaml")
    each = recipe.calibration.tokens_per_sequence
    assert written.shape == (4, each)
    tokens = recipe.calibration.sequences * each
    assert statistics["layers.0.mlp.tokens"] == tokens
    made = json.loads((run / "run" / "model" / "config.json").read_text())
    assert made["numprune"]["method"]["generated_text"]["sequences"] == 4


def test_the_saved_model_has_the_groups_of_the_plan(run):
    model, plan = numprune_export.load(run / "run" / "model"), plan_of(run / "run" / "plan")
    for block, site in zip(
        model.model.layers,
        (candidate for candidate in plan.sites if candidate.kind == "attention"),
        strict=True,
    ):
        sizes = [len(units) for _, units in site.members(plan.kept[site.name])]
        assert block.self_attn.k_proj.out_features == len(sizes) * block.self_attn.head_dim
        assert block.self_attn.q_proj.out_features == sum(sizes) * block.self_attn.head_dim
    assert model.model.layers[0].mlp.down_proj.bias is not None


def test_the_report_has_every_divergence_and_takes_the_least(run):
    metrics = json.loads((run / "run" / "report.json").read_text())["metrics"]
    tried = {
        weight: metrics[f"allocation.divergence.attention_{weight}x"]["value"] for weight in (1, 2)
    }
    assert metrics["allocation.attention_weight"]["value"] == min(tried, key=tried.get)
    assert all(0 < value < 5 for value in tried.values())
    report = (run / "run" / "report.md").read_text()
    assert "## Allocation" in report
    assert f"{tried[1]:.4g}" in report


def test_the_same_command_finds_every_stage(run):
    again = command("run", run / "small.yaml", "--out", run / "run")
    assert again.code == 0, again.err
    log = (run / "run" / "log").read_text()
    assert "calibrate-2: found" in log
    assert "prune: found" in log


def test_what_was_learned_of_the_dense_model_serves_any_budget(run):
    before = (run / "run" / "log").read_text()
    done = command("run", run / "small.yaml", "--out", run / "run", "--set", "keep=0.6",
        "--set", "rounds=1")  # fmt: skip
    assert done.code == 0, done.err
    log = (run / "run" / "log").read_text()[len(before) :]
    assert all(f" {name}: found" in log for name in ("calibrate", "gradients", "score"))
    assert " allocate: made" in log


def test_another_repair_redoes_no_calibration(run):
    before = (run / "run" / "log").read_text()
    again = command(
        "run", run / "small.yaml", "--out", run / "run", "--set", "compensate.damping=0.02",
        "--set", "allocate.attention=1",
    )  # fmt: skip
    assert again.code == 0, again.err
    assert "calibrate: made" not in (run / "run" / "log").read_text()[len(before) :]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"allocate": "search", "rounds": 2}, "`rounds` above 1 need"),
        ({"allocate": "search", "score": "fisher_obs"}, "`score: fisher_obs` needs"),
        ({"allocate": "search", "score": "magnitude"}, "would empty whole layers"),
        ({"allocate": "latency", "score": "wanda"}, "would empty whole layers"),
        ({"allocate": {"method": "latency", "target": "trt"}, "score": "fisher"}, "not one of the"),
        (
            {"allocate": {"method": "curves", "cost": "milliseconds"}, "rounds": 2},
            "supports one round only",
        ),
        (
            {"allocate": {"method": "curves", "timing": {"batch": 8}}},
            "`timing` needs `cost: milliseconds`",
        ),
        ({"method": "bests"}, "`method`: must be one of `best`, `best.recover`, `fast`"),
    ],
)
def test_what_does_not_go_together_is_said(changes, what, tmp_path):
    with pytest.raises(RecipeError, match=what):
        load(small_recipe(tmp_path, **changes))


def test_milliseconds_of_a_language_model_are_refused(tmp_path):
    recipe = small_recipe(
        tmp_path, score="fisher_obs", allocate={"method": "curves", "cost": "milliseconds"}
    )
    done = command("run", recipe, "--out", tmp_path / "run")
    assert done.code == 2, done.err
    assert "supported for encoders only" in done.err


def test_the_exact_search_refuses_single_query_heads(tmp_path):
    search = {"method": "search", "min_keep": 0.1}
    recipe = small_recipe(tmp_path, query_heads="single", allocate=search, score="wanda")
    done = command("run", recipe, "--out", tmp_path / "run")
    assert done.code == 2, done.err
    assert "query_heads: grouped" in done.err
