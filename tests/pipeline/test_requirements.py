"""What cannot work is said from recipe, configuration and shapes: no weights are there at all."""

import re
from contextlib import nullcontext

import pytest
import torch
from small import small_recipe
from tiny import tiny_config
from tiny_encoder import tiny_encoder
from transformers import AutoModelForCausalLM

from numprune_export import recipe as recipes
from numprune_export.core import host_memory
from numprune_export.core.errors import DeviceError, RecipeError, UnsupportedModelError
from numprune_export.models.families import FAMILIES
from numprune_export.pipeline import notices
from numprune_export.pipeline.opening import check
from numprune_export.pipeline.requirements import require_possible
from numprune_export.recipe import Recipe

TEXTS = {"texts": ["a.txt"], "tokens_per_sequence": 64}
SHORT = {"prefill": 16, "past": 16, "decode_steps": 4}


def recipe(**changes):
    content = {
        "version": 1,
        "model": "m",
        "calibration": TEXTS,
        "evaluation": TEXTS,
        "benchmark": SHORT,
    }
    return Recipe.model_validate({**content, **changes})


def skeleton(model_type="llama", **config):
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(tiny_config(model_type, **config))


def ask(asked, model):
    family = FAMILIES[model.config.model_type]
    if asked.query_heads == "single":
        family = family.with_single_query_heads()
    require_possible(asked, family, model)


def test_a_plain_recipe_and_model_are_let_through():
    for method in ("best", "fast", "paper-numerical"):
        ask(recipe(method=method, targets={"onnx": {}, "onnx-cuda": {}}), skeleton())


@pytest.mark.parametrize(
    ("config", "what"),
    [
        (
            {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
            "rotary embedding `dynamic` depends on the sequence length",
        ),
        (
            {
                "rope_parameters": {
                    "rope_type": "longrope", "rope_theta": 1e4, "factor": 2.0,
                    "short_factor": [1.0] * 4, "long_factor": [2.0] * 4,
                    "original_max_position_embeddings": 64,
                }
            },
            "rotary embedding `longrope`",
        ),
        ({"hidden_act": "relu2"}, "activation `relu2` has no ONNX form"),
        ({"hidden_act": "quick_gelu"}, "activation `quick_gelu` has no ONNX form"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("target", ["onnx", "onnx-cuda", "trt", "trt-rtx"])
def test_what_no_target_can_express_is_refused_for_each(config, what, target):
    with pytest.raises(UnsupportedModelError, match=what):
        ask(recipe(targets={target: {}}), skeleton(**config))


@pytest.mark.parametrize(
    ("targets", "what"),
    [
        ({"onnx": {"graph": "fused"}}, "`fused` is a graph for encoders"),
        ({"onnx-cuda": {"graph": "gqa", "dtype": "float32"}}, "no kernel in float32 on CUDA"),
        ({"trt": {"decode": {"capacity": {"max": 4096}}}}, "is more than the model has positions"),
        ({"trt": {"decode": {"capacity": {"max": 32}}}}, "runs sequences of `64` tokens"),
    ],
)
def test_settings_of_a_target_that_do_not_fit_the_model(targets, what):
    with pytest.raises(RecipeError, match=what):
        ask(recipe(targets=targets), skeleton())


def test_heads_too_wide_for_a_kernel():
    model = skeleton(head_dim=264)
    with pytest.raises(UnsupportedModelError, match="heads are `264` wide"):
        ask(recipe(targets={"onnx-cuda": {}}), model)
    ask(recipe(targets={"onnx": {}}), model)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"evaluation": TEXTS | {"tokens_per_sequence": 129}}, "evaluation.tokens_per_sequence"),
        ({"calibration": TEXTS | {"tokens_per_sequence": 129}}, "calibration.tokens_per_sequence"),
        ({"benchmark": SHORT | {"prefill": 129}}, "benchmark.prefill"),
        ({"benchmark": SHORT | {"past": 125}}, "benchmark.past` and `decode_steps"),
    ],
)
def test_more_tokens_than_positions_are_refused_by_the_key_that_asks(changes, what):
    with pytest.raises(RecipeError, match=f"`{what}` asks for 129 tokens, but the model has 128"):
        ask(recipe(**changes), skeleton())


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"keep": 0.3, "allocate": {"min_keep": 0.5}}, "keep 0.3 cannot be met"),
        ({"keep": 0.3, "allocate": {"align_to": 96}}, "keep 0.3 cannot be met"),
        (
            {"keep": 0.3, "allocate": {"method": "curves", "min_keep": 0.5, "cost": "macs"}},
            "keep 0.3 cannot be met",
        ),
        ({"keep": 0.3, "allocate": {"method": "search", "min_keep": 0.5}}, "cannot be met"),
        (
            {"allocate": {"method": "search", "min_keep": 0.1}, "query_heads": "single"},
            "needs units of independent cost",
        ),
        (
            {"allocate": {"method": "latency", "min_keep": 0.1}},
            "latency budgets are supported for encoders only",
        ),
        (
            {"allocate": {"method": "curves", "cost": "milliseconds"}},
            "latency budgets are supported for encoders only",
        ),
    ],
)
def test_a_budget_that_no_scores_can_meet(changes, what):
    with pytest.raises(RecipeError, match=what):
        ask(recipe(**changes), skeleton())


EXAMPLES = {"files": ["a.jsonl"]}


@pytest.mark.parametrize(
    ("changes", "error", "what"),
    [
        ({"targets": {"trt": {}}}, UnsupportedModelError, "does not support encoders"),
        ({"targets": {"onnx": {"graph": "gqa"}}}, RecipeError, "a graph for decoders"),
        ({"benchmark": {"lengths": [512, 1024]}}, RecipeError, "benchmark.lengths"),
        ({"keep": 0.2, "allocate": {"min_keep": 0.9}}, RecipeError, "cannot be met"),
    ],
)
def test_an_encoder_is_asked_the_same_way(changes, error, what):
    asked = recipe(calibration=EXAMPLES, evaluation=EXAMPLES, **{"benchmark": {}, **changes})
    with pytest.raises(error, match=what):
        ask(asked, tiny_encoder("bert"))
    ask(recipe(calibration=EXAMPLES, evaluation=EXAMPLES, benchmark={}), tiny_encoder("bert"))


def test_an_activation_of_an_encoder_without_a_graph():
    with pytest.raises(UnsupportedModelError, match="activation `quick_gelu`"):
        ask(
            recipe(calibration=EXAMPLES, evaluation=EXAMPLES, benchmark={}),
            tiny_encoder("bert", hidden_act="quick_gelu"),
        )


@pytest.mark.parametrize(
    ("changes", "model", "what"),
    [
        ({"method": "fast"}, {}, "`compensate.affine: false` omits it"),
        ({"compensate": "bias"}, {}, "`closed_form` omits it"),
        ({"query_heads": "single"}, {}, "`query_heads: grouped` keeps them equal"),
        ({"method": "fast", "query_heads": "single"}, {}, "bias .*; KV heads may keep"),
        ({}, {}, None),
        ({"method": "fast", "compensate": {"affine": False}}, {}, None),
        ({"method": "fast"}, {"attention_bias": True, "mlp_bias": True}, None),
        ({"method": "fast"}, {"attention_bias": True}, "adds a bias to `mlp.down_proj`"),
    ],
)
def test_a_uniform_plan_that_will_be_no_stock_checkpoint_is_told_before(changes, model, what):
    asked = recipe(**changes, allocate={"method": "uniform"})
    told = notices.expected(asked, FAMILIES["llama"], skeleton(**model))
    assert (told == ()) == (what is None)
    if what is not None:
        assert re.search(what, *told)
    other = recipe(**changes, allocate={"method": "global"})
    assert notices.expected(other, FAMILIES["llama"], skeleton(**model)) == ()


@pytest.mark.parametrize("left", [3_500_000, 10_000_000])
def test_a_run_that_the_container_has_no_memory_for_is_refused(tmp_path, monkeypatch, left):
    """Although it has for the weights; before any are read."""
    monkeypatch.setattr(host_memory, "CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text(f"{9 * left}")
    (tmp_path / "memory.current").write_text(f"{8 * left}")
    given = recipes.load(small_recipe(tmp_path, device="cpu", stream_weights=False, targets={}))
    said = (
        r"at least \d+\.\d MB \(3\.\d MB for weights, .* for a batch, .*\), but 3\.5 MB of memory"
    )
    refused = pytest.raises(DeviceError, match=said) if left < 9_000_000 else nullcontext()
    with refused as ended:
        check(given, search=(tmp_path,))
    if ended is not None:
        assert "`calibration.batch`" in ended.value.hint
