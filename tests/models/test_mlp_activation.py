"""What is between producers and consumer, against the sublayer as it computes by itself."""

import pytest
import torch
from tiny import MODEL_TYPES, tiny
from tiny_encoder import tiny_encoder

from numprune_export.models.families import FAMILIES
from numprune_export.models.substitution import mlp_activation

ENCODERS = sorted(set(FAMILIES) - set(MODEL_TYPES))


@pytest.mark.parametrize("model_type", [*MODEL_TYPES, *ENCODERS])
def test_it_is_what_reaches_the_consumer(model_type):
    model = tiny(model_type) if model_type in MODEL_TYPES else tiny_encoder(model_type, "sequence")
    family = FAMILIES[model_type]
    (site,) = (sublayer for sublayer in family.sites(model) if sublayer.name == "layers.1.mlp")
    block = family.block_list(model)[1]
    parts, reached, outputs = dict(block.named_modules()), [], []
    consumer = block.get_submodule(site.consumer)
    handles = [consumer.register_forward_pre_hook(lambda _, inputs: reached.append(inputs[0]))]
    for producer in site.producers:
        layer = block.get_submodule(producer.path)
        handles.append(layer.register_forward_hook(lambda _, __, output: outputs.append(output)))
    with torch.no_grad():
        model(torch.randint(3, 97, (1, 5)))
    for handle in handles:
        handle.remove()

    with mlp_activation(block, site) as activation:
        made = activation([projection.reshape(5, -1) for projection in outputs])

    torch.testing.assert_close(made, reached[0].reshape(5, -1))
    assert dict(block.named_modules()) == parts


def test_attention_has_none_that_a_token_alone_could_tell():
    model, family = tiny(), FAMILIES["llama"]
    (site,) = (
        sublayer for sublayer in family.sites(model) if sublayer.name == "layers.1.attention"
    )
    with pytest.raises(AssertionError), mlp_activation(family.block_list(model)[1], site):
        pass
