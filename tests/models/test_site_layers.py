"""The layers of a site: which columns of the consumer belong to which units."""

import pytest
import torch
from tiny import MODEL_TYPES, tiny
from tiny_encoder import FAMILIES as ENCODERS
from tiny_encoder import tiny_encoder

from numprune_export.models.families import FAMILIES
from numprune_export.models.site_layers import SiteLayers
from numprune_export.pruning import rewrite


def layers_of(model_type, *, single=False):
    model = tiny_encoder(model_type) if model_type in ENCODERS else tiny(model_type)
    family = FAMILIES[model_type]
    if single:
        family = family.with_single_query_heads()
    blocks = family.block_list(model)
    return [SiteLayers(blocks[site.block], site) for site in family.sites(model)]


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_units_share_the_columns_of_the_consumer_and_none_is_left(model_type):
    for layers in layers_of(model_type):
        assert layers.width == layers.site.inputs == layers.consumer.in_features
        assert len(layers.producers) == len(layers.site.producers)
        units = [layers.columns((unit,)) for unit in range(layers.site.units)]
        assert torch.equal(torch.cat(units).sort().values, torch.arange(layers.width))


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_columns_are_in_the_order_that_cut_producers_give(model_type, single):
    """The rows that stay of the first producer are those of the columns, one for one."""
    for layers in layers_of(model_type, single=single):
        site, kept = layers.site, tuple(range(1, layers.site.units))
        rows = layers.producers[0].weight.clone()
        columns = layers.columns(kept)
        rewrite.shrink_producers(layers.block, site, kept)
        assert torch.equal(layers.producers[0].weight, rows[columns])
