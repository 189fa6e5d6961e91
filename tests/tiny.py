"""Small random models of every family, built from a config: nothing is downloaded."""

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from numprune_export.calibration.statistics import Statistics
from numprune_export.models.families import DECODERS
from numprune_export.pruning import apply
from numprune_export.pruning.compensate.none import Nothing
from numprune_export.pruning.plan import Plan

MODEL_TYPES = sorted(DECODERS)


def tiny_config(model_type: str, **overrides):
    settings = {
        "vocab_size": 97,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 8,
        "max_position_embeddings": 128,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "tie_word_embeddings": False,
    }
    return AutoConfig.for_model(model_type, **(settings | overrides))


def tiny(model_type: str = "llama", seed: int = 0, **overrides) -> PreTrainedModel:
    """A three-layer model, fp32, in eval mode; weights large enough that every part matters."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(
        tiny_config(model_type, **overrides), attn_implementation="sdpa"
    )
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.normal_(1.0 if "norm" in name else 0.0, 0.2)
    return model.eval()


def shrink_by_hand(model: PreTrainedModel, groups: list[list[int]], channels: list[list[int]]):
    """Keep these KV groups and MLP channels of each layer, written without the code under test."""
    for block, heads, units in zip(model.model.layers, groups, channels, strict=True):
        attention, mlp = block.self_attn, block.mlp
        dim, rep = attention.head_dim, attention.num_key_value_groups
        rows = [g * dim + i for g in heads for i in range(dim)]
        wide = [g * rep * dim + i for g in heads for i in range(rep * dim)]
        for linear, keep in (
            (attention.q_proj, wide),
            (attention.k_proj, rows),
            (attention.v_proj, rows),
        ):
            _keep_rows(linear, keep)
        for linear in (mlp.gate_proj, mlp.up_proj):
            _keep_rows(linear, units)
        for linear, keep in ((attention.o_proj, wide), (mlp.down_proj, units)):
            linear.weight = torch.nn.Parameter(linear.weight[:, keep].detach().clone())
            linear.in_features = len(keep)
        mlp.intermediate_size = len(units)
    return model


def _keep_rows(linear: torch.nn.Linear, keep: list[int]) -> None:
    linear.weight = torch.nn.Parameter(linear.weight[keep].detach().clone())
    linear.out_features = len(keep)
    if linear.bias is not None:
        linear.bias = torch.nn.Parameter(linear.bias[keep].detach().clone())


def uneven(model_type: str = "llama", seed: int = 0, **overrides) -> PreTrainedModel:
    """A tiny model of at most three layers, all of different widths."""
    model = tiny(model_type, seed, **overrides)
    layers = model.config.num_hidden_layers
    return shrink_by_hand(
        model,
        groups=[[0, 2, 3], [1], [0, 3]][:layers],
        channels=[list(range(0, 96, 2)), list(range(17)), [0, 5, *range(40, 90)]][:layers],
    )


QUERY_HEADS = ((0, 1, 2, 6, 7), (0, 4, 5, 7), (3, 5))
"""What three layers keep of eight query heads on four KV heads: of no KV head all, of some none."""


def single_query_heads(
    model_type: str = "llama", seed: int = 0, kept=QUERY_HEADS, **overrides
) -> PreTrainedModel:
    """A tiny model whose KV heads have lost some query heads, each its own number, and one all."""
    model = tiny(model_type, seed, **overrides)
    family = DECODERS[model_type].with_single_query_heads()
    sites = family.sites(model)
    plan = Plan(
        sites,
        {
            site.name: kept[site.block] if site.kind == "attention" else tuple(range(9))
            for site in sites
        },
    )
    return apply.one_shot(model, family, plan, Nothing(), Statistics.of_nothing)
