"""KV heads that serve different numbers of query heads: the same network, whoever runs it."""

import pytest
import torch
from tiny import MODEL_TYPES, single_query_heads, tiny
from transformers import DynamicCache, StaticCache

from numprune_export.calibration.statistics import Statistics
from numprune_export.models.families import DECODERS
from numprune_export.models.kv_cache import cache_argument
from numprune_export.pruning import apply, rewrite
from numprune_export.pruning.compensate.none import Nothing
from numprune_export.pruning.plan import Plan

TOKENS = torch.randint(3, 97, (2, 11), generator=torch.Generator().manual_seed(0))


def cut(model, family, attention):
    """Keep these query heads of each layer, and all channels."""
    sites = family.sites(model)
    kept = {
        site.name: attention[site.block] if site.kind == "attention" else tuple(range(site.units))
        for site in sites
    }
    return apply.one_shot(model, family, Plan(sites, kept), Nothing(), Statistics.of_nothing)


def groups(model):
    family = DECODERS[model.config.model_type]
    return [layer.groups for layer in family.decoder(model).layers]


def test_a_kv_head_goes_with_its_last_query_head_and_the_fullest_come_first():
    model = tiny()
    small = cut(
        model, DECODERS["llama"].with_single_query_heads(), [(0, 2, 3), (1, 3), (0, 4, 5, 6, 7)]
    )
    assert groups(small) == [(2, 1), (1, 1), (2, 2, 1)]
    rows = torch.cat(
        [model.model.layers[0].self_attn.k_proj.weight[head * 8 : head * 8 + 8] for head in (1, 0)]
    )
    assert torch.equal(small.model.layers[0].self_attn.k_proj.weight, rows)
    assert small.model.layers[1].self_attn.num_key_value_groups == 1
    assert not hasattr(small.model.layers[1].self_attn, "query_groups")


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_what_the_plan_says_is_gone_is_what_is_gone(model_type):
    family = DECODERS[model_type].with_single_query_heads()
    model = tiny(model_type)
    sites = family.sites(model)
    grouped = DECODERS[model_type].sites(model)
    assert [site.parameters for site in sites] == [site.parameters for site in grouped]
    plan = Plan(sites, {site.name: (0, 5, 7) for site in sites})
    small = apply.one_shot(model, family, plan, Nothing(), Statistics.of_nothing)
    gone = rewrite.parameter_count(model) - rewrite.parameter_count(small)
    assert gone == plan.prunable_parameters - plan.kept_parameters


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_pruned_twice_is_pruned_once(model_type):
    """Whatever family it is asked with: uneven groups have no other units than query heads."""
    family = DECODERS[model_type]
    model = tiny(model_type)
    first = cut(model, family.with_single_query_heads(), [(0, 1, 2, 6, 7), (0, 4, 5, 7), (3, 5, 6)])
    # Groups stand fullest first: [(0, 1), (6, 7), (2,)], [(4, 5), (0,), (7,)], [(3,), (5,), (6,)].
    twice = cut(first, family, [(0, 2, 3, 4), (1, 2), (1, 2)])
    once = cut(model, family.with_single_query_heads(), [(0, 2, 6, 7), (0, 5), (5, 6)])
    assert groups(twice) == groups(once)
    torch.testing.assert_close(twice(TOKENS).logits, once(TOKENS).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_every_attention_of_transformers_gives_the_same(model_type, attention):
    model = single_query_heads(model_type)
    expected = model(TOKENS).logits
    model.set_attn_implementation(attention)
    assert model.model.layers[0].self_attn.shared_config._attn_implementation == attention
    torch.testing.assert_close(model(TOKENS).logits, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_the_cache_holds_every_kv_head_once(model_type):
    model = single_query_heads(model_type)
    whole = model(TOKENS).logits
    cache = DynamicCache(config=model.config)
    model(TOKENS[:, :7], **{cache_argument(model): cache})
    second = model(TOKENS[:, 7:], **{cache_argument(model): cache})
    heads = [layer.keys.shape[1] for layer in cache.layers]
    assert heads == [layer.kv_heads for layer in DECODERS[model_type].decoder(model).layers]
    torch.testing.assert_close(second.logits, whole[:, 7:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("model_type", ["llama", "qwen3"])
def test_a_static_cache_works(model_type):
    model = single_query_heads(model_type)
    cache = StaticCache(config=model.config, max_cache_len=16)
    logits = model(TOKENS, **{cache_argument(model): cache}).logits
    torch.testing.assert_close(logits, model(TOKENS).logits, rtol=0, atol=1e-5)


def test_a_copy_is_a_model_of_its_own():
    model = single_query_heads()
    twin = rewrite.clone_sharing_parameters(model)
    twin.set_attn_implementation("eager")
    assert model.model.layers[0].self_attn.shared_config._attn_implementation == "sdpa"
    assert twin.model.layers[0].self_attn.shared_config is twin.config
